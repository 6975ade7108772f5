"""New studies of images begin with the prior trials that come with the program."""

from __future__ import annotations

from pathlib import Path

import pytest

from optuna_deepweeds import attributes
from optuna_deepweeds.priors import n_imported, read_shipped
from optuna_deepweeds.studies import informants, manager
from tests.cli.conftest import Command

RUN = ("study", "run", "mine", "--dataset", "demo", "--space", "course")


def test_a_new_study_trains_some_first_and_learns_from_all(command: Command) -> None:
    limits = ("--epochs", "1", "--pruner", "none", "--trials")
    done = command(*RUN, *limits, "1")
    assert done.code == 0
    study = manager.find("mine", None)
    companion = informants.companion(study)
    assert companion is not None
    n = n_imported(study.user_attrs)
    assert f"{n} shipped trials (deepweeds-balanced) inform the sampler, 4" in done.err
    assert n == len(companion.trials) > 20
    first, *waiting = study.trials
    known = [trial.params for trial in companion.trials]
    assert first.params in known and attributes.ENQUEUED_PRIOR in first.user_attrs
    assert len(waiting) == 3
    again = command(*RUN, *limits, "2")
    assert "shipped" not in again.err
    assert len(manager.find("mine", None).trials) == 4 and len(companion.trials) == n


@pytest.mark.parametrize(
    "options",
    [
        ("--no-shipped-priors",),
        ("--sampler", "random"),
        ("--priors", "own.csv"),
        ("--space", "own.py:SPACE"),
    ],
    ids=" ".join,
)
def test_whoever_has_other_plans_gets_none(command: Command, options: tuple[str, ...]) -> None:
    Path("own.csv").write_text("state,value,metric,direction\ncomplete,0.5,accuracy,maximize\n")
    Path("own.py").write_text("from optuna_deepweeds.spaces import COURSE as SPACE\n")
    dry = command(*RUN, *options, "--dry-run")
    assert dry.code == 0 and "shipped" not in dry.err
    assert "shipped" in command(*RUN, "--dry-run").err


def test_what_is_shipped_can_be_read_and_says_what_it_is() -> None:
    rows = read_shipped()
    assert rows and all(row.metric == "accuracy" and row.dataset and row.epochs for row in rows)
