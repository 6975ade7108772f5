from __future__ import annotations

import optuna
import pytest
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from optuna_deepweeds import attributes
from optuna_deepweeds.samplers.encoding import MISSING
from optuna_deepweeds.samplers.history import History, Observations
from tests.samplers.problems import CONDITIONAL

X_RANGE: dict[str, BaseDistribution] = {"x": FloatDistribution(0, 1)}


def _trial(x: float, value: float | None = None, **options: object) -> FrozenTrial:
    return create_trial(params={"x": x}, distributions=X_RANGE, value=value, **options)  # type: ignore[arg-type]


def _read(*trials: FrozenTrial, direction: str = "maximize") -> Observations:
    study = optuna.create_study(direction=direction)
    study.add_trials(list(trials))
    history = History(None)
    return history.read(study, _ask(study), history.distributions(study))


def _ask(study: optuna.Study) -> FrozenTrial:
    number = study.ask().number
    return study.get_trials()[number]


def _order(seen: Observations) -> list[float]:
    """The observed x, worst first."""
    return [float(x) for _, x in sorted(zip(seen.ranks, seen.X[:, 0], strict=True))]


@pytest.mark.parametrize(("direction", "sign"), [("maximize", 1.0), ("minimize", -1.0)])
def test_outcomes_are_ordered_from_failed_over_stopped_to_completed(
    direction: str, sign: float
) -> None:
    pruned = TrialState.PRUNED
    seen = _read(
        _trial(0.5, sign * 5.0),
        _trial(0.4, sign * -4.0),
        _trial(0.0, state=TrialState.FAIL),
        _trial(0.1, state=pruned, intermediate_values={1: sign * 99.0}),
        _trial(0.2, state=pruned, intermediate_values={3: sign * 1.0, 1: sign * 50.0}),
        _trial(0.3, state=pruned, intermediate_values={3: sign * 2.0}),
        direction=direction,
    )
    assert _order(seen) == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]


def test_a_pruned_trial_counts_with_the_value_its_pruner_foresaw() -> None:
    foreseen = {attributes.ANTICIPATION: {"epoch": 1, "expected": 3.0}}
    seen = _read(
        _trial(0.1, 1.0),
        _trial(0.2, 2.0),
        _trial(0.3, state=TrialState.PRUNED, intermediate_values={1: 0.0}, user_attrs=foreseen),
        _trial(0.4, 4.0),
    )
    assert _order(seen) == [0.1, 0.2, 0.3, 0.4]


@pytest.mark.parametrize("reported", [{}, {1: float("nan")}], ids=["no report", "not a number"])
def test_a_pruned_trial_without_a_number_counts_as_failed(reported: dict[int, float]) -> None:
    seen = _read(
        _trial(0.1, state=TrialState.PRUNED, intermediate_values=reported),
        _trial(0.2, state=TrialState.PRUNED, intermediate_values={1: -1e9}),
    )
    assert _order(seen) == [0.1, 0.2]


def test_infinite_values_keep_their_place() -> None:
    assert _order(
        _read(_trial(0.3, float("inf")), _trial(0.1, float("-inf")), _trial(0.2, 0.0))
    ) == [
        0.1,
        0.2,
        0.3,
    ]


def test_an_interrupted_trial_tells_nothing() -> None:
    interrupted = _trial(0.1, state=TrialState.FAIL, system_attrs={attributes.INTERRUPTED: True})
    assert _order(_read(interrupted, _trial(0.2, 1.0))) == [0.2]


@pytest.mark.parametrize("key", [attributes.ORIGIN, attributes.RETRY_OF])
def test_a_continued_or_repeated_trial_is_replaced_by_its_successor(key: str) -> None:
    seen = _read(
        _trial(0.1, state=TrialState.PRUNED, intermediate_values={1: 0.0}),
        _trial(0.1, 5.0, user_attrs={key: 0}),
        _trial(0.2, 1.0),
    )
    assert _order(seen) == [0.2, 0.1]


def test_running_trials_are_pending_once_they_have_suggested() -> None:
    study = optuna.create_study()
    study.add_trial(_trial(0.1, 1.0))
    study.ask(X_RANGE)
    study.ask()
    asking = _ask(study)
    history = History(None)
    seen = history.read(study, asking, history.distributions(study))
    assert len(seen.X) == 1
    assert len(seen.pending) == 1


def test_a_trial_that_failed_before_suggesting_everything_is_left_out() -> None:
    wide: dict[str, BaseDistribution] = {
        "x": FloatDistribution(0, 1),
        "y": FloatDistribution(0, 1),
    }
    seen = _read(
        create_trial(params={"x": 0.1, "y": 0.5}, distributions=wide, value=1.0),
        _trial(0.2, state=TrialState.FAIL),
    )
    assert len(seen.X) == 1


def test_the_newest_range_holds() -> None:
    study = optuna.create_study()
    for high in (4, 8):
        study.add_trial(
            create_trial(params={"n": 1}, distributions={"n": IntDistribution(0, high)}, value=0.0)
        )
    assert History(None).distributions(study) == {"n": IntDistribution(0, 8)}


def test_a_declared_space_drops_inactive_values_and_incomplete_trials() -> None:
    distributions = CONDITIONAL.distributions
    study = optuna.create_study()
    complete = {"n_layers": 1, "width_0": 8, "kind": "a"}
    for params in ({**complete, "width_1": 16}, {"n_layers": 2, "width_0": 8, "kind": "a"}):
        study.add_trial(
            create_trial(
                params=params, distributions={n: distributions[n] for n in params}, value=0.0
            )
        )
    history = History(CONDITIONAL)
    asking = _ask(study)
    seen = history.read(study, asking, history.distributions(study))
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
        asking = _ask(study)
        seen = history.read(study, asking, history.distributions(study))
        fresh_history = History(None)
        fresh = fresh_history.read(study, asking, fresh_history.distributions(study))
        assert seen.encoder.names == fresh.encoder.names
        assert len(seen.pending) == len(fresh.pending)
        order, fresh_order = seen.ranks.argsort(), fresh.ranks.argsort()
        assert (seen.X[order] == fresh.X[fresh_order]).all()


def test_the_order_in_which_trials_finish_changes_nothing() -> None:
    study = optuna.create_study(direction="maximize")
    history = History(None)
    trials = [study.ask(X_RANGE) for _ in range(6)]
    for i in (3, 5, 0, 4, 2, 1):
        study.tell(trials[i], float(i))
        asking = _ask(study)
        fresh = History(None)
        one, other = (h.read(study, asking, h.distributions(study)) for h in (history, fresh))
        assert (one.X == other.X).all()
        assert (one.values == other.values).all()


@pytest.mark.parametrize(("has_other", "expected"), [(False, {"y"}), (True, {"x"})])
def test_a_failed_trial_s_range_counts_only_where_no_other_has_one(
    has_other: bool, expected: set[str]
) -> None:
    study = optuna.create_study()
    other: dict[str, BaseDistribution] = {"y": FloatDistribution(0, 1)}
    study.add_trial(create_trial(params={"y": 0.5}, distributions=other, state=TrialState.FAIL))
    if has_other:
        study.add_trial(_trial(0.1, 1.0))
    assert set(History(None).distributions(study)) == expected
