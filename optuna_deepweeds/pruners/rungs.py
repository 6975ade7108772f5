"""Rungs: the resources at which a trial is compared with all trials that came as far.

Values here are in the direction "larger is better".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np


def rung_steps(min_resource: int, max_resource: int, reduction_factor: int) -> list[int]:
    """Return `min_resource` times the powers of `reduction_factor`, all below `max_resource`.

    Powers are built by multiplication: the floor of a logarithm loses a rung to rounding.
    """
    steps = []
    step = min_resource
    while step < max_resource:
        steps.append(step)
        step *= reduction_factor
    return steps


def value_at(curve: Mapping[int, float], rung: int, window: int = 1) -> float:
    """Return the value of a curve at a rung: the mean of its last `window` reports up to there.

    A curve with gaps that jumps over the rung is read at its first report after it.

    Args:
        curve: reports by step, in any order.
        rung: a step that the curve has reached.
        window: number of reports to average, at least 1.

    Returns:
        NaN when the curve has not reached the rung, or when a report in the window is not finite.
    """
    at = min((step for step in curve if step >= rung), default=None)
    if at is None:
        return float("nan")
    steps = sorted(step for step in curve if step <= at)[-window:]
    value = float(np.mean([curve[step] for step in steps]))
    return value if np.isfinite(value) else float("nan")


def is_in_top(value: float, others: Sequence[float], share: float) -> bool:
    """Tell whether `value` is among the best max(1, floor(n * share)) of n values.

    Args:
        value: the value in question; NaN never passes.
        others: the n - 1 other values seen at the rung; NaN counts as a value that is worst.
        share: share of the values that passes, in (0, 1].

    A value that equals an earlier one ranks behind it: networks that all predict one class have
    equal accuracies, and letting ties pass together would train every one of them.
    """
    if np.isnan(value):
        return False
    values = np.nan_to_num(np.asarray(others, dtype=float), nan=-np.inf)
    n_pass = max(1, int((len(values) + 1) * share + 1e-9))
    return int(np.count_nonzero(values >= value)) < n_pass
