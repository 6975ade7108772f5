"""Curves that a pruner is given before a replay, honest or misleading.

Some configurations of the task are held out: the replay does not propose them, and their curves
may serve as prior curves. Which ones depends on the seed alone, so that runs with different prior
curves, and those without, replay the same configurations in the same order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optuna_deepweeds.bench.curves import Curves
from optuna_deepweeds.bench.replay import generator
from optuna_deepweeds.errors import InvalidInputError

KINDS = {
    "none": "nothing, the control",
    "same": "the held-out curves without the best fifth",
    "related": "curves of the other tasks",
    "shifted": "those of same, .3 too high",
    "lowered": "those of same, .3 too low",
    "negated": "those of same, turned upside down",
}
"""What a pruner can be given, each with a line of description."""

N_HELD_OUT = 100
"""Configurations held out of a task, and curves taken of each other task."""

_REMOVED_SHARE = 0.2  # priors of a search that went badly, as those of this project
_SHIFT = 0.3


def check_kinds(kinds: Sequence[str]) -> None:
    """Raise `InvalidInputError` if one of `kinds` is unknown."""
    for kind in kinds:
        if kind not in KINDS:
            raise InvalidInputError(
                f"prior curves must be one of {', '.join(KINDS)}, but got {kind!r}."
            )


def n_held_out(curves: Curves) -> int:
    """How many configurations of these curves are held out: never more than half of them."""
    return min(N_HELD_OUT, len(curves.values) // 2)


def hold_out(curves: Curves, n: int, *, seed: int) -> tuple[Curves, NDArray[np.float64]]:
    """Split the table.

    Returns:
        The curves to replay, and (n, T) the others.
    """
    if n == 0:
        return curves, np.empty((0, curves.n_epochs))
    rows = generator(seed, curves, 2).permutation(len(curves.values))
    return curves.subset(np.sort(rows[n:])), curves.values[rows[:n]]


def pruner_options(
    kind: str, held_out: NDArray[np.float64], related: Sequence[Curves] = (), *, seed: int
) -> dict[str, Any]:
    """The arguments of `DoraPruner` that give it the prior curves.

    Args:
        kind: One of `KINDS`.
        held_out: (n, T) curves of the task.
        related: The other tasks.
        seed: Decides which configurations of the other tasks are taken.
    """
    if kind == "none":
        return {}
    if kind == "related":
        return {"related_curves": [_sample(task, seed) for task in related]}
    worst_first = np.argsort(held_out[:, -1], kind="stable")
    curves = held_out[worst_first[: len(held_out) - round(_REMOVED_SHARE * len(held_out))]]
    match kind:
        case "shifted":
            curves = curves + _SHIFT
        case "lowered":
            curves = curves - _SHIFT
        case "negated":
            # About the median, so that the values stay ordinary ones and only their order tells.
            curves = 2 * np.median(curves) - curves
    return {"prior_curves": curves}


def _sample(task: Curves, seed: int) -> NDArray[np.float64]:
    rows = generator(seed, task, 3).permutation(len(task.values))[:N_HELD_OUT]
    return np.asarray(task.values[rows])
