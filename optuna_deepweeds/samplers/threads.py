"""Linear algebra of small matrices on one thread."""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager
from typing import Any

from threadpoolctl import ThreadpoolController


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
