"""Pausing and continuing: quotas, the first leader, and what may be continued."""

from __future__ import annotations

import pickle
from collections import Counter

import numpy as np
import pytest
from optuna.study import Study
from optuna.trial import TrialState

from optuna_deepweeds.attributes import ANTICIPATION, INHERITED, ORIGIN, ROOT
from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.pruners import DoraPruner
from optuna_deepweeds.pruners.rungs import n_promoted, promotion_rates
from optuna_deepweeds.studies.resume import continue_trial
from optuna_deepweeds.trials import replaced
from tests.pruners.contract import new_study, random_curves

LENGTH = 9


def thaw_study(direction: str = "maximize", **options: object) -> Study:
    return new_study(DoraPruner(max_resource=LENGTH, thaw=True, **options), direction)  # type: ignore[arg-type]


def step_worker(study: Study, curves: np.ndarray, rows: dict[int, int]) -> int:
    """What a worker does once: continue or start a trial, train it until told to stop.

    Args:
        rows: row of `curves` of each trial by number; new trials take the next free row.

    Returns:
        Number of the trial.
    """
    pruner = study.pruner
    assert isinstance(pruner, DoraPruner)
    parent = pruner.next_continuation(study)
    if parent is not None:
        continue_trial(study, parent)
    trial = study.ask()
    frozen = study.trials[trial.number]
    row = rows[parent.number] if parent is not None else len(set(rows.values()))
    rows[trial.number] = row
    for step in range(max(frozen.intermediate_values, default=0) + 1, LENGTH + 1):
        trial.report(float(curves[row, step - 1]), step)
        if step < LENGTH and trial.should_prune():
            study.tell(trial, state=TrialState.PRUNED)
            return trial.number
    study.tell(trial, float(curves[row, -1]))
    return trial.number


def run_worker(study: Study, curves: np.ndarray, n: int) -> dict[int, int]:
    rows: dict[int, int] = {}
    for _ in range(n):
        step_worker(study, curves, rows)
    return rows


def test_every_new_trial_pauses_at_the_first_rung() -> None:
    study = thaw_study()
    run_worker(study, random_curves(3), 3)
    assert [t.state for t in study.trials] == [TrialState.PRUNED] * 3
    assert [max(t.intermediate_values) for t in study.trials] == [1, 1, 1]
    assert {t.user_attrs[ANTICIPATION]["decision"] for t in study.trials} == {"pause"}


def test_paused_trial_goes_on_when_enough_others_are_below_it() -> None:
    study = thaw_study(first_share=0.25)
    curves = np.array([[0.5] * 9, [0.4] * 9, [0.3] * 9, [0.2] * 9, [0.1] * 9])
    run_worker(study, curves, 4)
    trial = study.trials[-1]
    # The fourth result opens the quota of a quarter for one: the best, which is the first.
    parent = study.pruner.next_continuation(study)
    assert trial.number == 3 and parent is not None and parent.number == 0


def test_trial_that_is_the_best_itself_goes_on_without_a_pause() -> None:
    study = thaw_study(first_share=0.25)
    curves = np.array([[0.1] * 9, [0.2] * 9, [0.3] * 9, [0.4] * 9])
    run_worker(study, curves, 4)
    last = study.trials[3]
    assert max(last.intermediate_values) == 3  # on to the next rung, and paused there


def test_no_epoch_is_trained_twice_and_no_checkpoint_claimed_twice() -> None:
    study = thaw_study()
    curves = random_curves(200)
    rows = run_worker(study, curves, 150)
    origins = Counter(t.user_attrs[ORIGIN] for t in study.trials if ORIGIN in t.user_attrs)
    assert origins and set(origins.values()) == {1}
    for trial in study.trials:
        inherited = trial.user_attrs.get(INHERITED, 0)
        if inherited:
            assert max(study.trials[trial.user_attrs[ORIGIN]].intermediate_values) == inherited
        expected = curves[rows[trial.number]]
        for step, value in trial.intermediate_values.items():
            assert value == expected[step - 1]


def test_continuation_replaces_its_origin_at_the_rungs() -> None:
    study = thaw_study()
    rows = run_worker(study, random_curves(200), 120)
    with study.pruner._histories.of(study) as history:
        values = dict(history.values[1].by_number)
    assert len(values) == len(set(rows.values()))
    assert not replaced(study.trials) & set(values)


