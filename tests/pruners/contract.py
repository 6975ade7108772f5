"""What every pruner owes, whatever its rule; a subclass supplies the fixture `make`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import optuna
import pytest
from optuna.pruners import BasePruner
from optuna.study import Study
from optuna.trial import TrialState, create_trial

Make = Callable[[], BasePruner]
MAX_RESOURCE = 9


def new_study(pruner: BasePruner, direction: str = "maximize") -> Study:
    return optuna.create_study(
        direction=direction, pruner=pruner, sampler=optuna.samplers.RandomSampler(seed=0)
    )


def run_trial(
    study: Study, reports: Mapping[int, float], final: float | None = None
) -> list[bool]:
    """Report in the given order, ask each time, tell the end; return the answers."""
    trial = study.ask()
    answers = []
    value = math.nan
    for step, value in reports.items():
        trial.report(value, step)
        answers.append(trial.should_prune())
        if answers[-1]:
            study.tell(trial, state=TrialState.PRUNED)
            return answers
    study.tell(trial, value if final is None else final)
    return answers


def random_curves(n: int, length: int = MAX_RESOURCE, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    ends = generator.normal(0.5, 0.2, size=(n, 1))
    steps = np.arange(1, length + 1)
    return ends * (1 - 0.6 * np.exp(-steps / 4)) + generator.normal(0, 0.01, (n, length))


class PrunerTestCase:
    """Behaviour of any pruner of a single-objective study."""

    is_strict_bool = True

    def test_keeps_a_trial_without_reports(self, make: Make) -> None:
        study = new_study(make())
        assert not study.ask().should_prune()

    def test_never_loses_the_first_trial_before_its_first_rung(self, make: Make) -> None:
        study = new_study(make())
        trial = study.ask()
        trial.report(0.5, 0)
        assert not trial.should_prune()

    @pytest.mark.parametrize("seed", range(3))
    def test_mirrored_values_give_mirrored_decisions(self, make: Make, seed: int) -> None:
        answers: dict[str, list[list[bool]]] = {}
        for direction, sign in (("maximize", 1.0), ("minimize", -1.0)):
            study = new_study(make(), direction)
            answers[direction] = [
                run_trial(study, {s + 1: float(sign * v) for s, v in enumerate(curve)})
                for curve in random_curves(40, seed=seed)
            ]
        assert answers["maximize"] == answers["minimize"]
        flat = [answer for trial in answers["maximize"] for answer in trial]
        assert any(flat) and not all(flat)

    def test_takes_a_bad_report_without_raising(self, make: Make) -> None:
        study = new_study(make())
        for curve in random_curves(8):
            run_trial(study, {s + 1: float(v) for s, v in enumerate(curve)})
        for bad in (math.nan, math.inf, -math.inf):
            trial = study.ask()
            for step in range(1, MAX_RESOURCE):
                trial.report(bad if step >= 2 else 0.5, step)
                assert trial.should_prune() in (True, False)
            study.tell(trial, state=TrialState.PRUNED)

    @pytest.mark.parametrize(
        "steps",
        [(0, 1, 2, 3, 4), (2, 4, 6, 8), (5, 6, 7), (3, 1, 2, 5, 4), (100, 200), (8,)],
        ids=str,
    )
    def test_takes_gaps_and_disorder_in_steps(self, make: Make, steps: tuple[int, ...]) -> None:
        study = new_study(make())
        for curve in random_curves(30):
            run_trial(study, {step: float(curve[i]) for i, step in enumerate(steps)})
        finished = [t for t in study.trials if t.state == TrialState.COMPLETE]
        assert finished, "some trial must get through"

    def test_takes_finished_trials_without_curves(self, make: Make) -> None:
        study = new_study(make())
        for value in (0.1, 0.9, 0.5, 0.7):
            study.add_trial(create_trial(value=value))
        for curve in random_curves(5):
            run_trial(study, {s + 1: float(v) for s, v in enumerate(curve)})

    def test_takes_failed_trials(self, make: Make) -> None:
        study = new_study(make())
        for curve in random_curves(10):
            trial = study.ask()
            trial.report(float(curve[0]), 1)
            trial.should_prune()
            study.tell(trial, state=TrialState.FAIL)
        run_trial(study, {s + 1: float(v) for s, v in enumerate(random_curves(1)[0])})

    def test_answers_with_a_bool(self, make: Make) -> None:
        study = new_study(make())
        kinds = set()
        for curve in random_curves(20):
            for answer in run_trial(study, {s + 1: float(v) for s, v in enumerate(curve)}):
                kinds.add(type(answer))
        assert kinds <= ({bool} if self.is_strict_bool else {bool, np.bool_})

    def test_same_question_has_the_same_answer(self, make: Make) -> None:
        study = new_study(make())
        for curve in random_curves(20):
            trial = study.ask()
            for step, value in enumerate(curve, start=1):
                trial.report(float(value), step)
                answer = trial.should_prune()
                assert trial.should_prune() == answer
                if answer:
                    break
            study.tell(trial, state=TrialState.PRUNED)
