"""Families of tasks for the benchmark of pruners, and generated ones.

A family is what one kind of model and one space give: tasks of one family are no independent
evidence, so means are taken over families, and whole families are kept back from development.
That of a file is the name of its folder, that of a generated task the first part of its name.

A generated task is drawn from its name: the same everywhere. Its configurations decide the end
and the speed of a learning curve by smooth functions, so that a sampler can learn; what a trial
reports is the share of so many images that are right, plus noise.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from optuna_deepweeds.bench.curves import Curves, load
from optuna_deepweeds.bench.generated import ripples
from optuna_deepweeds.seeds import generator

GENERATED = ("power", "plateau", "crossing", "misleading", "broken", "diverging", "late")
"""Power laws; with a plateau before them; fast starters that end low; first epochs whose order is
upside down; with a sudden gain when the learning rate falls; with divergence of what learns
fastest; good ones that start late."""

LEFT_OUT = frozenset({"broken", "diverging", "late", "boosting", "recurrent", "sklearn", "priors"})
"""Families that nothing is chosen by; all others serve development."""

GROUPS = DEVELOPMENT, KEPT_BACK = ("development", "left-out")

_NOISE = ((0.0, 10_000), (0.01, 1_000), (0.05, 3_000), (0.0, 40))
"""Of each task of a family: standard deviation of the noise, images of the validation set."""

_N_CONFIGS = 1_000
_N_EPOCHS = 50
_EPOCHS = np.arange(1, _N_EPOCHS + 1)

TASKS = {family: tuple(f"{family}_{i}" for i in range(len(_NOISE))) for family in GENERATED}

Array = NDArray[np.float64]


def family_of(source: str) -> str:
    """The family of a source of curves."""
    if source in _FAMILY:
        return _FAMILY[source]
    return "studies" if "://" in source else Path(source).parent.name or "curves"


def group_of(family: str) -> str:
    """`DEVELOPMENT` or `KEPT_BACK`."""
    return KEPT_BACK if family in LEFT_OUT else DEVELOPMENT


@lru_cache(maxsize=64)
def curves_of(source: str) -> Curves:
    """The curves of a generated task, or of what `curves.load` reads.

    Raises:
        NotFoundError: There is no such file or study.
        InvalidInputError: It does not hold full learning curves.
    """
    return _generate(source) if source in _FAMILY else load(source)


_FAMILY = {task: family for family, tasks in TASKS.items() for task in tasks}


def _generate(name: str) -> Curves:
    family = _FAMILY[name]
    rng = generator(0, "curves", name)
    distributions: dict[str, BaseDistribution] = {
        "rate": FloatDistribution(1e-5, 1e-1, log=True),
        "decay": FloatDistribution(1e-6, 1.0, log=True),
        "momentum": FloatDistribution(0.0, 1.0),
        "width": IntDistribution(8, 512, log=True),
        "kind": CategoricalDistribution(["a", "b", "c"]),
    }
    unit = rng.random((len(distributions), _N_CONFIGS))
    kinds = rng.integers(3, size=_N_CONFIGS)
    unit[4] = rng.permutation(3)[kinds] / 2
    rows = tuple(
        {
            "rate": float(10 ** (4 * u[0] - 5)),
            "decay": float(10 ** (6 * u[1] - 6)),
            "momentum": float(u[2]),
            "width": int(np.clip(round(8 * 64 ** u[3]), 8, 512)),
            "kind": "abc"[kind],
        }
        for u, kind in zip(unit.T, kinds, strict=True)
    )
    floor, values = _true_values(family, unit, rng)
    sd, n_images = _NOISE[int(name.rpartition("_")[2])]
    told = rng.binomial(n_images, np.clip(values, 0.0, 1.0)) / n_images
    told = told + rng.normal(0.0, sd, size=told.shape)
    return Curves(name, values, rows, distributions, floor, told=told)


def _true_values(family: str, unit: Array, rng: np.random.Generator) -> tuple[float, Array]:
    """The median of the ends, and (n, T) values from chance level on."""
    n = unit.shape[1]
    weights = np.exp(rng.normal(0.0, 0.7, size=(len(unit), 1)))
    weights[0] = weights.max()
    centre = rng.uniform(0.2, 0.8, size=(len(unit), 1))
    loss = (weights * (unit - centre) ** 2).sum(axis=0) / weights.sum()
    loss = loss / loss.std() + 0.3 * ripples(unit, rng)
    loss -= loss.min()
    good = _ranks(-loss)  # 1 for the best configuration
    chance, top = rng.uniform(0.1, 0.5), rng.uniform(0.75, 0.98)
    end = chance + (top - chance) * np.exp(-0.5 * loss)
    free = [_ranks(ripples(unit, rng)) for _ in range(3)]  # properties of their own
    slowness = _ranks(free[0] + 1.5 * good) if family == "crossing" else free[0]
    tau = 0.4 * (40 if family == "crossing" else 15) ** slowness
    power = 0.6 + 0.9 * free[1]
    start = np.zeros(n)
    if family == "plateau":
        start = np.floor(8 * free[2])
    elif family == "late":
        start = np.floor(14 * _ranks(free[2] + good))
    elif family == "misleading":
        start = np.full(n, 1.0)
    passed = np.maximum(_EPOCHS[None, :] - start[:, None], 0.0)
    gap = (1 + passed / tau[:, None]) ** -power[:, None]
    if family == "broken":
        fall = rng.integers(4, 16)
        since = np.maximum(_EPOCHS - fall, 0)
        gap = gap * (1 - 0.8 * free[2][:, None] * (1 - np.exp(-since / 1.5)))
    values = end[:, None] - (end - chance)[:, None] * gap
    if family == "diverging":
        # What learns fast, with a rate near the best one, goes astray.
        fast = _ranks(unit[0] - free[0]) > 0.7
        when = np.floor(1 + 18 * free[2])
        values = np.where(fast[:, None] & (_EPOCHS > when[:, None]), chance, values)
    if family == "misleading":
        # Who learns falls below chance level first; who does not stays there.
        learns = good > 0.15
        early = np.exp(-np.maximum(_EPOCHS - 1, 0) / 0.4)
        dip = 1e-3 + 0.05 * good
        values -= np.where(learns, dip, 0.0)[:, None] * early
        stuck = chance + 1e-5 * rng.normal(size=values.shape)
        values = np.where(learns[:, None], values, stuck)
    values = np.clip(values, 0.0, 1.0)
    return float(np.median(values[:, -1])), values


def _ranks(values: Array) -> Array:
    """(n,): 0 for the smallest to 1 for the largest."""
    return np.argsort(np.argsort(values)) / (len(values) - 1)
