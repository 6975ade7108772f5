"""Learning rates of every step of a run, as one table.

A table instead of a scheduler object: the step reads its learning rate from the device, and a
resumed run needs no more than its step number.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def learning_rates(
    schedule: str, peak: float, total_steps: int, warmup_share: float
) -> NDArray[np.float32]:
    """The learning rate of each step, shape (total_steps,).

    `constant` stays at `peak`. `one_cycle` rises linearly over the first `warmup_share` of the
    steps and then falls linearly to zero.

    Source: Smith & Topin (2019), "Super-convergence".
    """
    # Middle of each step: the first is not wasted at zero, nor the last.
    share = (np.arange(total_steps) + 0.5) / total_steps
    if schedule == "constant":
        factor = np.ones(total_steps)
    else:
        rise = share / max(warmup_share, 1e-12)
        fall = (1.0 - share) / (1.0 - warmup_share)
        factor = np.minimum(rise, fall)
    return (peak * factor).astype(np.float32)
