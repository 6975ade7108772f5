"""When to do again what is too dear for every suggestion.

What is fitted at a milestone is fitted to the first so many trials alone. So a sampler that
starts in the middle of a study arrives at the same, and what is kept only saves time.
"""

from __future__ import annotations

_GROWTH = 1.2


def milestone(n: int) -> int:
    """The largest number of trials up to n at which a study has grown by a fifth."""
    reached = min(n, 4)
    while True:
        following = max(reached + 1, int(reached * _GROWTH))
        if following > n:
            return reached
        reached = following
