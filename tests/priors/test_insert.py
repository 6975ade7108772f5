"""Importing into a study: once, in its metric and direction, without disturbing it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from optuna_deepweeds import attributes
from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.priors import (
    ImportSummary,
    PriorTrial,
    import_priors,
    n_imported,
    read_priors,
    read_study,
)
from optuna_deepweeds.spaces import SPACES
from tests.priors.test_match import prior

COURSE = SPACES["course"]


@dataclass
class Pair:
    """A study over the course space and its companion."""

    study: optuna.Study
    companion: optuna.Study

    def take(self, priors: Sequence[PriorTrial], **options: Any) -> ImportSummary:
        return import_priors(self.study, self.companion, COURSE, priors, **options)


def pair(direction: Literal["maximize", "minimize"] = "maximize") -> Pair:
    sampler = optuna.samplers.RandomSampler(0)
    return Pair(
        optuna.create_study(direction=direction, sampler=sampler),
        optuna.create_study(direction=direction),
    )


def counts(summary: ImportSummary) -> tuple[int, int, int]:
    return len(summary.added), len(summary.enqueued), summary.n_present


def rows() -> list[PriorTrial]:
    sizes_and_values = {8: 0.3, 16: 0.6, 32: 0.5, 64: 0.6}
    return [
        prior(value, f"line {line}", batch_size=size)
        for line, (size, value) in enumerate(sizes_and_values.items(), 2)
    ]


def test_published_priors_are_imported_once(course_file: Path) -> None:
    both = pair()
    priors = read_priors(course_file)
    assert counts(both.take(priors, enqueue_best=3, max_epochs=20)) == (75, 3, 0)
    assert counts(both.take(priors, enqueue_best=3, max_epochs=20)) == (0, 0, 75)
    assert [t.state for t in both.study.trials] == [TrialState.WAITING] * 3
    assert [t.state for t in both.companion.trials] == [TrialState.COMPLETE] * 75
    assert all(0.1 < t.value < 0.6 for t in both.companion.trials if t.value is not None)


def test_error_becomes_accuracy_and_back() -> None:
    error = replace(prior(0.25), direction="minimize", metric="error", curve={1: 0.5, 20: 0.25})
    both, minimizing = pair(), pair("minimize")
    both.take([error])
    (trial,) = both.companion.trials
    assert trial.value == 0.75 and trial.intermediate_values == {1: 0.5, 20: 0.75}
    minimizing.take([error, prior(0.25, batch_size=7)])
    assert [t.value for t in minimizing.companion.trials] == [0.25, 0.75]


def test_best_are_enqueued_once_and_run_with_their_parameters() -> None:
    both = pair()
    for _ in range(2):
        both.take(rows(), enqueue_best=2)
    assert (len(both.study.trials), len(both.companion.trials)) == (2, 4)
    both.study.optimize(lambda trial: float(COURSE.suggest(trial)["batch_size"]), n_trials=2)
    assert [t.params["batch_size"] for t in both.study.trials] == [16, 64]
    assert counts(both.take(rows(), enqueue_best=2)) == (0, 0, 4)


def test_import_that_was_cut_off_is_completed() -> None:
    both = pair()

    def die(study: optuna.Study, trials: Sequence[FrozenTrial]) -> None:
        study.add_trials(trials[:1])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        both.take(rows(), enqueue_best=1, add=die)
    assert counts(both.take(rows(), enqueue_best=1)) == (3, 1, 1)
    assert n_imported(both.study.user_attrs) == 4


def test_a_row_comes_in_once_from_whatever_source() -> None:
    both, other = pair(), pair("minimize")
    assert counts(both.take([*rows(), *rows()])) == (4, 0, 4)
    assert counts(both.take([replace(row, source="runs (1)") for row in rows()])) == (0, 0, 4)
    other.take(rows())
    other.companion.set_metric_names(["error"])
    assert counts(both.take(read_study(other.companion))) == (0, 0, 4)
    assert [t.params["batch_size"] for t in both.companion.trials] == [8, 16, 32, 64]


def test_no_mark_of_a_pruner_is_taken_along() -> None:
    donor = optuna.create_study(
        direction="maximize", pruner=optuna.pruners.SuccessiveHalvingPruner()
    )
    donor.set_metric_names(["accuracy"])

    def objective(trial: optuna.Trial) -> float:
        COURSE.suggest(trial)
        for epoch in range(1, 5):
            trial.report(0.9, epoch)
            trial.should_prune()
        return 0.9

    donor.optimize(objective, n_trials=2)
    assert any(t.system_attrs for t in donor.trials)
    both = pair()
    both.take(read_study(donor))
    assert len(both.companion.trials) == 2
    assert not any(t.system_attrs for t in both.companion.trials)


def test_summary_counts_and_stays_in_the_study_by_source() -> None:
    both = pair()
    bad = replace(prior(0.5, "line 9", batch_size=5000, gpu="a"), source="b")
    lines = both.take([*rows(), bad], enqueue_best=1).lines()
    assert lines[0] == "5 prior trials read: 4 added, 1 enqueued, 1 dropped."
    assert lines[1] == "  dropped 1: batch_size must be a whole number from 1 to 1000 (line 9)"
    assert "gpu (1)" in lines[2]
    again = both.take([*rows(), bad], enqueue_best=1).lines()
    assert again[0] == "5 prior trials read: 0 added, 0 enqueued, 4 already there, 1 dropped."
    record = both.study.user_attrs[attributes.PRIOR_SUMMARY]
    found = {s: (e["read"], e["added"], e["enqueued"], e["dropped"]) for s, e in record.items()}
    rule = "batch_size must be a whole number from 1 to 1000"
    assert found == {"runs": (4, 4, 1, {}), "b": (1, 0, 0, {rule: 1})}


def test_negative_count_is_refused_and_no_priors_are_fine() -> None:
    both = pair()
    with pytest.raises(InvalidInputError, match="enqueue_best >= 0"):
        both.take(rows(), enqueue_best=-1)
    assert not both.study.trials and not both.companion.trials
    assert both.take([]).lines() == ["0 prior trials read: 0 added, 0 enqueued, 0 dropped."]
