"""Importing into a study: once, in its direction, without disturbing it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from optuna.search_space import intersection_search_space
from optuna.trial import FrozenTrial, TrialState

from optuna_deepweeds import attributes
from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.priors import PriorTrial, import_priors, read_priors, read_study
from optuna_deepweeds.spaces import SPACES
from tests.priors.test_matching import prior

COURSE = SPACES["course"]


@pytest.fixture
def study() -> optuna.Study:
    return optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(0))


def rows() -> list[PriorTrial]:
    values = (0.3, 0.6, 0.5, 0.6)
    sizes = (8, 16, 32, 64)
    return [
        prior(v, f"line {i}", batch_size=b)
        for i, (v, b) in enumerate(zip(values, sizes, strict=True), 2)
    ]


def test_published_priors_are_imported_once(course_file: Path, study: optuna.Study) -> None:
    priors = read_priors(course_file)
    first = import_priors(study, COURSE, priors, enqueue_best=3, max_epochs=20)
    assert (first.added, first.enqueued, first.present) == (72, 3, 0)
    second = import_priors(study, COURSE, priors, enqueue_best=3, max_epochs=20)
    assert (second.added, second.enqueued, second.present) == (0, 0, 75)
    states = [t.state for t in study.trials]
    assert states.count(TrialState.COMPLETE) == 72 and states.count(TrialState.WAITING) == 3
    assert all(0.1 < t.value < 0.6 for t in study.trials if t.value is not None)


def test_error_becomes_accuracy_and_back(study: optuna.Study) -> None:
    error = replace(prior(0.25), direction="minimize", metric="error", curve={1: 0.5, 20: 0.25})
    import_priors(study, COURSE, [error])
    (trial,) = study.trials
    assert trial.value == 0.75 and trial.intermediate_values == {1: 0.5, 20: 0.75}
    minimizing = optuna.create_study(direction="minimize")
    import_priors(minimizing, COURSE, [error, prior(0.25, batch_size=7)])
    assert [t.value for t in minimizing.trials] == [0.25, 0.75]


def test_metric_that_cannot_be_turned_is_dropped(study: optuna.Study) -> None:
    loss = replace(prior(2.5), direction="minimize", metric="loss")
    cost = replace(prior(2.5), direction="minimize", metric="error")
    summary = import_priors(study, COURSE, [loss, cost])
    assert summary.added == 0 and len(summary.dropped) == 2 and not study.trials


def test_best_are_enqueued_once_and_run_with_their_parameters(study: optuna.Study) -> None:
    import_priors(study, COURSE, rows(), enqueue_best=2)
    import_priors(study, COURSE, rows(), enqueue_best=2)
    assert len(study.trials) == 4
    study.optimize(lambda trial: float(COURSE.suggest(trial)["batch_size"]), n_trials=2)
    own = [t for t in study.trials if attributes.PRIOR not in t.user_attrs]
    assert [t.params["batch_size"] for t in own] == [16, 64]
    assert import_priors(study, COURSE, rows(), enqueue_best=2).enqueued == 0


def test_import_that_was_cut_off_is_completed(study: optuna.Study) -> None:
    def die(study: optuna.Study, trials: Sequence[FrozenTrial]) -> None:
        study.add_trials(trials[:1])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_priors(study, COURSE, rows(), enqueue_best=1, add=die)
    summary = import_priors(study, COURSE, rows(), enqueue_best=1)
    assert (summary.added, summary.enqueued, summary.present) == (2, 1, 1)
    assert len(study.trials) == 4


def test_rows_repeated_in_a_file_come_in_once(study: optuna.Study) -> None:
    summary = import_priors(study, COURSE, [*rows(), *rows()])
    assert summary.added == 4 and summary.present == 4


def test_same_row_by_way_of_another_study_is_recognised(study: optuna.Study) -> None:
    between = optuna.create_study(direction="minimize")
    import_priors(between, COURSE, rows())
    import_priors(study, COURSE, rows())
    summary = import_priors(study, COURSE, read_study(between))
    assert summary.added == 0 and summary.present == 4


def test_relative_search_space_stays_whole(study: optuna.Study) -> None:
    study.optimize(lambda trial: float(len(COURSE.suggest(trial))), n_trials=3)
    before = intersection_search_space(study.get_trials())
    narrow = prior(batch_size=8)
    import_priors(study, COURSE, [narrow])
    after = intersection_search_space(study.get_trials())
    always = {p.name for p in COURSE.parameters if p.condition is None}
    assert always <= set(after) <= set(before)


def test_priors_never_prune(study: optuna.Study) -> None:
    donor = optuna.create_study(
        direction="maximize", pruner=optuna.pruners.SuccessiveHalvingPruner()
    )

    def objective(trial: optuna.Trial) -> float:
        COURSE.suggest(trial)
        for epoch in range(1, 5):
            trial.report(0.9, epoch)
            trial.should_prune()
        return 0.9

    donor.optimize(objective, n_trials=2)
    assert any(t.system_attrs for t in donor.trials)
    import_priors(study, COURSE, read_study(donor))
    assert len(study.trials) == 2 and not any(t.system_attrs for t in study.trials)


def test_summary_counts_and_stays_in_the_study(study: optuna.Study) -> None:
    bad = prior(0.5, "line 9", batch_size=5000, gpu="a")
    lines = import_priors(study, COURSE, [*rows(), bad], enqueue_best=1).lines()
    assert lines[0] == "5 prior trials read: 3 added, 1 enqueued, 1 dropped."
    assert lines[1] == "  dropped 1: batch_size must be a whole number from 1 to 1000 (line 9)"
    assert "gpu (1)" in lines[2]
    import_priors(study, COURSE, [*rows(), bad], enqueue_best=1)
    (record,) = study.user_attrs[attributes.PRIOR_SUMMARY].values()
    assert (
        record["added"] == 3 and record["enqueued"] == 1 and sum(record["dropped"].values()) == 1
    )


def test_negative_count_is_refused_and_nothing_changes(study: optuna.Study) -> None:
    with pytest.raises(InvalidInputError, match="enqueue_best >= 0"):
        import_priors(study, COURSE, rows(), enqueue_best=-1)
    assert not study.trials


def test_no_priors_is_fine(study: optuna.Study) -> None:
    assert import_priors(study, COURSE, []).lines() == [
        "0 prior trials read: 0 added, 0 enqueued, 0 dropped."
    ]
