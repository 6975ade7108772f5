"""One earlier evaluation, whatever file or study it came from."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

Direction = Literal["maximize", "minimize"]
STOPPED_EARLY = "stopped early"
"""The problem of a trial that a pruner stopped."""


@dataclass(frozen=True)
class PriorTrial:
    """A configuration that somebody has trained before, and what came out.

    Attributes:
        params: Parameters as they were read: unknown names, inactive ones and constants
            included; `matching` sorts them out.
        value: The final value in the metric's own direction; NaN or infinite if the row holds
            such a value (matching drops it).
        direction: Whether a larger `value` is better; None if unknown.
        metric: "accuracy" and "error" (1 - accuracy) convert into each other; other names mean
            a metric that cannot be turned round; empty if unknown.
        source: Short name of where it comes from: a file's stem or a study's name.
        where: Place within the source, for messages: "line 12", "trial 7".
        curve: Value after each epoch (1-based), same metric and direction; empty if unknown.
        epochs: Epochs trained, if known.
        seconds: Seconds trained, if known.
        dataset: Name of the data set, if known.
        problem: Why this row is no full evaluation ("status is CRASHED"); empty for a good one.
        is_forecast: Whether `value` counts as what was expected of a longer training, where one is
            asked for.
    """

    params: Mapping[str, Any]
    value: float
    direction: Direction | None
    metric: str
    source: str
    where: str
    curve: Mapping[int, float] = field(default_factory=dict)
    epochs: int | None = None
    seconds: float | None = None
    dataset: str | None = None
    problem: str = ""
    is_forecast: bool = False

    @property
    def loss(self) -> float:
        """`value` with its sign changed where needed: smaller is better; NaN where unknown."""
        if self.direction is None:
            return math.nan
        return -self.value if self.direction == "maximize" else self.value


WAYS: dict[str, Direction] = {"accuracy": "maximize", "error": "minimize"}
"""Metrics that convert into each other, and where better lies."""

_QUALIFIERS = {"valid", "validation", "val", "dev", "test", "eval", "final", "best", "rate"}
_METRICS = {
    "accuracy": "accuracy",
    "acc": "accuracy",
    "error": "error",
    "err": "error",
    "classification error": "error",
    "misclassification": "error",
}


def canonical_metric(name: str) -> str:
    """ "accuracy" or "error" where a metric's name says just that, else the name as it is.

    "validation accuracy" and "val_acc" do; "balanced accuracy" and "mean squared error" do not.
    """
    words = " ".join(w for w in re.findall(r"[a-z]+", name.lower()) if w not in _QUALIFIERS)
    return _METRICS.get(words, name.strip())


def with_metric(priors: Sequence[PriorTrial], metric: str | None) -> list[PriorTrial]:
    """`priors` as evaluations of `metric`, whatever their source says; None leaves them."""
    if metric is None:
        return list(priors)
    known = canonical_metric(metric)
    return [replace(p, metric=known, direction=WAYS.get(known, p.direction)) for p in priors]


def parse_cell(text: str) -> Any:
    """A CSV cell as the Python value it spells: bool, int, float or text; empty gives None."""
    text = text.strip()
    if text == "":
        return None
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
