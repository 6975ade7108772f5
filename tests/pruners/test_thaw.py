"""Pausing and continuing: quotas, the first leader, and what may be continued."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState, create_trial

from optuna_deepweeds.attributes import ANTICIPATION, ENQUEUED_PRIOR, INHERITED, ORIGIN, ROOT
from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.pruners import DoraPruner
from optuna_deepweeds.pruners.history import Histories
from optuna_deepweeds.trials import replaced
from tests.pruners.contract import MAX_RESOURCE, new_study, random_curves, started
from tests.pruners.workers import Workers


def thaw_study(
    curves: np.ndarray, n: int, *, direction: str = "maximize", **options: Any
) -> tuple[Study, Workers]:
    """A study after `n` trials of one worker."""
    study = new_study(DoraPruner(max_resource=MAX_RESOURCE, thaw=True, **options), direction)
    worker = Workers(curves, study)
    worker.run(n)
    return study, worker


def level(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Curves that stay at these values."""
    return np.repeat(np.asarray(values)[:, None], MAX_RESOURCE, axis=1)


def next_one(study: Study, *, is_closing: bool = False) -> FrozenTrial | None:
    return study.pruner.next_continuation(study, is_closing=is_closing)


def promising(study: Study, k: int = 50) -> list[int]:
    return study.pruner.promising(study, k)


def completed(study: Study) -> list[FrozenTrial]:
    return [t for t in study.trials if t.state == TrialState.COMPLETE]


def test_every_new_trial_pauses_at_the_first_rung() -> None:
    study, _ = thaw_study(random_curves(3), 3)
    assert [t.state for t in study.trials] == [TrialState.PRUNED] * 3
    assert [max(t.intermediate_values) for t in study.trials] == [1, 1, 1]
    assert {t.user_attrs[ANTICIPATION]["decision"] for t in study.trials} == {"pause"}


def test_paused_trial_goes_on_when_enough_others_are_below_it() -> None:
    study, _ = thaw_study(level([0.5, 0.4, 0.3, 0.2, 0.1]), 4)
    # The fourth result opens the quota of a quarter for one: the best, which is the first.
    parent = next_one(study)
    assert len(study.trials) == 4 and parent is not None and parent.number == 0


def test_trial_that_is_the_best_itself_goes_on_without_a_pause() -> None:
    study, _ = thaw_study(level([0.1, 0.2, 0.3, 0.4]), 4)
    assert max(study.trials[3].intermediate_values) == 3  # to the next rung, and paused there


def test_no_epoch_is_trained_twice_and_no_checkpoint_claimed_twice() -> None:
    study, worker = thaw_study(random_curves(200), 150)
    origins = Counter(t.user_attrs[ORIGIN] for t in study.trials if ORIGIN in t.user_attrs)
    assert origins and set(origins.values()) == {1}
    for trial in study.trials:
        if inherited := trial.user_attrs.get(INHERITED, 0):
            assert max(study.trials[trial.user_attrs[ORIGIN]].intermediate_values) == inherited
        expected = worker.curves[worker.rows[trial.number]]
        for step, value in trial.intermediate_values.items():
            assert value == expected[step - 1]


def test_continuation_replaces_its_origin_at_the_rungs() -> None:
    study, worker = thaw_study(random_curves(200), 120)
    with Histories([1, MAX_RESOURCE]).of(study) as history:
        numbers = set(history.field()[0].numbers.tolist())
    assert len(numbers) == worker.n_configurations
    assert not replaced(study.trials) & numbers


def test_first_leader_reaches_the_end_soon_and_alone() -> None:
    study, worker = thaw_study(random_curves(60), 0)
    while not completed(study):
        worker.run()
    assert worker.n_configurations == 5  # half of MAX_RESOURCE, rounded up
    assert len(completed(study)) == 1


def test_trials_pause_alike_whatever_the_direction() -> None:
    curves = random_curves(100, seed=2)
    origins, mirrored = (
        [t.user_attrs.get(ORIGIN) for t in thaw_study(c, 80, direction=direction)[0].trials]
        for c, direction in ((curves, "maximize"), (-curves, "minimize"))
    )
    assert origins == mirrored
    assert any(origin is not None for origin in origins)


def test_trial_without_checkpoint_is_passed_over() -> None:
    study, _ = thaw_study(
        level(np.linspace(0.9, 0.1, 8)),
        9,
        is_continuable=lambda trial: trial.number != 0,
    )
    assert 0 not in replaced(study.trials)
    assert 1 in replaced(study.trials)


def test_diverged_trials_are_never_continued() -> None:
    curves = level(np.linspace(0.9, 0.1, 8))
    curves[0, 0] = np.nan
    study, _ = thaw_study(curves, 6)
    assert 0 not in replaced(study.trials)
    assert promising(study)
    assert 0 not in promising(study)


def test_promising_names_the_paused_trials_that_come_next() -> None:
    study, worker = thaw_study(random_curves(100), 60)
    assert len(promising(study, 5)) == 5
    assert not set(promising(study, 5)) & replaced(study.trials)
    for _ in range(10):
        parent = next_one(study)
        assert parent is None or parent.number in promising(study, 5)
        worker.run()


def test_without_thaw_nothing_is_continued() -> None:
    study = new_study(DoraPruner(max_resource=MAX_RESOURCE))
    study.tell(started(study, 0.5), state=TrialState.PRUNED)
    assert next_one(study) is None
    assert promising(study) == []


