from __future__ import annotations

from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from optuna_deepweeds import attributes
from optuna_deepweeds.samplers.encoding import MISSING
from optuna_deepweeds.samplers.history import History, Observations
from optuna_deepweeds.spaces import SearchSpace
from tests.samplers.problems import CONDITIONAL

X_RANGE: dict[str, BaseDistribution] = {"x": FloatDistribution(0, 1)}
ANY_RANGE = {
    **CONDITIONAL.distributions,
    "x": FloatDistribution(0, 1),
    "y": FloatDistribution(0, 1),
}


def _trial(
    params: float | dict[str, Any], value: float | None = None, **options: Any
) -> FrozenTrial:
    """A trial of these parameters; a number alone is x."""
    params = params if isinstance(params, dict) else {"x": params}
    ranges = {name: ANY_RANGE[name] for name in params}
    return create_trial(params=params, distributions=ranges, value=value, **options)


def _stopped(x: float, reports: dict[int, float], **options: Any) -> FrozenTrial:
    return _trial(x, state=TrialState.PRUNED, intermediate_values=reports, **options)


def _study(*trials: FrozenTrial, direction: str = "maximize") -> optuna.Study:
    study = optuna.create_study(direction=direction)
    study.add_trials(trials)
    return study


def _read(study: optuna.Study, space: SearchSpace | None = None) -> Observations:
    """What a new sampler sees, asked for one more trial."""
    study.ask()
    history = History(space)
    return history.read(study, study.trials[-1], history.distributions(study))


def _order(seen: Observations) -> list[float]:
    """The observed x, worst first."""
    return [float(x) for _, x in sorted(zip(seen.ranks, seen.X[:, 0], strict=True))]


@pytest.mark.parametrize(("direction", "sign"), [("maximize", 1.0), ("minimize", -1.0)])
def test_outcomes_are_ordered_from_failed_over_stopped_to_completed(
    direction: str, sign: float
) -> None:
    study = _study(
        _trial(0.5, sign * 5.0),
        _trial(0.4, sign * -4.0),
        _trial(0.0, state=TrialState.FAIL),
        _stopped(0.1, {1: sign * 99.0}),
        _stopped(0.2, {3: sign * 1.0, 1: sign * 50.0}),
        _stopped(0.3, {3: sign * 2.0}),
        direction=direction,
    )
    assert _order(_read(study)) == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]


FORESEEN = {attributes.ANTICIPATION: {"epoch": 1, "expected": 3.0}}
INTERRUPTED = {attributes.INTERRUPTED: True}
CASES: dict[str, tuple[list[FrozenTrial], list[float]]] = {
    "a stopped trial counts with the value that its pruner foresaw": (
        [_trial(0.2, 2.0), _stopped(0.3, {1: 0.0}, user_attrs=FORESEEN), _trial(0.4, 4.0)],
        [0.2, 0.3, 0.4],
    ),
    "infinite values keep their place": (
        [_trial(0.3, float("inf")), _trial(0.1, float("-inf")), _trial(0.2, 0.0)],
        [0.1, 0.2, 0.3],
    ),
    "an interrupted trial tells nothing": (
        [_trial(0.1, state=TrialState.FAIL, system_attrs=INTERRUPTED), _trial(0.2, 1.0)],
        [0.2],
    ),
    "one that failed before it suggested everything is left out": (
        [_trial({"x": 0.1, "y": 0.5}, 1.0), _trial(0.2, state=TrialState.FAIL)],
        [0.1],
    ),
    **{
        f"a stopped trial with {reports} is failed": (
            [_stopped(0.1, reports), _stopped(0.2, {1: -1e9})],
            [0.1, 0.2],
        )
        for reports in ({}, {1: float("nan")})
    },
    **{
        f"the successor takes the place of its {key}": (
            [_stopped(0.1, {1: 0.0}), _trial(0.1, 5.0, user_attrs={key: 0}), _trial(0.2, 1.0)],
            [0.2, 0.1],
        )
        for key in (attributes.ORIGIN, attributes.RETRY_OF)
    },
}


@pytest.mark.parametrize(("trials", "expected"), CASES.values(), ids=CASES)
def test_what_a_trial_counts_as(trials: list[FrozenTrial], expected: list[float]) -> None:
    assert _order(_read(_study(*trials))) == expected


def test_running_trials_are_pending_once_they_have_suggested() -> None:
    study = _study(_trial(0.1, 1.0))
    study.ask(X_RANGE)
    study.ask()
    seen = _read(study)
    assert len(seen.X) == 1
    assert len(seen.pending) == 1


def test_a_declared_space_drops_inactive_values_and_incomplete_trials() -> None:
    complete = {"n_layers": 1, "width_0": 8, "kind": "a"}
    study = _study(
        _trial({**complete, "width_1": 16}, 0.0),
        _trial({**complete, "n_layers": 2}, 0.0),
    )
    seen = _read(study, CONDITIONAL)
    assert len(seen.X) == 1
    assert seen.X[0, list(seen.encoder.names).index("width_1")] == MISSING


def test_reading_as_trials_arrive_equals_reading_all_at_once() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    history = History(None)
    open_trials = []
    for i in range(30):
        trial = study.ask()
        CONDITIONAL.suggest(trial)
        open_trials.append(trial)
        if i % 3 == 2:
            # Told out of order, one in three stays open for long.
            study.tell(open_trials.pop(), float(i))
            study.tell(open_trials.pop(0), float(-i))
        fresh = _read(study)
        seen = history.read(study, study.trials[-1], history.distributions(study))
        assert seen.encoder.names == fresh.encoder.names
        for field in ("X", "ranks", "values", "pending"):
            assert (getattr(seen, field) == getattr(fresh, field)).all(), field


def _ranged(high: int, **options: Any) -> FrozenTrial:
    return create_trial(params={"n": 1}, distributions={"n": IntDistribution(0, high)}, **options)


@pytest.mark.parametrize(
    ("trials", "expected"),
    [
        ([_ranged(4, value=0.0), _ranged(8, value=0.0)], {"n": IntDistribution(0, 8)}),
        ([_ranged(4, state=TrialState.FAIL)], {"n": IntDistribution(0, 4)}),
        ([_ranged(4, state=TrialState.FAIL), _trial(0.1, 1.0)], X_RANGE),
    ],
    ids=["the newest holds", "a failed trial's alone", "a failed trial's beside another's"],
)
def test_ranges_are_read_off_the_trials(
    trials: list[FrozenTrial], expected: dict[str, BaseDistribution]
) -> None:
    assert History(None).distributions(_study(*trials)) == expected
