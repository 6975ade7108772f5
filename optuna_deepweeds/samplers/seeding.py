"""What makes a suggestion a function of the seed and the study's trials alone.

A generator carried from trial to trial would be lost with its process: a resumed study would
repeat the draws of its first trials, and two workers would start alike. What is too dear for
every suggestion is fitted at milestones, to the first so many trials alone. And the number of
cores changes no rounding."""

from __future__ import annotations

import functools
import zlib
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController


def root_seed(seed: int | None) -> int:
    """`seed`, or fresh entropy in its place.

    Raises:
        ValueError: `seed` is negative.
    """
    if seed is None:
        entropy = np.random.SeedSequence().entropy
        assert isinstance(entropy, int)
        return entropy
    if seed < 0:
        raise ValueError(f"`seed >= 0` must hold, but got seed={seed}.")
    return int(seed)


def generator(seed: int, trial_number: int, purpose: str) -> np.random.Generator:
    """The generator of one trial for one purpose; the same on every machine."""
    return np.random.default_rng([seed, trial_number, zlib.crc32(purpose.encode())])


def derived_seed(seed: int, trial_number: int) -> int:
    """A seed below 2**32 for one trial, for samplers that make their own generator."""
    return int(np.random.SeedSequence([seed, trial_number]).generate_state(1)[0])


_GROWTH = 1.2


def milestone(n: int) -> int:
    """The largest number of trials up to n at which a study has grown by a fifth."""
    reached = min(n, 4)
    while True:
        following = max(reached + 1, int(reached * _GROWTH))
        if following > n:
            return reached
        reached = following


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