def test_a_loop_that_continues_nothing_is_told_so_at_its_first_report() -> None:
    study, _ = thaw_study(random_curves(1), 0)
    with pytest.raises(InvalidInputError, match="`next_continuation.*Leave `thaw` out there"):
        study.optimize(lambda trial: [trial.report(0.5, 1), trial.should_prune()][1], n_trials=9)
    assert len(study.trials) == 1


def test_chain_keeps_its_root() -> None:
    study, worker = thaw_study(level(np.linspace(0.9, 0.1, 40)), 0)
    # The first leader is the best of those that have been continued to step 3 already.
    while not completed(study):
        worker.run()
    continued = {t.number: t for t in study.trials if ORIGIN in t.user_attrs}
    chained = [t for t in continued.values() if t.user_attrs[ORIGIN] in continued]
    assert chained
    for trial in chained:
        assert trial.user_attrs[ROOT] == continued[trial.user_attrs[ORIGIN]].user_attrs[ROOT]


def test_short_study_finishes_more_than_its_first_leader() -> None:
    study, _ = thaw_study(random_curves(26), 26)
    assert len(completed(study)) >= 2


def test_closing_study_finishes_its_best_trial_however_few_there_are() -> None:
    study, worker = thaw_study(level([0.5, 0.7, 0.6]), 3)
    assert next_one(study) is None
    while next_one(study, is_closing=True) is not None:
        worker.run(is_closing=True)
    assert [trial.user_attrs[ROOT] for trial in completed(study)] == [1]


def test_closing_study_goes_on_with_what_is_ahead_of_all_that_finished() -> None:
    study, _ = thaw_study(level([0.5, 0.7]), 2)

    def finish(value: float) -> None:
        study.tell(started(study, *[value] * MAX_RESOURCE), value)

    finish(0.1)
    assert next_one(study) is None
    parent = next_one(study, is_closing=True)
    assert parent is not None and parent.number == 1
    finish(0.8)
    assert next_one(study, is_closing=True) is None


def test_one_lucky_report_does_not_lead_for_ever() -> None:
    study, _ = thaw_study(random_curves(1), 0, is_continuable=lambda trial: True)
    for curve in ([0.5, 0.5, 0.5, 0.9], [0.5, 0.5, 0.75, 0.75]):
        trial = started(study, *curve)
        trial.should_prune()
        study.tell(trial, state=TrialState.PRUNED)
    # Ranked by the mean of steps 3 and 4.
    assert promising(study) == [1, 0]


def test_trials_that_an_earlier_version_paused_elsewhere_are_continued() -> None:
    study, _ = thaw_study(level([0.1] * 9), 0, is_continuable=lambda trial: True)
    for i in range(8):
        study.add_trial(
            create_trial(
                state=TrialState.PRUNED,
                intermediate_values={1: 0.1, 2: 0.1 * i, 3: 0.1 * i},
                system_attrs={"deepweeds:rung:1": 0.1, "deepweeds:rung:3": 0.1 * i},
            )
        )
    parent = next_one(study)
    assert parent is not None and parent.number == 7


def test_trials_paused_at_a_rung_that_misled_go_on_before_new_ones() -> None:
    finals = np.random.default_rng(0).permutation(np.linspace(0.2, 0.8, 200))
    curves = level(finals)
    curves[:, :1] = 1 - curves[:, :1]  # the best look worst at the first step
    study, worker = thaw_study(curves, 150)
    seen = np.sort(finals[: worker.n_configurations])
    assert study.best_value >= seen[-len(seen) // 20]  # among the best twentieth
    # Nobody is left at the first rung, where only the order at the second is asked for.
    left = set(worker.rows) - replaced(study.trials)
    assert sum(max(study.trials[n].intermediate_values) == 1 for n in left) <= 1


def test_trainings_of_one_step_leave_nothing_to_pause() -> None:
    study = new_study(DoraPruner(max_resource=1, thaw=True))
    assert next_one(study) is None
    trial = started(study, 0.5)
    assert not trial.should_prune()
    study.tell(trial, 0.5)
    assert next_one(study) is None and next_one(study, is_closing=True) is None


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
@pytest.mark.parametrize("is_misled", [False, True])
def test_a_rung_that_misled_earlier_trainings_is_passed(direction: str, is_misled: bool) -> None:
    sign = 1 if direction == "maximize" else -1
    ends = np.linspace(0.5, 0.9, 20)
    firsts = 0.3 - 0.1 * ends if is_misled else 0.1 * ends
    curves = zip(sign * firsts, sign * ends, strict=True)
    earlier = [{1: first, 3: end, MAX_RESOURCE: end} for first, end in curves]
    study, _ = thaw_study(sign * random_curves(3), 3, direction=direction, earlier=earlier)
    assert study.pruner.misleading(study) == [1] * is_misled
    assert [max(t.intermediate_values) for t in study.trials] == [3 if is_misled else 1] * 3


def test_priors_are_trained_to_the_end_until_something_has_been() -> None:
    study = new_study(DoraPruner(max_resource=MAX_RESOURCE, thaw=True))
    for _ in range(2):
        study.enqueue_trial({"x": 0.5}, user_attrs={ENQUEUED_PRIOR: "row"})
    Workers(level([0.1, 0.2, 0.3]), study).run(3)
    assert [max(t.intermediate_values) for t in study.trials] == [MAX_RESOURCE, 1, 1]