def test_first_leader_reaches_the_end_soon_and_alone() -> None:
    study = thaw_study()
    n = 0
    rows: dict[int, int] = {}
    curves = random_curves(60)
    while not any(t.state == TrialState.COMPLETE for t in study.trials):
        step_worker(study, curves, rows)
        n += 1
        assert n < 30
    assert len(set(rows.values())) == 12
    complete = [t for t in study.trials if t.state == TrialState.COMPLETE]
    assert len(complete) == 1


def test_several_workers_send_one_leader_from_eight_results_on() -> None:
    study = thaw_study()
    curves = np.repeat(np.linspace(0.9, 0.1, 12)[:, None], LENGTH, axis=1)
    rows: dict[int, int] = {}
    # Two results at step 3 are all that the quota of eight lets through.
    while len(set(rows.values())) < 8 or study.pruner.next_continuation(study) is not None:
        step_worker(study, curves, rows)
    running = [study.ask() for _ in range(3)]  # three more workers, at work on new trials
    leader = study.pruner.next_continuation(study)
    assert leader is not None and max(leader.intermediate_values) == 3
    continue_trial(study, leader)
    # One leader at a time: while it waits for its worker, others start new trials.
    assert study.pruner.next_continuation(study) is None
    for trial in running:
        study.tell(trial, state=TrialState.FAIL)


def test_trials_pause_alike_whatever_the_direction() -> None:
    origins = []
    for direction, sign in (("maximize", 1), ("minimize", -1)):
        study = thaw_study(direction)
        run_worker(study, sign * random_curves(100, seed=2), 80)
        origins.append([t.user_attrs.get(ORIGIN) for t in study.trials])
    assert origins[0] == origins[1]
    assert any(origin is not None for origin in origins[0])


def test_a_fresh_pruner_for_each_question_continues_alike() -> None:
    histories = []
    for is_fresh in (False, True):
        study = thaw_study()
        curves, rows = random_curves(80, seed=4), {}
        for _ in range(60):
            if is_fresh:
                study.pruner = pickle.loads(pickle.dumps(study.pruner))
            step_worker(study, curves, rows)
        histories.append([(t.user_attrs.get(ORIGIN), t.intermediate_values) for t in study.trials])
    assert histories[0] == histories[1]


def test_trial_without_checkpoint_is_passed_over() -> None:
    study = thaw_study(is_continuable=lambda trial: trial.number != 0, first_share=0.25)
    curves = np.repeat(np.linspace(0.9, 0.1, 8)[:, None], LENGTH, axis=1)
    run_worker(study, curves, 9)
    assert 0 not in replaced(study.trials)
    assert 1 in replaced(study.trials)


def test_diverged_and_imported_trials_are_never_continued() -> None:
    study = thaw_study()
    curves = np.repeat(np.linspace(0.9, 0.1, 8)[:, None], LENGTH, axis=1)
    curves[0, 0] = np.nan
    rows = run_worker(study, curves, 6)
    assert 0 not in replaced(study.trials)
    assert study.pruner.promising(study, 50)
    assert 0 not in study.pruner.promising(study, 50)
    assert rows


def test_promising_names_the_paused_trials_that_come_next() -> None:
    study = thaw_study()
    rows = run_worker(study, random_curves(100), 60)
    promising = study.pruner.promising(study, 5)
    assert len(promising) == 5
    assert not set(promising) & replaced(study.trials)
    for _ in range(10):
        parent = study.pruner.next_continuation(study)
        if parent is not None:
            assert parent.number in study.pruner.promising(study, 5)
        step_worker(study, random_curves(100), rows)


def test_without_thaw_nothing_is_continued() -> None:
    study = new_study(DoraPruner(max_resource=LENGTH))
    trial = study.ask()
    trial.report(0.5, 1)
    study.tell(trial, state=TrialState.PRUNED)
    assert study.pruner.next_continuation(study) is None
    assert study.pruner.promising(study) == []


def test_a_loop_that_continues_nothing_is_told_so_at_its_first_report() -> None:
    study = thaw_study()
    with pytest.raises(InvalidInputError, match="`next_continuation.*Leave `thaw` out there"):
        study.optimize(lambda trial: [trial.report(0.5, 1), trial.should_prune()][1], n_trials=9)
    assert len(study.trials) == 1


def test_chain_keeps_its_root() -> None:
    study = thaw_study()
    curves = np.repeat(np.linspace(0.9, 0.1, 40)[:, None], LENGTH, axis=1)
    rows: dict[int, int] = {}
    # The first leader is the best of those that have been continued to step 3 already.
    while not any(t.state == TrialState.COMPLETE for t in study.trials):
        step_worker(study, curves, rows)
    chained = [
        t
        for t in study.trials
        if ORIGIN in t.user_attrs and ORIGIN in study.trials[t.user_attrs[ORIGIN]].user_attrs
    ]
    assert chained
    for trial in chained:
        assert trial.user_attrs[ROOT] == study.trials[trial.user_attrs[ORIGIN]].user_attrs[ROOT]


