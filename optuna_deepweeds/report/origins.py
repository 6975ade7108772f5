"""Where a study's configurations came from, and whether its first steps misled."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from optuna_deepweeds.attributes import ENQUEUED_PRIOR, ORIGIN, RETRY_OF, SUGGESTED
from optuna_deepweeds.trials import are_opposed, replaced, sign, worth_at

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
    found = []
    for step in (2**k for k in range(max(0, longest.bit_length() - 1))):
        pairs = [(worth_at(c, step), worth_at(c, 2 * step)) for c in curves if max(c) >= 2 * step]
        pairs = [pair for pair in pairs if all(map(math.isfinite, pair))]
        if are_opposed([early for early, _ in pairs], [late for _, late in pairs]):
            found.append(step)
    return found
