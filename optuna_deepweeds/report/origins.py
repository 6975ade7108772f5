"""Where a study's configurations came from, and whether its first steps misled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from optuna_deepweeds.attributes import ENQUEUED_PRIOR, ORIGIN, RETRY_OF, SUGGESTED
from optuna_deepweeds.trials import are_opposed, replaced, sign, worths

_NAMES = {"start": "drawn before there was a model", "model": "model", "probe": "model, to probe"}


def suggestions(trials: Sequence[FrozenTrial]) -> dict[str, int]:
    """How many configurations came from where, most first; continuations are not counted.

    Empty for samplers that do not tell.
    """
    counts: Counter[str] = Counter()
    for trial in trials:
        if trial.user_attrs.keys() & {ORIGIN, RETRY_OF}:
            continue
        if ENQUEUED_PRIOR in trial.user_attrs:
            counts["priors"] += 1
        elif "fixed_params" in trial.system_attrs:
            counts["enqueued"] += 1
        elif (told := trial.user_attrs.get(SUGGESTED)) in _NAMES:
            counts[_NAMES[told]] += 1
    return dict(counts.most_common()) if counts.keys() & set(_NAMES.values()) else {}


def misleading_steps(trials: Sequence[FrozenTrial], direction: StudyDirection) -> list[int]:
    """Steps 1, 2, 4, ... at which trials stood in the opposite order of the step twice as far."""
    superfluous = replaced(trials)
    curves = [
        {step: sign(direction) * value for step, value in trial.intermediate_values.items()}
        for trial in trials
        if trial.number not in superfluous and trial.intermediate_values
    ]
    longest = max((max(curve) for curve in curves), default=0)
    steps = [2**k for k in range(longest.bit_length())]
    # (trials, steps)
    worth = np.array([worths(curve, steps) for curve in curves]).reshape(len(curves), len(steps))
    found = []
    for k, step in enumerate(steps[:-1]):
        pairs = worth[np.isfinite(worth[:, k : k + 2]).all(axis=1), k : k + 2]
        if are_opposed(pairs[:, 0].tolist(), pairs[:, 1].tolist()):
            found.append(step)
    return found