def test_quotas_give_every_upper_rung_equal_epochs() -> None:
    rungs, end = [1, 3, 9, 27], 50
    rates = promotion_rates(rungs, end, 0.25, 0.25)
    assert rates[0] == 0.25
    spans = np.diff([*rungs, end])[1:]
    assert np.array(rates[1:]) * spans == pytest.approx([0.25] * 3)


@pytest.mark.parametrize(
    ("rung", "share", "expected"),
    [(0, 0.9, 0), (0, 2.9, 2), (1, 0.4, 0), (1, 0.5, 1), (2, 0.99, 1), (2, 1.9, 1), (2, 3.0, 3)],
)
def test_first_promotion_of_an_upper_rung_comes_early(
    rung: int, share: float, expected: int
) -> None:
    assert n_promoted(rung, share) == expected


def test_short_study_finishes_more_than_its_first_leader() -> None:
    study = thaw_study()
    run_worker(study, random_curves(26), 26)
    assert sum(t.state == TrialState.COMPLETE for t in study.trials) >= 2


def test_closing_study_finishes_its_best_trial_however_few_there_are() -> None:
    study = thaw_study()
    curves = np.array([[0.5] * LENGTH, [0.7] * LENGTH, [0.6] * LENGTH])
    run_worker(study, curves, 3)
    pruner = study.pruner
    assert isinstance(pruner, DoraPruner)
    assert pruner.next_continuation(study) is None
    while (parent := pruner.next_continuation(study, is_closing=True)) is not None:
        continue_trial(study, parent)
        trial = study.ask()
        inherited = max(study.trials[trial.number].intermediate_values)
        for step in range(inherited + 1, LENGTH + 1):
            trial.report(0.7, step)
            if step < LENGTH and trial.should_prune():
                study.tell(trial, state=TrialState.PRUNED)
                break
        else:
            study.tell(trial, 0.7)
    complete = [t for t in study.trials if t.state == TrialState.COMPLETE]
    assert len(complete) == 1 and complete[0].user_attrs[ROOT] == 1


def test_closing_study_goes_on_with_what_is_ahead_of_all_that_finished() -> None:
    study = thaw_study()
    curves = np.array([[0.5] * LENGTH, [0.7] * LENGTH, [0.6] * LENGTH])
    run_worker(study, curves, 3)
    pruner = study.pruner
    assert isinstance(pruner, DoraPruner)

    def finish(value: float) -> None:
        trial = study.ask()
        for step in range(1, LENGTH + 1):
            trial.report(value, step)
        study.tell(trial, value)

    finish(0.1)
    assert pruner.next_continuation(study) is None
    parent = pruner.next_continuation(study, is_closing=True)
    assert parent is not None and parent.number == 1
    finish(0.8)
    assert pruner.next_continuation(study, is_closing=True) is None


def test_one_lucky_report_does_not_lead_for_ever() -> None:
    study = thaw_study(is_continuable=lambda trial: True)
    lucky = [0.5, 0.5, 0.9, *[0.5] * 6]
    steady = [0.5, 0.75, 0.75, *[0.75] * 6]
    for curve in (lucky, steady):
        trial = study.ask()
        for step in (1, 2, 3):
            trial.report(curve[step - 1], step)
        trial.should_prune()
        study.tell(trial, state=TrialState.PRUNED)
    # Ranked by the mean of steps 2 and 3.
    assert study.pruner.promising(study) == [1, 0]


def test_trials_paused_at_a_rung_that_misled_go_on_before_new_ones() -> None:
    study = thaw_study()
    finals = np.random.default_rng(0).permutation(np.linspace(0.2, 0.8, 200))
    curves = np.repeat(finals[:, None], LENGTH, axis=1)
    curves[:, :2] = 1 - curves[:, :2]  # the best look worst in the first two steps
    rows = run_worker(study, curves, 150)
    seen = np.sort(finals[sorted(set(rows.values()))])
    assert study.best_value >= seen[-len(seen) // 20]  # among the best twentieth
    # Nobody is left at the first rung, where only the order at step 3 is asked for.
    left = set(rows) - replaced(study.trials)
    assert sum(max(study.trials[n].intermediate_values) == 1 for n in left) <= 1
