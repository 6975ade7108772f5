"""Pruners by name, and DORA."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike
from optuna.pruners import BasePruner, HyperbandPruner, NopPruner, SuccessiveHalvingPruner

from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.pruners.peers import OwnMedianPruner

if TYPE_CHECKING:
    from optuna_deepweeds.pruners.dora import DoraPruner

PRUNERS = {
    "none": "every trial is trained to the end",
    "asha": "successive halving from the first epoch on, one in three passes a rung",
    "hyperband": "several successive halvings with different first rungs",
    "median": "stops below the median of earlier trials at the same epoch",
    "dora": "anticipates each curve's end; pauses trials and continues the best",
}
"""Names that `make_pruner` knows, each with one line of description."""

__all__ = ["PRUNERS", "DoraPruner", "make_pruner"]


def make_pruner(
    name: str,
    *,
    max_resource: int,
    min_resource: int = 1,
    seed: int | None = None,
    prior_curves: Sequence[ArrayLike] | None = None,
    thaw: bool = False,
    **options: Any,
) -> BasePruner:
    """Return the pruner called `name`.

    Args:
        name: one of `PRUNERS`.
        max_resource: step of a full training's last report.
        min_resource: first step at which a trial may be stopped.
        seed, prior_curves, thaw: for `dora` alone; see `DoraPruner`.
        options: further arguments of the pruner's class; they win over our settings.

    Raises:
        InvalidInputError: No pruner has this name, or it has no such option.
    """
    if name not in PRUNERS:
        close = difflib.get_close_matches(name, PRUNERS, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise InvalidInputError(
            f"pruner must be one of {', '.join(PRUNERS)}, but got {name!r}.{hint}"
        )
    try:
        if name == "none":
            return NopPruner(**options)
        if name == "asha":
            return SuccessiveHalvingPruner(
                **{"min_resource": min_resource, "reduction_factor": 3, **options}
            )
        if name == "hyperband":
            return HyperbandPruner(
                **{"min_resource": min_resource, "max_resource": max_resource, **options}
            )
        if name == "median":
            return OwnMedianPruner(**{"n_warmup_steps": min_resource, **options})
        from optuna_deepweeds.pruners.dora import DoraPruner

        return DoraPruner(
            max_resource=max_resource,
            min_resource=min_resource,
            seed=seed,
            prior_curves=prior_curves,
            thaw=thaw,
            **options,
        )
    except TypeError as error:
        raise InvalidInputError(f"pruner {name!r} does not take these options: {error}.") from None


def __getattr__(name: str) -> Any:
    # Imported when asked for: its distributions take SciPy, which takes a second.
    if name != "DoraPruner":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from optuna_deepweeds.pruners.dora import DoraPruner

    return DoraPruner
