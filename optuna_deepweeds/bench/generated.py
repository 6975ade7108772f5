"""Made-up tables to develop samplers on, so that the real ones stay unseen until the end.

Each table is drawn from its name: the same everywhere, no file needed. Two families imitate what
tables of real trainings have in common:

- `grids`: 4 to 6 settings of a network or a booster, most of them on grids of up to 12 steps, some
  categorical; a valley whose floor bends with a second setting, settings that hardly matter,
  a cliff behind which training diverges to chance level, and scores of a small validation set.
- `cells`: 6 places that each take one of 5 operations, as in a search for network cells; places
  work through one another, and what cuts the cell apart scores at chance level.

Scores are accuracies, to be maximised, with 3 to 5 repeats that differ more where scores are bad.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from optuna_deepweeds.bench.tables import Table
from optuna_deepweeds.schema import choose

GENERATED_FAMILIES: dict[str, tuple[str, ...]] = {
    "grids": tuple(f"grid_{i}" for i in range(6)),
    "cells": tuple(f"cell_{i}" for i in range(3)),
}
"""Families of generated tables and their tasks."""

_MOST_CONFIGS = 30_000
_FEWEST_CONFIGS = 4_000
_OPERATIONS = ("none", "skip", "narrow", "wide", "pool")
_PATHS = ((0,), (1, 2), (3, 4), (1, 5, 4))
"""Places on each way from a cell's input to its output."""


@lru_cache(maxsize=16)
def generate_table(name: str) -> Table:
    """The table of this name.

    Raises:
        InvalidInputError: If no family has it.
    """
    families = {task: family for family, tasks in GENERATED_FAMILIES.items() for task in tasks}
    family = families[choose("generated table", name, families)]
    rng = np.random.default_rng([crc32(name.encode()), 1])
    choices, loss, chance = _KINDS[family](rng)
    values = _repeats(loss, chance, rng)
    return Table(name, family, "maximize", "accuracy", choices, values)


_Drawn = tuple[dict[str, tuple[Any, ...]], NDArray[np.float64], NDArray[np.bool_]]
"""Choices, (n_configs,) loss from 0 (best) on, (n_configs,) True where at chance level."""


def _grid(rng: np.random.Generator) -> _Drawn:
    sizes, is_category = _grid_shape(rng)
    choices = {
        f"kind_{j}" if category else f"level_{j}": tuple(
            "abcdef"[:size] if category else range(size)
        )
        for j, (size, category) in enumerate(zip(sizes, is_category, strict=True))
    }
    indices = np.indices(sizes).reshape(len(sizes), -1)
    n_dims, n = indices.shape
    # Every setting is a position in [0, 1]; the kinds of a category are in no order.
    positions = np.empty((n_dims, n))
    for j, (size, category) in enumerate(zip(sizes, is_category, strict=True)):
        scale = rng.permutation(size) if category else np.arange(size)
        positions[j] = scale[indices[j]] / (size - 1)
    weights = np.exp(rng.normal(0.0, 1.0, size=n_dims))
    weights[0] = weights.max()  # the first setting is the learning rate
    centres = rng.uniform(0.1, 0.9, size=n_dims)
    bends = rng.normal(0.0, 0.4, size=n_dims)
    bends[0] = 0.0
    offsets = positions - centres[:, None]
    offsets[0] -= bends @ offsets  # the best rate depends on the other settings
    power = rng.choice([1.0, 2.0], size=n_dims)
    loss = weights @ np.abs(offsets) ** power[:, None] / weights.sum()
    loss = loss / loss.std() + rng.uniform(0.2, 0.8) * ripples(positions, rng)
    edge = rng.uniform(0.6, 0.9) + 0.5 * (bends @ offsets)
    return choices, loss - loss.min(), positions[0] > edge


def _grid_shape(rng: np.random.Generator) -> tuple[list[int], list[bool]]:
    """Sizes of 4 to 6 settings, ordered ones first, and which of them are categories."""
    while True:
        n_ordered, n_categories = int(rng.integers(3, 6)), int(rng.integers(0, 3))
        sizes = [*rng.integers(4, 13, size=n_ordered), *rng.integers(2, 5, size=n_categories)]
        if 4 <= len(sizes) <= 6 and _FEWEST_CONFIGS <= np.prod(sizes) <= _MOST_CONFIGS:
            is_category = [False] * n_ordered + [True] * n_categories
            return [int(size) for size in sizes], is_category


def ripples(positions: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """A smooth random function of unit spread: waves of about one length across the ranges."""
    n_waves = 60
    lengths = rng.uniform(0.3, 1.5, size=(len(positions), 1))
    frequencies = rng.normal(size=(len(positions), n_waves)) / lengths
    phases = rng.uniform(0.0, 2 * np.pi, size=n_waves)
    waves = np.cos(frequencies.T @ positions + phases[:, None]).sum(axis=0)
    return np.asarray(waves / waves.std())


def _cell(rng: np.random.Generator) -> _Drawn:
    n_places = 1 + max(place for path in _PATHS for place in path)
    choices = {f"place_{j}": _OPERATIONS for j in range(n_places)}
    indices = np.indices((len(_OPERATIONS),) * n_places).reshape(n_places, -1)
    strength = np.array([0.0, 0.4, 0.8, 1.0, 0.2]) + rng.normal(0.0, 0.1, size=5)
    strength[0] = 0.0
    flow = np.maximum(strength[indices] * rng.uniform(0.6, 1.4, size=(n_places, 1)), 0.0)
    passes = indices != 0
    ways = np.array([passes[list(path)].all(axis=0) for path in _PATHS])
    gains = np.array([flow[list(path)].mean(axis=0) for path in _PATHS])
    loss = -np.log1p(3.0 * (ways * gains).sum(axis=0))
    # Some pairs of operations suit each other better than their parts let expect.
    for first in range(n_places):
        for second in range(first):
            pair = rng.normal(0.0, 1.0, size=(len(_OPERATIONS), len(_OPERATIONS)))
            loss += 0.04 * pair[indices[first], indices[second]]
    is_cut = np.asarray(~ways.any(axis=0))
    return choices, 2.0 * (loss - loss[~is_cut].min()), is_cut


_KINDS: dict[str, Callable[[np.random.Generator], _Drawn]] = {"grids": _grid, "cells": _cell}


def _repeats(
    loss: NDArray[np.float64], is_chance: NDArray[np.bool_], rng: np.random.Generator
) -> NDArray[np.float64]:
    """(n_configs, n_repeats) accuracies; they flatten out towards the best and the worst."""
    n_repeats = int(rng.integers(3, 6))
    top, bottom = rng.uniform(0.75, 0.98), rng.uniform(0.1, 0.5)
    share = 1.0 - np.exp(-loss * rng.uniform(0.3, 0.8))
    share = np.where(is_chance, 1.0, share)
    noise = np.exp(rng.uniform(np.log(0.006), np.log(0.05)))
    spread = (top - bottom) * noise * (1.0 + 2.0 * share)
    spread = np.where(is_chance, 0.003, spread)
    values = (top - (top - bottom) * share)[:, None]
    values = values + spread[:, None] * rng.normal(size=(len(loss), n_repeats))
    n_images = int(np.exp(rng.uniform(np.log(150), np.log(5000))))
    return np.asarray(np.clip(np.rint(values * n_images) / n_images, 0.0, 1.0))
