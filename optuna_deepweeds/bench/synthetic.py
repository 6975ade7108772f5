"""Functions with a known optimum over continuous, mixed, log-scaled and conditional spaces.

All are minimised and free of noise. Optima lie off the centre and off the corners of their
spaces, so that neither a sampler that starts in the middle nor one that clings to the border
finds them for free.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from optuna_deepweeds.spaces import SPACES, Condition, Parameter, SearchSpace


@dataclass(frozen=True)
class SyntheticFunction:
    """A function to minimise.

    Attributes:
        name: Its name as a task.
        space: Where it is defined.
        function: Configuration -> value.
        minimum: The smallest value.
        minimiser: A configuration that has it.
    """

    name: str
    space: SearchSpace
    function: Callable[[Mapping[str, Any]], float]
    minimum: float
    minimiser: Mapping[str, Any]


def unit(distribution: BaseDistribution, value: float) -> float:
    """Place of a numeric value within its range, in [0, 1]; log ranges are measured in logs."""
    assert isinstance(distribution, (FloatDistribution, IntDistribution))
    low, high = distribution.low, distribution.high
    if distribution.log:
        return math.log(value / low) / math.log(high / low)
    return (value - low) / (high - low)


def _floats(name: str, low: float, high: float, n_dims: int) -> SearchSpace:
    return SearchSpace(
        name, tuple(Parameter(f"x{i}", FloatDistribution(low, high)) for i in range(n_dims))
    )


def _branin(params: Mapping[str, Any]) -> float:
    x, y = params["x"], params["y"]
    a = y - 5.1 * x**2 / (4 * math.pi**2) + 5 * x / math.pi - 6
    return float(a**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10)


_BRANIN = SyntheticFunction(
    "branin",
    SearchSpace(
        "branin",
        (
            Parameter("x", FloatDistribution(-5.0, 10.0)),
            Parameter("y", FloatDistribution(0.0, 15)),
        ),
    ),
    _branin,
    10 / (8 * math.pi),
    {"x": math.pi, "y": 2.275},
)

_HARTMANN_A = np.array(
    [
        [10, 3, 17, 3.5, 1.7, 8],
        [0.05, 10, 17, 0.1, 8, 14],
        [3, 3.5, 1.7, 10, 17, 8],
        [17, 8, 0.05, 10, 0.1, 14],
    ]
)
_HARTMANN_P = 1e-4 * np.array(
    [
        [1312, 1696, 5569, 124, 8283, 5886],
        [2329, 4135, 8307, 3736, 1004, 9991],
        [2348, 1451, 3522, 2883, 3047, 6650],
        [4047, 8828, 8732, 5743, 1091, 381],
    ]
)


def _hartmann6(params: Mapping[str, Any]) -> float:
    x = np.array([params[f"x{i}"] for i in range(6)])
    weights = np.array([1.0, 1.2, 3.0, 3.2])
    return float(-weights @ np.exp(-(_HARTMANN_A * (x - _HARTMANN_P) ** 2).sum(axis=1)))


_HARTMANN_MINIMISER = (0.20168952, 0.15001069, 0.47687398, 0.27533243, 0.31165162, 0.65730054)
_HARTMANN6 = SyntheticFunction(
    "hartmann6",
    _floats("hartmann6", 0.0, 1.0, 6),
    _hartmann6,
    -3.322368011415512,
    {f"x{i}": x for i, x in enumerate(_HARTMANN_MINIMISER)},
)


def _rosenbrock4(params: Mapping[str, Any]) -> float:
    x = [params[f"x{i}"] for i in range(4)]
    return sum(
        100.0 * (b - a**2) ** 2 + (1.0 - a) ** 2 for a, b in zip(x[:-1], x[1:], strict=True)
    )


_ROSENBROCK4 = SyntheticFunction(
    "rosenbrock4",
    _floats("rosenbrock4", -2.0, 3.0, 4),
    _rosenbrock4,
    0.0,
    {f"x{i}": 1.0 for i in range(4)},
)

_ACKLEY_SHIFT = (3.1, -7.4, 11.2, -1.3, 5.9)


def _ackley(z: np.ndarray[Any, Any]) -> float:
    root_mean_square = math.sqrt(float(np.mean(z**2)))
    waves = float(np.mean(np.cos(2 * math.pi * z)))
    return -20 * math.exp(-0.2 * root_mean_square) - math.exp(waves) + 20 + math.e


_ACKLEY5 = SyntheticFunction(
    "ackley5",
    _floats("ackley5", -20.0, 20.0, 5),
    lambda params: _ackley(np.array([params[f"x{i}"] for i in range(5)]) - _ACKLEY_SHIFT),
    0.0,
    {f"x{i}": shift for i, shift in enumerate(_ACKLEY_SHIFT)},
)


def _log_scales(params: Mapping[str, Any]) -> float:
    """Learning-rate-like: a tilted valley in logs with a cliff where training would diverge."""
    rate, decay = math.log10(params["rate"]), math.log10(params["decay"])
    width = math.log2(params["width"] / 96)
    valley = 0.6 * (rate + 2.5 + 0.4 * (decay + 4.0)) ** 2 + 0.05 * (decay + 4.0) ** 2
    cliff = 8.0 if rate > -1.0 + 0.2 * width else 0.0
    return float(valley + 0.08 * width**2 + 3.0 * (params["momentum"] - 0.87) ** 2 + cliff)


_LOG_SCALES = SyntheticFunction(
    "log_scales",
    SearchSpace(
        "log_scales",
        (
            Parameter("rate", FloatDistribution(1e-6, 1.0, log=True)),
            Parameter("decay", FloatDistribution(1e-8, 1e-1, log=True)),
            Parameter("width", IntDistribution(8, 1024, log=True)),
            Parameter("momentum", FloatDistribution(0.0, 1.0)),
        ),
    ),
    _log_scales,
    0.0,
    {"rate": 10**-2.5, "decay": 1e-4, "width": 96, "momentum": 0.87},
)

_KIND_SHIFT = {"a": (0.7, 0.2, 0.5), "b": (0.25, 0.6, 0.0), "c": (0.5, 0.85, 0.9)}


def _mixed(params: Mapping[str, Any]) -> float:
    """Every kind of parameter at once; the category moves the optimum of the others."""
    x0, x1, penalty = _KIND_SHIFT[params["kind"]]
    bowl = 4 * (params["x0"] - x0) ** 2 + 4 * (params["x1"] - x1) ** 2
    ripple = 0.3 * math.sin(9 * math.pi * (params["x0"] - x0)) ** 2
    stepped = ((params["units"] - 80) / 64) ** 2
    steps = 0.03 * abs(params["n_steps"] - 7)
    switch = 0.25 * (params["switch"] is not True)
    return float(penalty + bowl + ripple + stepped + steps + switch)


_MIXED = SyntheticFunction(
    "mixed",
    SearchSpace(
        "mixed",
        (
            Parameter("kind", CategoricalDistribution(("a", "b", "c"))),
            Parameter("switch", CategoricalDistribution((False, True))),
            Parameter("x0", FloatDistribution(0.0, 1.0)),
            Parameter("x1", FloatDistribution(0.0, 1.0, step=0.05)),
            Parameter("units", IntDistribution(16, 128, step=16)),
            Parameter("n_steps", IntDistribution(1, 10)),
        ),
    ),
    _mixed,
    0.0,
    {"kind": "b", "switch": True, "x0": 0.25, "x1": 0.6, "units": 80, "n_steps": 7},
)


def _branches(params: Mapping[str, Any]) -> float:
    """Three models with parameters of their own; the best one is the hardest to tune."""
    match params["model"]:
        case "linear":
            return 0.30 + 0.5 * (math.log10(params["l2"]) + 2.0) ** 2 / 9
        case "tree":
            depth = abs(params["depth"] - 9) / 9
            return 0.12 + 0.4 * depth + 1.5 * (params["subsample"] - 0.72) ** 2
        case _:
            rate = (math.log10(params["net_rate"]) + 3.2) ** 2
            n_units = math.log2(params["net_units"] / 160) ** 2
            return min(
                1.0, 0.5 * rate + 0.06 * n_units + 2.0 * (params["net_dropout"] - 0.35) ** 2
            )


_BRANCHES = SyntheticFunction(
    "branches",
    SearchSpace(
        "branches",
        (
            Parameter("model", CategoricalDistribution(("linear", "tree", "net"))),
            Parameter(
                "l2", FloatDistribution(1e-5, 10.0, log=True), Condition("model", ("linear",))
            ),
            Parameter("depth", IntDistribution(1, 30), Condition("model", ("tree",))),
            Parameter("subsample", FloatDistribution(0.1, 1.0), Condition("model", ("tree",))),
            Parameter(
                "net_rate", FloatDistribution(1e-6, 1.0, log=True), Condition("model", ("net",))
            ),
            Parameter(
                "net_units", IntDistribution(8, 1024, log=True), Condition("model", ("net",))
            ),
            Parameter("net_dropout", FloatDistribution(0.0, 0.9), Condition("model", ("net",))),
        ),
    ),
    _branches,
    0.0,
    {"model": "net", "net_rate": 10**-3.2, "net_units": 160, "net_dropout": 0.35},
)


def _nested(params: Mapping[str, Any]) -> float:
    """Conditions two deep: momentum under sgd, its schedule under momentum."""
    value = (
        0.4 * (math.log10(params["rate"]) + (1.3 if params["optimiser"] == "sgd" else 3.0)) ** 2
    )
    if params["optimiser"] == "adam":
        return value + 0.10 + 0.2 * (math.log10(1 - params["beta"]) + 1.4) ** 2
    if not params["use_momentum"]:
        return value + 0.35
    value += 2.0 * (params["momentum"] - 0.88) ** 2
    if params["warm_up"] == "none":
        return value + 0.15
    return value + 0.02 * abs(params["n_warm_up"] - 6)


_NESTED = SyntheticFunction(
    "nested",
    SearchSpace(
        "nested",
        (
            Parameter("rate", FloatDistribution(1e-6, 1.0, log=True)),
            Parameter("optimiser", CategoricalDistribution(("sgd", "adam"))),
            Parameter("beta", FloatDistribution(0.5, 0.999), Condition("optimiser", ("adam",))),
            Parameter(
                "use_momentum",
                CategoricalDistribution((False, True)),
                Condition("optimiser", ("sgd",)),
            ),
            Parameter(
                "momentum", FloatDistribution(0.0, 0.999), Condition("use_momentum", (True,))
            ),
            Parameter(
                "warm_up",
                CategoricalDistribution(("none", "linear")),
                Condition("use_momentum", (True,)),
            ),
            Parameter("n_warm_up", IntDistribution(1, 20), Condition("warm_up", ("linear",))),
        ),
    ),
    _nested,
    0.0,
    {
        "rate": 10**-1.3,
        "optimiser": "sgd",
        "use_momentum": True,
        "momentum": 0.88,
        "warm_up": "linear",
        "n_warm_up": 6,
    },
)

_COURSE = SPACES["course"]
_BEST_CHANNELS = {
    "n_channels_conv_0": 96,
    "n_channels_conv_1": 160,
    "n_channels_conv_2": 224,
    "n_channels_fc_0": 128,
    "n_channels_fc_1": 64,
}


def _course_like(params: Mapping[str, Any]) -> float:
    """The course space with a made-up error whose shape follows real runs.

    Depth helps the convolutions and hurts the dense layers past two, the best learning rate
    grows with the root of the batch size, and too large a rate diverges to a plateau.
    """
    rate = math.log10(params["learning_rate_init"])
    batch = math.log10(params["batch_size"] / 50)
    if rate > -1.0 + 0.5 * batch:
        return 1.0
    error = {1: 0.22, 2: 0.08, 3: 0.0}[params["n_conv_layers"]]
    error += {1: 0.04, 2: 0.0, 3: 0.06}[params["n_fc_layers"]]
    error += 0.10 * (not params["use_BN"]) + 0.05 * (not params["global_avg_pooling"])
    error += 0.06 * (rate + 2.6 - 0.5 * batch) ** 2 + 0.03 * batch**2
    for name, best in _BEST_CHANNELS.items():
        if name in params:
            distribution = _COURSE[name].distribution
            error += 0.25 * (unit(distribution, params[name]) - unit(distribution, best)) ** 2
    return float(min(error, 1.0))


_COURSE_LIKE = SyntheticFunction(
    "course_like",
    _COURSE,
    _course_like,
    0.0,
    {
        "n_conv_layers": 3,
        "use_BN": True,
        "global_avg_pooling": True,
        "n_fc_layers": 2,
        "batch_size": 50,
        "learning_rate_init": 10**-2.6,
        **_BEST_CHANNELS,
    },
)

FUNCTIONS: dict[str, SyntheticFunction] = {
    function.name: function
    for function in (
        _BRANIN,
        _HARTMANN6,
        _ROSENBROCK4,
        _ACKLEY5,
        _LOG_SCALES,
        _MIXED,
        _BRANCHES,
        _NESTED,
        _COURSE_LIKE,
    )
}
"""Name -> function: four continuous, two mixed, three conditional."""
