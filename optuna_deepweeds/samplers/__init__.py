"""What to try next: samplers by name, our own among them."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from optuna.samplers import BaseSampler

from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.samplers.optuna_samplers import PerTrialSampler
from optuna_deepweeds.spaces import SearchSpace

if TYPE_CHECKING:
    from optuna_deepweeds.samplers.beginning import portfolio
    from optuna_deepweeds.samplers.dngo import DNGOSampler
    from optuna_deepweeds.samplers.random_forest_ei import RandomForestEISampler
    from optuna_deepweeds.samplers.transfer import PriorSource, SourceMatch, summarise_sources

SAMPLERS: dict[str, tuple[str, str]] = {
    "random": ("optuna.samplers:RandomSampler", "uniform draws (Optuna)"),
    "tpe": ("optuna.samplers:TPESampler", "tree-structured Parzen estimator (Optuna)"),
    "gp": (
        "optuna.samplers:GPSampler",
        "Gaussian process with log expected improvement (Optuna)",
    ),
    "rf_ei": (
        f"{__name__}.random_forest_ei:RandomForestEISampler",
        "random forest with log expected improvement; uses conditions and priors",
    ),
    "dngo": (
        f"{__name__}.dngo:DNGOSampler",
        "network features with a Bayesian linear head; uses conditions and priors",
    ),
}
"""By name, where the class lies and what it is in a sentence."""

PORTFOLIO_SIZE = 4
"""Configurations of earlier tasks that a warm study begins with."""

# Imported when asked for: scikit-learn and SciPy take a second, and whoever lists studies or
# starts a worker with another sampler needs neither.
_LAZY = {
    "DNGOSampler": "dngo",
    "PriorSource": "transfer",
    "RandomForestEISampler": "random_forest_ei",
    "SourceMatch": "transfer",
    "portfolio": "beginning",
    "summarise_sources": "transfer",
}


def make_sampler(
    name: str,
    *,
    seed: int | None = None,
    space: SearchSpace | None = None,
    priors: Sequence[PriorSource] = (),
    **options: Any,
) -> BaseSampler:
    """The sampler called `name`, one of `SAMPLERS`.

    All of them give the same trials for the same seed, interrupted or not.

    Args:
        name: One of `SAMPLERS`.
        seed: None takes fresh entropy.
        space: Exact conditions for `rf_ei` and `dngo`; Optuna's samplers have no use for it.
        priors: Evaluations of other tasks for `rf_ei` and `dngo`.
        options: Further arguments of the sampler's class.

    Raises:
        InvalidInputError: An unknown name, or an option that the class does not take.
    """
    if name not in SAMPLERS:
        raise InvalidInputError(
            f"the sampler must be one of {', '.join(SAMPLERS)}, but got {name!r}."
        )
    path, _ = SAMPLERS[name]
    create = partial(pkgutil.resolve_name(path), **options)
    try:
        if path.startswith("optuna."):
            create(seed=0)  # an unknown option shows here, not in the middle of a study
            return PerTrialSampler(create, seed=seed)
        sampler: BaseSampler = create(seed=seed, space=space, priors=priors)
    except TypeError as error:
        raise InvalidInputError(f"sampler {name!r} refuses an option: {error}.") from error
    return sampler


def takes_priors(name: str) -> bool:
    """Whether the sampler of this name can be given evaluations of other tasks."""
    return name in SAMPLERS and not SAMPLERS[name][0].startswith("optuna.")


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)


__all__ = [
    "PORTFOLIO_SIZE",
    "SAMPLERS",
    "DNGOSampler",
    "PriorSource",
    "RandomForestEISampler",
    "SourceMatch",
    "make_sampler",
    "portfolio",
    "summarise_sources",
    "takes_priors",
]
