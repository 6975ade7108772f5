"""A portfolio of earlier configurations: together good on every task."""

from __future__ import annotations

import numpy as np
from optuna.distributions import FloatDistribution

from optuna_deepweeds.samplers import PriorSource, portfolio

X = {"x": FloatDistribution(0, 1)}


def _source(name: str, peak: float, seed: int, level: float = 0.0) -> PriorSource:
    xs = np.random.default_rng(seed).random(60)
    return PriorSource(name, [{"x": float(x)} for x in xs], (level - (xs - peak) ** 2).tolist())


def test_it_serves_every_task_before_it_serves_most_of_them_twice() -> None:
    # Three tasks agree, and their values are far above those of the fourth.
    agreeing = [_source(str(i), 0.2, i, level=100.0) for i in range(3)]
    chosen = portfolio([*agreeing, _source("other", 0.9, 3)], X, 2)
    first, second = (params["x"] for params in chosen)
    assert abs(first - 0.2) < 0.1 and abs(second - 0.9) < 0.1


def test_of_one_task_it_is_the_best_and_no_configuration_comes_twice() -> None:
    source = _source("a", 0.5, 0)
    twice = PriorSource("b", source.params, source.values)
    chosen = [params["x"] for params in portfolio([source, twice], X, 5)]
    assert len(set(chosen)) == 5 and max(abs(x - 0.5) for x in chosen) < 0.15
    assert len(portfolio([source], X, 100)) == 60
    assert portfolio([], X, 3) == []
