"""What to try next: samplers by name, our own among them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler

from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.samplers.peers import PerTrialSampler
from optuna_deepweeds.spaces import SearchSpace

if TYPE_CHECKING:
    from optuna_deepweeds.samplers.dngo import DNGOSampler
    from optuna_deepweeds.samplers.random_forest_ei import RandomForestEISampler
    from optuna_deepweeds.samplers.sources import SourceMatch, summarise_sources
    from optuna_deepweeds.samplers.transfer import PriorSource

# Imported when asked for: scikit-learn and SciPy take a second, and whoever lists studies or
# starts a worker with another sampler needs neither.
_LAZY = {
    "DNGOSampler": "dngo",
    "PriorSource": "transfer",
    "RandomForestEISampler": "random_forest_ei",
    "SourceMatch": "sources",
    "summarise_sources": "sources",
}

_OPTUNA: dict[str, Callable[..., BaseSampler]] = {
    "random": RandomSampler,
    "tpe": TPESampler,
    "gp": GPSampler,
}

SAMPLERS: dict[str, str] = {
    "random": "uniform draws (Optuna)",
    "tpe": "tree-structured Parzen estimator (Optuna)",
    "gp": "Gaussian process with log expected improvement (Optuna)",
    "rf_ei": "random forest with log expected improvement; uses conditions and priors",
    "dngo": "network features with a Bayesian linear head; uses conditions and priors",
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
    try:
        if name in _OPTUNA:
            create = partial(_OPTUNA[name], **options)
            create(seed=0)  # an unknown option shows here, not in the middle of a study
            return PerTrialSampler(create, seed=seed)
        if name == "rf_ei":
            from optuna_deepweeds.samplers.random_forest_ei import RandomForestEISampler

            return RandomForestEISampler(seed=seed, space=space, priors=priors, **options)
        if name == "dngo":
            from optuna_deepweeds.samplers.dngo import DNGOSampler

            return DNGOSampler(seed=seed, space=space, priors=priors, **options)
    except TypeError as error:
        raise InvalidInputError(f"sampler {name!r} refuses an option: {error}.") from error
    raise InvalidInputError(f"the sampler must be one of {', '.join(SAMPLERS)}, but got {name!r}.")


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)


__all__ = [
    "SAMPLERS",
    "DNGOSampler",
    "PriorSource",
    "RandomForestEISampler",
    "SourceMatch",
    "make_sampler",
    "summarise_sources",
]
