"""Functions with a known optimum over continuous, mixed, log-scaled and conditional spaces.

All are minimised and free of noise. Optima lie off the centre and off the corners of their
spaces, so that neither a sampler that starts in the middle nor one that clings to the border
finds them for free.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
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

Params = Mapping[str, Any]
_Function = Callable[[Params], float]
_Described = BaseDistribution | tuple[BaseDistribution, str, Any]


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
    function: _Function
    minimum: float
    minimiser: Params


FUNCTIONS: dict[str, SyntheticFunction] = {}
"""Name -> function: four continuous, two mixed, three conditional."""


def _minimise(
    space: SearchSpace | Mapping[str, _Described], at: Params, minimum: float = 0.0
) -> Callable[[_Function], _Function]:
    """Register a function by its name.

    Args:
        space: The space, or name -> distribution, with parent and the parent's value where the
            parameter exists only there.
        at: Where it has its minimum.
        minimum: The value there.
    """

    def register(function: _Function) -> _Function:
        name = function.__name__.removeprefix("_")
        built = space if isinstance(space, SearchSpace) else _space(name, space)
        FUNCTIONS[name] = SyntheticFunction(name, built, function, minimum, at)
        return function

    return register


def _space(name: str, described: Mapping[str, _Described]) -> SearchSpace:
    parameters = []
    for key, entry in described.items():
        if isinstance(entry, tuple):
            distribution, parent, value = entry
            parameters.append(Parameter(key, distribution, Condition(parent, (value,))))
        else:
            parameters.append(Parameter(key, entry))
    return SearchSpace(name, tuple(parameters))


def _floats(low: float, high: float, n_dims: int) -> dict[str, _Described]:
    return {f"x{i}": FloatDistribution(low, high) for i in range(n_dims)}


def _at(values: Sequence[float]) -> dict[str, float]:
    return {f"x{i}": x for i, x in enumerate(values)}


def _vector(params: Params) -> np.ndarray:
    return np.array([params[f"x{i}"] for i in range(len(params))])


def unit(distribution: BaseDistribution, value: float) -> float:
    """Place of a numeric value within its range, in [0, 1]; log ranges are measured in logs."""
    assert isinstance(distribution, (FloatDistribution, IntDistribution))
    low, high = distribution.low, distribution.high
    if distribution.log:
        return math.log(value / low) / math.log(high / low)
    return (value - low) / (high - low)


@_minimise(
    {"x": FloatDistribution(-5.0, 10.0), "y": FloatDistribution(0.0, 15)},
    at={"x": math.pi, "y": 2.275},
    minimum=10 / (8 * math.pi),
)
def _branin(params: Params) -> float:
    x, y = params["x"], params["y"]
    a = y - 5.1 * x**2 / (4 * math.pi**2) + 5 * x / math.pi - 6
    return float(a**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10)


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


@_minimise(
    _floats(0.0, 1.0, 6),
    at=_at((0.20168952, 0.15001069, 0.47687398, 0.27533243, 0.31165162, 0.65730054)),
    minimum=-3.322368011415512,
)
def _hartmann6(params: Params) -> float:
    distances = (_HARTMANN_A * (_vector(params) - _HARTMANN_P) ** 2).sum(axis=1)
    return float(-np.array([1.0, 1.2, 3.0, 3.2]) @ np.exp(-distances))


@_minimise(_floats(-2.0, 3.0, 4), at=_at([1.0] * 4))
def _rosenbrock4(params: Params) -> float:
    pairs = itertools.pairwise(_vector(params).tolist())
    return sum(100.0 * (b - a**2) ** 2 + (1.0 - a) ** 2 for a, b in pairs)


_ACKLEY_SHIFT = (3.1, -7.4, 11.2, -1.3, 5.9)


@_minimise(_floats(-20.0, 20.0, 5), at=_at(_ACKLEY_SHIFT))
def _ackley5(params: Params) -> float:
    z = _vector(params) - _ACKLEY_SHIFT
    root_mean_square = math.sqrt(float(np.mean(z**2)))
    waves = float(np.mean(np.cos(2 * math.pi * z)))
    return -20 * math.exp(-0.2 * root_mean_square) - math.exp(waves) + 20 + math.e


@_minimise(
    {
        "rate": FloatDistribution(1e-6, 1.0, log=True),
        "decay": FloatDistribution(1e-8, 1e-1, log=True),
        "width": IntDistribution(8, 1024, log=True),
        "momentum": FloatDistribution(0.0, 1.0),
    },
    at={"rate": 10**-2.5, "decay": 1e-4, "width": 96, "momentum": 0.87},
)
def _log_scales(params: Params) -> float:
    """Learning-rate-like: a tilted valley in logs with a cliff where training would diverge."""
    rate, decay = math.log10(params["rate"]), math.log10(params["decay"])
    width = math.log2(params["width"] / 96)
    valley = 0.6 * (rate + 2.5 + 0.4 * (decay + 4.0)) ** 2 + 0.05 * (decay + 4.0) ** 2
    cliff = 8.0 if rate > -1.0 + 0.2 * width else 0.0
    return float(valley + 0.08 * width**2 + 3.0 * (params["momentum"] - 0.87) ** 2 + cliff)


_KIND_SHIFT = {"a": (0.7, 0.2, 0.5), "b": (0.25, 0.6, 0.0), "c": (0.5, 0.85, 0.9)}


@_minimise(
    {
        "kind": CategoricalDistribution(("a", "b", "c")),
        "switch": CategoricalDistribution((False, True)),
        "x0": FloatDistribution(0.0, 1.0),
        "x1": FloatDistribution(0.0, 1.0, step=0.05),
        "units": IntDistribution(16, 128, step=16),
        "n_steps": IntDistribution(1, 10),
    },
    at={"kind": "b", "switch": True, "x0": 0.25, "x1": 0.6, "units": 80, "n_steps": 7},
)
def _mixed(params: Params) -> float:
    """Every kind of parameter at once; the category moves the optimum of the others."""
    x0, x1, penalty = _KIND_SHIFT[params["kind"]]
    bowl = 4 * (params["x0"] - x0) ** 2 + 4 * (params["x1"] - x1) ** 2
    ripple = 0.3 * math.sin(9 * math.pi * (params["x0"] - x0)) ** 2
    stepped = ((params["units"] - 80) / 64) ** 2
    steps = 0.03 * abs(params["n_steps"] - 7)
    switch = 0.25 * (params["switch"] is not True)
    return float(penalty + bowl + ripple + stepped + steps + switch)


@_minimise(
    {
        "model": CategoricalDistribution(("linear", "tree", "net")),
        "l2": (FloatDistribution(1e-5, 10.0, log=True), "model", "linear"),
        "depth": (IntDistribution(1, 30), "model", "tree"),
        "subsample": (FloatDistribution(0.1, 1.0), "model", "tree"),
        "net_rate": (FloatDistribution(1e-6, 1.0, log=True), "model", "net"),
        "net_units": (IntDistribution(8, 1024, log=True), "model", "net"),
        "net_dropout": (FloatDistribution(0.0, 0.9), "model", "net"),
    },
    at={"model": "net", "net_rate": 10**-3.2, "net_units": 160, "net_dropout": 0.35},
)
def _branches(params: Params) -> float:
    """Three models with parameters of their own; the best one is the hardest to tune."""
    match params["model"]:
        case "linear":
            return 0.30 + 0.5 * (math.log10(params["l2"]) + 2.0) ** 2 / 9
        case "tree":
            depth = abs(params["depth"] - 9) / 9
            return 0.12 + 0.4 * depth + 1.5 * (params["subsample"] - 0.72) ** 2
    rate = (math.log10(params["net_rate"]) + 3.2) ** 2
    n_units = math.log2(params["net_units"] / 160) ** 2
    return min(1.0, 0.5 * rate + 0.06 * n_units + 2.0 * (params["net_dropout"] - 0.35) ** 2)


@_minimise(
    {
        "rate": FloatDistribution(1e-6, 1.0, log=True),
        "optimiser": CategoricalDistribution(("sgd", "adam")),
        "beta": (FloatDistribution(0.5, 0.999), "optimiser", "adam"),
        "use_momentum": (CategoricalDistribution((False, True)), "optimiser", "sgd"),
        "momentum": (FloatDistribution(0.0, 0.999), "use_momentum", True),
        "warm_up": (CategoricalDistribution(("none", "linear")), "use_momentum", True),
        "n_warm_up": (IntDistribution(1, 20), "warm_up", "linear"),
    },
    at={"rate": 10**-1.3, "optimiser": "sgd", "use_momentum": True, "momentum": 0.88}
    | {"warm_up": "linear", "n_warm_up": 6},
)
def _nested(params: Params) -> float:
    """Conditions two deep: momentum under sgd, its schedule under momentum."""
    best_rate = 1.3 if params["optimiser"] == "sgd" else 3.0
    value = 0.4 * (math.log10(params["rate"]) + best_rate) ** 2
    if params["optimiser"] == "adam":
        return value + 0.10 + 0.2 * (math.log10(1 - params["beta"]) + 1.4) ** 2
    if not params["use_momentum"]:
        return value + 0.35
    value += 2.0 * (params["momentum"] - 0.88) ** 2
    if params["warm_up"] == "none":
        return value + 0.15
    return value + 0.02 * abs(params["n_warm_up"] - 6)


_BEST_CHANNELS = {
    "n_channels_conv_0": 96,
    "n_channels_conv_1": 160,
    "n_channels_conv_2": 224,
    "n_channels_fc_0": 128,
    "n_channels_fc_1": 64,
}


@_minimise(
    SPACES["course"],
    at={
        "n_conv_layers": 3,
        "use_BN": True,
        "global_avg_pooling": True,
        "n_fc_layers": 2,
        "batch_size": 50,
        "learning_rate_init": 10**-2.6,
        **_BEST_CHANNELS,
    },
)
def _course_like(params: Params) -> float:
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
            distribution = SPACES["course"][name].distribution
            error += 0.25 * (unit(distribution, params[name]) - unit(distribution, best)) ** 2
    return float(min(error, 1.0))
