"""SMAC3 as a peer: a server in another Python environment, spoken to in lines of JSON.

SMAC pins its own versions of half the stack, so it lives in an environment of its own:
`python -m venv smac-env && smac-env/bin/pip install smac`, then `--smac-python
smac-env/bin/python`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from optuna_deepweeds.bench.bridge import Bridge
from optuna_deepweeds.errors import DeepWeedsError
from optuna_deepweeds.spaces import Parameter, SearchSpace

_SERVER = Path(__file__).with_name("smac_server.py")


class SmacSampler(BaseSampler):
    """SMAC3's HyperparameterOptimizationFacade with its defaults, one trial at a time.

    Args:
        space: What is searched.
        seed: Of the scenario.
        n_trials: Budget, which sizes SMAC's initial design.
        python: Interpreter of the environment that has SMAC3.
        options: Further arguments of SMAC's `Scenario`; `deterministic=True` tells it not to
            spend evaluations on repeats.

    Raises:
        DeepWeedsError: There is no such interpreter, or SMAC3 is missing there.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        seed: int,
        n_trials: int,
        python: str | None,
        options: Mapping[str, Any],
    ) -> None:
        self._bridge = Bridge("smac", "smac", python, _SERVER)
        self._space = space
        try:
            self._bridge.request(
                op="start",
                parameters=[self._describe(p) for p in space.parameters],
                scenario={"deterministic": False, **options, "seed": seed, "n_trials": n_trials},
            )
        except BaseException:
            self.close()
            raise

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return self._space.distributions

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        raw = self._bridge.request(op="ask")["params"]
        return {p.name: _decoded(p, raw[p.name]) for p in self._space.parameters if p.name in raw}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, _: BaseDistribution
    ) -> Any:
        raise DeepWeedsError(f"SMAC must give every parameter, but gave no {param_name}.")

    def after_trial(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        assert values is not None
        sign = -1 if study.direction == StudyDirection.MAXIMIZE else 1
        self._bridge.request(op="tell", value=sign * values[0])

    @property
    def cpu_seconds(self) -> float:
        """What the other process has used."""
        return self._bridge.cpu_seconds

    def close(self) -> None:
        """End the other process."""
        self._bridge.close()

    def _describe(self, parameter: Parameter) -> dict[str, Any]:
        """The parameter as the server reads it.

        Categories travel as their index and stepped numbers as the number of the step, so that
        any choice and any grid survives JSON and ConfigSpace.
        """
        distribution, condition = parameter.distribution, parameter.condition
        described: dict[str, Any] = {"name": parameter.name}
        if isinstance(distribution, CategoricalDistribution):
            described["choices"] = list(range(len(distribution.choices)))
        else:
            assert isinstance(distribution, (FloatDistribution, IntDistribution))
            is_whole = isinstance(distribution, IntDistribution)
            bounds = (distribution.low, distribution.high)
            if (step := _step(distribution)) is not None:
                is_whole, bounds = True, (0, round((bounds[1] - bounds[0]) / step))
            described |= {"is_whole": is_whole, "bounds": bounds, "log": distribution.log}
        if condition is not None:
            parent = self._space[condition.parent].distribution
            values: Any = condition.values
            if values is not None and isinstance(parent, CategoricalDistribution):
                values = [parent.choices.index(value) for value in values]
            described |= {"parent": condition.parent, "values": values}
            described["at_least"] = condition.at_least
        return described


def _decoded(parameter: Parameter, raw: Any) -> Any:
    distribution = parameter.distribution
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[int(raw)]
    assert isinstance(distribution, (FloatDistribution, IntDistribution))
    if (step := _step(distribution)) is not None:
        raw = distribution.low + int(raw) * step
    return int(raw) if isinstance(distribution, IntDistribution) else float(raw)


def _step(distribution: FloatDistribution | IntDistribution) -> float | None:
    """The distance of the grid's points; None for all floats and all whole numbers."""
    is_plain = isinstance(distribution, IntDistribution) and distribution.step == 1
    return None if is_plain else distribution.step
