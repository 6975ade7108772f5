"""Samplers and pruners by a description `name:key=value:key=value`.

Names are those of the rooms `samplers` and `pruners`, and of `PEERS`, `PRUNERS` and "smac" for
what is only compared with.
"""

from __future__ import annotations

import ast
import inspect
import pkgutil
from collections.abc import Sequence
from typing import Any

from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler

from optuna_deepweeds import pruners, samplers
from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.samplers import PriorSource
from optuna_deepweeds.schema import choose
from optuna_deepweeds.spaces import SearchSpace

_PEERS = "optuna_deepweeds.bench.peers"

PRUNERS: dict[str, tuple[str, dict[str, Any]]] = {
    "none": ("none", {}),
    "median": ("optuna.pruners:MedianPruner", {}),
    "hyperband": ("hyperband", {}),  # reduction 3
    "asha-default": ("optuna.pruners:SuccessiveHalvingPruner", {}),  # reduction 4
    "asha-3-1": ("asha", {}),  # SuccessiveHalving, reduction 3, min_resource 1
    "dora-published": (f"{_PEERS}:PublishedDoraPruner", {}),
    "promotion-3": (f"{_PEERS}:PromotionPruner", {"reduction_factor": 3}),
    "promotion-4": (f"{_PEERS}:PromotionPruner", {"reduction_factor": 4}),
    "dora": ("dora", {}),  # stopping only
    "dora-thaw": ("dora", {"thaw": True}),
}
"""By name, the class or the name of `pruners.PRUNERS`, and its options."""

DYHPO = "dyhpo"
"""A pruner that chooses the configurations itself."""

PEERS = {"bohb": f"{_PEERS}:DensityRatioSampler"}
"""By name, the class of a sampler that only chooses among the rows of a table."""

SAMPLERS = (*samplers.SAMPLERS, *PEERS)
"""Names of what may choose the rows of a table of curves."""


def parse(text: str) -> tuple[str, dict[str, Any]]:
    """Name and options of `rf_ei` or `rf_ei:n_trees=30:space=False`.

    Values are Python literals or words.

    Raises:
        InvalidInputError: An option is not `key=value`.
    """
    name, *parts = text.split(":")
    options: dict[str, Any] = {}
    for part in parts:
        key, equals, value = part.partition("=")
        if not equals or not key.isidentifier():
            raise InvalidInputError(
                f"a method is written name:key=value:key=value, but got {text!r}."
            )
        try:
            options[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            options[key] = value
    return name, options


def make_sampler(
    text: str,
    *,
    seed: int,
    space: SearchSpace | None = None,
    priors: Sequence[PriorSource] = (),
) -> BaseSampler:
    """A fresh sampler; Optuna's own with its defaults, what a user would otherwise pick.

    Args:
        text: The description; the name is one of `SAMPLERS`. The option `space=False` hides the
            conditions of a space from a sampler that could use them.
        seed: Of everything that it draws.
        space: Exact conditions, for ours.
        priors: Evaluations of other tasks, for ours.

    Raises:
        InvalidInputError: The name is unknown, the sampler does not take the options, or there
            are priors for one that takes none.
    """
    name, options = parse(text)
    if takes_priors(text):
        space = space if options.pop("space", True) else None
        return samplers.make_sampler(name, seed=seed, space=space, priors=priors, **options)
    if priors:
        raise InvalidInputError(f"priors go to rf_ei and dngo, but got {text!r}.")
    path = PEERS.get(choose("sampler", name, SAMPLERS)) or samplers.SAMPLERS[name][0]
    try:
        sampler: BaseSampler = pkgutil.resolve_name(path)(seed=seed, **options)
    except TypeError as error:
        raise InvalidInputError(f"{text}: {error}.") from None
    return sampler


def make_pruner(text: str, *, max_resource: int, seed: int) -> BasePruner:
    """A fresh pruner for trials of `max_resource` epochs.

    Args:
        text: The description; the name is one of `PRUNERS`.
        max_resource: Epochs of a full training.
        seed: Of the pruner, if it draws anything.

    Raises:
        InvalidInputError: The name is unknown, or the pruner does not take the options.
    """
    name, options = parse(text)
    target, preset = PRUNERS[choose("pruner", name, PRUNERS)]
    options = {**preset, **options}
    if target in pruners.PRUNERS:
        return pruners.make_pruner(target, max_resource=max_resource, **options)
    create = pkgutil.resolve_name(target)
    fitting = {"max_resource": max_resource, "seed": seed}
    takes = inspect.signature(create).parameters
    try:
        pruner: BasePruner = create(**{k: v for k, v in fitting.items() if k in takes}, **options)
    except TypeError as error:
        raise InvalidInputError(f"{text}: {error}.") from None
    return pruner


def takes_priors(sampler: str) -> bool:
    """Whether the sampler of this description can be given evaluations of other tasks."""
    return samplers.takes_priors(parse(sampler)[0])
