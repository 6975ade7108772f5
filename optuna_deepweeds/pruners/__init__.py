"""Pruners by name, and DORA."""

from __future__ import annotations

import pkgutil
from typing import TYPE_CHECKING, Any

from optuna.pruners import BasePruner

from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.schema import choose

if TYPE_CHECKING:
    from optuna_deepweeds.pruners.dora import DoraPruner

_DORA = f"{__name__}.dora:DoraPruner"

PRUNERS: dict[str, tuple[str, str]] = {
    "none": ("optuna.pruners:NopPruner", "every trial is trained to the end"),
    "asha": (
        "optuna.pruners:SuccessiveHalvingPruner",
        "successive halving from the first epoch on, one in three passes a rung",
    ),
    "hyperband": (
        "optuna.pruners:HyperbandPruner",
        "several successive halvings with different first rungs",
    ),
    "median": (
        "optuna.pruners:MedianPruner",
        "stops below the median of earlier trials at the same epoch",
    ),
    "dora": (_DORA, "pauses trials at doubling epochs and continues the best"),
}
"""By name, where the class lies and what it does in a sentence."""

__all__ = ["PRUNERS", "DoraPruner", "make_pruner"]


def make_pruner(
    name: str,
    *,
    max_resource: int,
    min_resource: int = 1,
    thaw: bool = False,
    **options: Any,
) -> BasePruner:
    """Return the pruner called `name`.

    Args:
        name: one of `PRUNERS`.
        max_resource: step of a full training's last report.
        min_resource: first step at which a trial may be stopped.
        thaw: for `dora` alone; see `DoraPruner`.
        options: further arguments of the pruner's class; they win over our settings.

    Raises:
        InvalidInputError: No pruner has this name, or it has no such option.
    """
    choose("pruner", name, PRUNERS)
    resources = {"min_resource": min_resource, "max_resource": max_resource}
    settings: dict[str, dict[str, Any]] = {
        "asha": {"min_resource": min_resource, "reduction_factor": 3},
        "hyperband": resources,
        "median": {"n_warmup_steps": min_resource},
        "dora": {**resources, "thaw": thaw},
    }
    try:
        pruner: BasePruner = pkgutil.resolve_name(PRUNERS[name][0])(
            **{**settings.get(name, {}), **options}
        )
    except InvalidInputError:
        raise
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"pruner {name!r} does not take these options: {error}.") from None
    return pruner


def __getattr__(name: str) -> Any:
    # Imported when asked for: its distributions take SciPy, which takes a second.
    if name != "DoraPruner":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return pkgutil.resolve_name(_DORA)
