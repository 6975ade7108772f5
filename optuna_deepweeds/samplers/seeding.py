"""What makes a suggestion a function of the seed and the study's trials alone.

Generators are derived for each trial (`optuna_deepweeds.seeds`), and the number of cores changes
no rounding.
"""

from __future__ import annotations

import functools
import secrets
from contextlib import AbstractContextManager
from typing import Any

from threadpoolctl import ThreadpoolController

from optuna_deepweeds.schema import require_whole


def root_seed(seed: int | None) -> int:
    """`seed`, or fresh entropy in its place.

    Raises:
        InvalidInputError: `seed` is negative, or no whole number.
    """
    if seed is None:
        return secrets.randbits(128)
    require_whole("seed", seed, at_least=0)
    return int(seed)


def single_threaded() -> AbstractContextManager[Any]:
    """NumPy's and SciPy's linear algebra takes one thread of this process within the block.

    Matrices of a few hundred rows gain nothing from more, and where other processes use the
    cores, as other workers do, waiting for the threads costs ten times what is computed. The
    number of cores then no longer changes roundings either, and with them suggestions.
    """
    return _controller().limit(limits=1)


@functools.cache
def _controller() -> ThreadpoolController:
    # Looking for the libraries takes milliseconds. PyTorch's threads are left alone.
    return ThreadpoolController().select(internal_api="openblas")
