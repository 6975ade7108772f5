"""New studies of images begin with the prior trials that come with the program."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from optuna_deepweeds import attributes
from optuna_deepweeds.priors import SHIPPED, n_imported, read_shipped
from optuna_deepweeds.spaces import COURSE
from optuna_deepweeds.spaces.load import to_data
from optuna_deepweeds.studies import informants, manager
from optuna_deepweeds.studies.spec import Budget, StudySpec
from optuna_deepweeds.studies.storage import open_storage
from optuna_deepweeds.studies.warm_start import add_shipped, shipped_priors
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


def test_what_is_shipped_of_the_same_images_comes_first_and_with_its_curves(
    command: Command,
) -> None:
    spec = StudySpec("deepweeds-balanced", "modern-small")
    priors = shipped_priors(spec)
    own = [row for row in priors if row.dataset == spec.dataset]
    assert 16 <= len(own) < len(priors)
    assert [row for row in priors if row.curve] == own
    study, _ = manager.create("weeds", spec, Budget(trials=9), open_storage())
    add_shipped(study, priors)
    enqueued = [trial.system_attrs["fixed_params"] for trial in study.trials]
    assert len(enqueued) == 4 and all(params in [row.params for row in own] for params in enqueued)
    # Of the better half of these, who was ahead early came to less.
    assert manager.equip(study).pruner.misleading(study)


def test_whoever_has_other_plans_gets_none(command: Command) -> None:
    Path("own.csv").write_text("state,value,metric,direction\ncomplete,0.5,accuracy,maximize\n")
    for options in (("--no-shipped-priors",), ("--priors", "own.csv")):
        dry = command(*RUN, *options, "--dry-run")
        assert dry.code == 0 and "shipped" not in dry.err
    assert "shipped" in command(*RUN, "--dry-run").err
    spec = StudySpec("demo", "course")
    assert shipped_priors(spec)
    own = to_data(COURSE)
    for other in (
        {"sampler": "random"},
        {"space_data": own},
        {"kind": "script", "space": "course"},
    ):
        assert shipped_priors(replace(spec, **other)) == []


def test_what_is_shipped_and_was_trained_to_the_end_can_be_read() -> None:
    rows = read_shipped()
    assert all(row.metric == "accuracy" and row.dataset and row.epochs for row in rows)
    assert not any(row.problem for row in rows)
    text = "".join(path.read_text() for path in SHIPPED.glob("*.csv"))
    assert 0 < len(rows) == text.count(",complete,")


def test_what_an_experiment_compares_begins_with_none(command: Command) -> None:
    Path("grid.toml").write_text(
        'name = "e"\ndataset = "demo"\nspace = "course-small"\nepochs = 1\nsamplers = ["rf_ei"]\n'
        'pruners = ["none"]\nseeds = [1]\ntrials = 1\n'
    )
    assert command("experiment", "run", "grid.toml").code == 0
    study = manager.find("e-rf_ei-none-seed1", None)
    assert informants.companion(study) is None and len(study.trials) == 1
