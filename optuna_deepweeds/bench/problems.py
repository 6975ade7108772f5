"""What samplers are compared on: one interface over tables and synthetic functions.

A problem is a search space, noisy evaluations, and a score of a configuration that a sampler
never sees: the mean of a table's repeats, or the noiseless value of a function.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from optuna_deepweeds.bench import synthetic
from optuna_deepweeds.bench.generated import GENERATED_FAMILIES, generate_table
from optuna_deepweeds.bench.tables import TABLE_FAMILIES, Table, load_table
from optuna_deepweeds.schema import choose
from optuna_deepweeds.seeds import generator
from optuna_deepweeds.spaces import Parameter, SearchSpace

N_REFERENCE = 2**15
"""Size of the random sample that stands for "all configurations" of a synthetic problem."""

FAMILIES: dict[str, tuple[str, ...]] = {
    **TABLE_FAMILIES,
    **GENERATED_FAMILIES,
    "synthetic": tuple(synthetic.FUNCTIONS),
}
"""Families and their tasks; a task name occurs once."""


@dataclass(frozen=True)
class Problem:
    """A task for samplers.

    Attributes:
        name: The task.
        family: The key of `FAMILIES` it belongs to.
        space: What is searched.
        direction: "minimize" or "maximize".
        score: Configuration -> its true value.
        evaluate: Configuration, u in [0, 1) -> the value a sampler is told; u picks the repeat.
        reference: () -> (n,) true values of all configurations, or of a random sample of them.
        optimum: () -> the best true value.
    """

    name: str
    family: str
    space: SearchSpace
    direction: Literal["minimize", "maximize"]
    score: Callable[[Mapping[str, Any]], float]
    evaluate: Callable[[Mapping[str, Any], float], float]
    reference: Callable[[], NDArray[np.float64]]
    optimum: Callable[[], float]

    @property
    def is_conditional(self) -> bool:
        """True if some parameter does not exist everywhere."""
        return any(p.condition is not None for p in self.space.parameters)

    @property
    def sign(self) -> float:
        """1 if smaller is better, -1 if larger is: `sign * value` is a loss."""
        return 1.0 if self.direction == "minimize" else -1.0

    @cached_property
    def _sorted_losses(self) -> NDArray[np.float64]:
        return np.sort(self.sign * self.reference())

    def fraction_better(self, score: float) -> float:
        """Share of all configurations that are strictly better than `score`."""
        losses = self._sorted_losses
        return float(np.searchsorted(losses, self.sign * score, side="left") / len(losses))

    def regret(self, score: float) -> float:
        """Distance to the optimum: 0 there, 1 at the median configuration."""
        best = self.sign * self.optimum()
        median = float(np.median(self._sorted_losses))
        return (self.sign * score - best) / (median - best)


@lru_cache(maxsize=64)
def load_problem(name: str) -> Problem:
    """The problem of this name.

    Raises:
        InvalidInputError: If there is none.
        DeepWeedsError: If its table needs a package that is not installed.
    """
    if name in synthetic.FUNCTIONS:
        return _synthetic_problem(synthetic.FUNCTIONS[name])
    is_generated = any(name in members for members in GENERATED_FAMILIES.values())
    return table_problem(generate_table(name) if is_generated else load_table(name))


def resolve_tasks(names: Sequence[str]) -> list[str]:
    """Task names for family and task names, in the given order, each once.

    Raises:
        InvalidInputError: If a name is neither a family nor a task.
    """
    known = {**{task: (task,) for tasks in FAMILIES.values() for task in tasks}, **FAMILIES}
    tasks = [t for name in names for t in known[choose("task or family of tasks", name, known)]]
    return list(dict.fromkeys(tasks))


def family_of(task: str) -> str:
    """The family of a task."""
    return next(family for family, members in FAMILIES.items() if task in members)


def random_params(space: SearchSpace, rng: np.random.Generator) -> dict[str, Any]:
    """One configuration as independent uniform draws give it (constants left out)."""
    params: dict[str, Any] = {}
    for parameter in space.parameters:
        condition = parameter.condition
        if condition is None or (
            condition.parent in params and condition.holds(params[condition.parent])
        ):
            params[parameter.name] = _draw(parameter.distribution, rng)
    return params


def _draw(distribution: BaseDistribution, rng: np.random.Generator) -> Any:
    """A uniform draw, in logs where the range is one; every grid point is equally likely."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[int(rng.integers(len(distribution.choices)))]
    if isinstance(distribution, FloatDistribution):
        low, high, step = distribution.low, distribution.high, distribution.step
        if step is not None:
            return float(low + step * rng.integers(round((high - low) / step) + 1))
        if distribution.log:
            drawn = math.exp(rng.uniform(math.log(low), math.log(high)))
            return min(high, max(low, drawn))
        return float(rng.uniform(low, high))
    assert isinstance(distribution, IntDistribution)
    first, last = distribution.low, distribution.high
    if distribution.log:
        drawn = math.exp(rng.uniform(math.log(first - 0.5), math.log(last + 0.5)))
        return min(last, max(first, round(drawn)))
    n_steps = (last - first) // distribution.step
    return first + distribution.step * int(rng.integers(n_steps + 1))


def table_problem(table: Table) -> Problem:
    """A table as a problem: numbers become integer indices, strings categories.

    The sampler is told one stored repeat; the score is the mean of all repeats.
    """
    parameters = tuple(
        Parameter(
            name,
            CategoricalDistribution(choices)
            if isinstance(choices[0], str)
            else IntDistribution(0, len(choices) - 1),
        )
        for name, choices in table.choices.items()
    )

    def row(params: Mapping[str, Any]) -> int:
        return table.row(
            {
                name: table.choices[name].index(value) if isinstance(value, str) else value
                for name, value in params.items()
            }
        )

    def evaluate(params: Mapping[str, Any], u: float) -> float:
        index = row(params)
        return float(table.values[index, int(u * table.n_repeats[index])])

    best = np.nanmin if table.direction == "minimize" else np.nanmax
    return Problem(
        name=table.name,
        family=table.family,
        space=SearchSpace(table.name, parameters),
        direction=table.direction,
        score=lambda params: float(table.means[row(params)]),
        evaluate=evaluate,
        reference=lambda: table.means,
        optimum=lambda: float(best(table.means)),
    )


def _synthetic_problem(function: synthetic.SyntheticFunction) -> Problem:
    def reference() -> NDArray[np.float64]:
        rng = generator(0, "reference", function.name)
        return np.array(
            [function.function(random_params(function.space, rng)) for _ in range(N_REFERENCE)]
        )

    return Problem(
        name=function.name,
        family="synthetic",
        space=function.space,
        direction="minimize",
        score=function.function,
        evaluate=lambda params, u: function.function(params),
        reference=reference,
        optimum=lambda: function.minimum,
    )
