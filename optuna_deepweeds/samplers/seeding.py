"""Generators that depend on the seed and the trial alone.

A generator carried from trial to trial would be lost with its process: a resumed study would
repeat the draws of its first trials, and two workers would start alike.
"""

from __future__ import annotations

import zlib

import numpy as np


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
