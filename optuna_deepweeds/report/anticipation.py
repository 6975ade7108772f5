"""DORA's anticipations against what came of the trials it let go on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from optuna.trial import TrialState

from optuna_deepweeds import attributes
from optuna_deepweeds.report.chart import Chart, Mark, Panel
from optuna_deepweeds.report.view import StudyView


@dataclass(frozen=True)
class Foreseen:
    """One anticipation whose trial was trained to its end later.

    Attributes:
        number: The complete trial.
        epoch: When it was foreseen.
        expected, low, high: The foreseen final value and its interval; the ends are NaN if none
            was given.
        outcome: The final value.
    """

    number: int
    epoch: int
    expected: float
    low: float
    high: float
    outcome: float

    @property
    def is_inside(self) -> bool:
        """Whether the outcome lies in the interval."""
        return self.low <= self.outcome <= self.high


def foreseen(view: StudyView) -> list[Foreseen]:
    """Anticipations of complete trials and of the paused trials that these continue."""
    by_number = {t.number: t for t in view.trials}
    found = []
    for trial in view.own:
        if trial.state != TrialState.COMPLETE or trial.value is None:
            continue
        link = trial
        seen = set[int]()
        while link.number not in seen:
            seen.add(link.number)
            one = _judged(link.user_attrs.get(attributes.ANTICIPATION), trial.number, trial.value)
            # The anticipation at the last epoch foresees nothing.
            if one is not None and one.epoch < max(trial.intermediate_values, default=0):
                found.append(one)
            link = by_number.get(link.user_attrs.get(attributes.ORIGIN, trial.number), trial)
    return found


def _judged(stored: Any, number: int, outcome: float) -> Foreseen | None:
    if not isinstance(stored, dict) or stored.get("expected") is None:
        return None
    low, high = stored.get("low"), stored.get("high")
    return Foreseen(
        number=number,
        epoch=int(stored.get("epoch", 0)),
        expected=float(stored["expected"]),
        low=math.nan if low is None else float(low),
        high=math.nan if high is None else float(high),
        outcome=outcome,
    )


def anticipation_sentence(view: StudyView) -> str:
    """How the anticipations turned out, or an empty text without any."""
    found = foreseen(view)
    if not found:
        return ""
    errors = [f.outcome - f.expected for f in found]
    mean, size = sum(errors) / len(errors), sum(map(abs, errors)) / len(errors)
    bounded = [f for f in found if not math.isnan(f.low)]
    text = (
        f"{len(found)} anticipations can be judged by a trial that was trained to its end: "
        f"they are {size:.3g} off on average, and outcomes lie {abs(mean):.3g} "
        f"{'above' if mean > 0 else 'below'} them."
    )
    if bounded:
        text += f" {sum(f.is_inside for f in bounded)} of {len(bounded)} lie in their interval."
    if len(found) < 10:
        text += " These are few."
    return text


def anticipation_chart(view: StudyView) -> Chart | None:
    """Outcome against expectation with intervals, and the diagonal; None without any."""
    found = foreseen(view)
    if not found:
        return None
    x: list[float | None] = []
    y: list[float | None] = []
    for f in found:
        if not math.isnan(f.low):
            x += [f.low, f.high, None]
            y += [f.outcome, f.outcome, None]
    values = [v for f in found for v in (f.expected, f.outcome)]
    ends = [min(values), max(values)]
    texts = [
        f"trial {f.number}, foreseen after epoch {f.epoch}: {f.expected:.4g}, came {f.outcome:.4g}"
        for f in found
    ]
    marks = (
        Mark("line", ends, ends, "as foreseen", "grid", dash=True),
        Mark("line", x, y, "interval", "finished", opacity=0.35, width=1.2),
        Mark(
            "points", [f.expected for f in found], [f.outcome for f in found],
            f"anticipations ({len(found)})", "finished", texts=texts,
        ),
    )  # fmt: skip
    panel = Panel(marks, x_label=f"expected {view.metric}", y_label=f"final {view.metric}")
    return Chart(
        "anticipation",
        "Anticipation against outcome",
        (panel,),
        "Above the diagonal a trial became better than foreseen. Only trials that were let go on "
        "can be judged, so the picture is theirs alone.",
    )
