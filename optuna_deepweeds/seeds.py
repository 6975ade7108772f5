"""Seeds and generators that depend on one seed and on what they are for, and on nothing else.

A generator carried from trial to trial would be lost with its process: a resumed study would
repeat the draws of its first trials, and two workers would start alike. Two uses of one seed must
not draw the same numbers either, so each names its purpose: numbers (of a trial, of an epoch) and
a word, for example `derive(seed, root, "training")`.
"""

from __future__ import annotations

import zlib

import numpy as np

Purpose = int | str


def derive(seed: int, *purpose: Purpose) -> int:
    """A seed below 2**32, the same on every machine."""
    return int(np.random.SeedSequence(_entropy(seed, purpose)).generate_state(1)[0])


def generator(seed: int, *purpose: Purpose) -> np.random.Generator:
    """A generator, the same on every machine."""
    return np.random.default_rng(_entropy(seed, purpose))


def _entropy(seed: int, purpose: tuple[Purpose, ...]) -> list[int]:
    """What NumPy mixes; words by a digest that does not change with the process, as `hash` does.

    NumPy takes trailing zeros for nothing, so a purpose that may end with 0 needs a word.
    """
    return [seed, *(zlib.crc32(p.encode()) if isinstance(p, str) else int(p) for p in purpose)]
