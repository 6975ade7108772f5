"""The ground floor of a search: which networks exist.

`SPACES` maps names to spaces: `course` is the published one, `modern` a wider one of our own;
`course-small` and `modern-small` are their parts for machines without a GPU.
"""

from __future__ import annotations

from optuna_deepweeds.spaces.course import COURSE, COURSE_SMALL
from optuna_deepweeds.spaces.modern import MODERN, MODERN_SMALL
from optuna_deepweeds.spaces.search_space import (
    Condition,
    Parameter,
    SearchSpace,
    contains,
    describe,
    seen_space,
)

SPACES: dict[str, SearchSpace] = {
    space.name: space for space in (COURSE, COURSE_SMALL, MODERN, MODERN_SMALL)
}

__all__ = ["SPACES", "Condition", "Parameter", "SearchSpace", "contains", "describe", "seen_space"]
