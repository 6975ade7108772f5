"""The study's own figures beside Optuna's; each is None where there is nothing to draw."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from optuna.trial import FrozenTrial

from optuna_deepweeds.report.drawing import (
    COLOURS,
    Drawing,
    axes,
    finite,
    line,
    points,
    some_of,
    thinned,
)
from optuna_deepweeds.report.standing import state_of
from optuna_deepweeds.report.view import StudyView

_MAX_CURVES = 500
FORESEEN = "Foreseen and what came"


def study_figures(view: StudyView) -> dict[str, Drawing]:
    """Every figure of the study that there is something to draw for, by key."""
    from optuna_deepweeds.report.optuna_plots import optuna_plots

    return {drawing.key: drawing for drawing in (*own_figures(view), *optuna_plots(view))}


def own_figures(view: StudyView) -> list[Drawing]:
    """Those that Optuna has no plot for."""
    made = (learning_curves(view), anticipation(view))
    return [drawing for drawing in made if drawing is not None]


def learning_curves(view: StudyView) -> Drawing | None:
    """Every trial's curve; the parent of a continued trial is part of its successor's curve."""
    found = [t for t in view.trials if t.intermediate_values and t.number not in view.replaced]
    if not found:
        return None
    trials = thinned(found, n=_MAX_CURVES)
    caption = some_of(trials, len(found), "curves")  # The best one has a line of its own.
    best = view.progress.best
    last = max(max(t.intermediate_values) for t in trials)
    traces = []
    for state in ("paused", "stopped", "failed", "interrupted", "running", "complete"):
        chosen = [t for t in trials if state_of(t) == state]
        if not chosen or chosen == [best]:  # One line would hide the other.
            continue
        opacity = 0.8 if len(chosen) <= 30 else 0.6 if len(chosen) <= 150 else 0.45
        name, is_cut = f"{state} ({len(chosen)})", state in ("paused", "stopped", "failed")
        traces.append(_curves(chosen, name, COLOURS[state], 1.3, opacity))
        if is_cut:
            traces.append(_ends(chosen, state, min(1.0, opacity + 0.2)))
    expected = [f for t in trials if (f := view.outlook.get(t.number)) and f.outcome is None]
    if expected and last > 1:
        texts = [
            f"trial {f.number}: {f.expected:.4g} expected ({f.low:.4g} to {f.high:.4g})"
            for f in expected
        ]
        name, y = f"where they would end ({len(expected)})", [f.expected for f in expected]
        style = {"symbol": "diamond", "color": COLOURS["grid"], "opacity": 0.5}
        traces.append(points([view.epochs or last] * len(y), y, name, texts, size=5, **style))
    if best is not None and best.intermediate_values:
        name = f"best: trial {best.number}"
        traces.append(_curves([best], name, COLOURS["best"], 2.6, 1.0))
    figure = axes(traces, "epoch", view.metric, 420, view.limits, dtick=1 if last < 9 else None)
    return Drawing("learning-curves", "Learning curves", figure, caption)


def _curves(
    trials: Sequence[FrozenTrial],
    name: str,
    colour: str,
    width: float,
    opacity: float,
) -> Any:
    x: list[float | None] = []
    y: list[float | None] = []
    texts: list[str] = []
    for trial in trials:
        head = f"trial {trial.number} ({state_of(trial)}), epoch"
        for epoch, value in sorted(trial.intermediate_values.items()):
            x.append(epoch)
            y.append(finite(value))
            texts.append(f"{head} {epoch}: {value:.4g}")
        x.append(None)
        y.append(None)
        texts.append("")
    return line(x, y, name, texts, color=colour, width=width, opacity=opacity)


def _ends(trials: Sequence[FrozenTrial], state: str, opacity: float) -> Any:
    """Where curves were cut off: with one epoch there is no line to see."""
    x = [max(t.intermediate_values) for t in trials]
    y = [t.intermediate_values[e] for t, e in zip(trials, x, strict=True)]
    texts = [f"trial {t.number} {state} after epoch {e}" for t, e in zip(trials, x, strict=True)]
    style = {"symbol": "x" if state == "failed" else "circle", "color": COLOURS[state], "size": 4}
    return points(x, list(map(finite, y)), "", texts, opacity=opacity, **style)


def anticipation(view: StudyView) -> Drawing | None:
    """Outcome against expectation with intervals, and the diagonal; None without any."""
    judged = view.judged
    if not judged:
        return None
    numbers = [t.number for t in view.ranked[:1]]
    found = thinned(judged, [i for i, f in enumerate(judged) if f.number in numbers])
    x = [v for f in found for v in (f.low, f.high, None)]
    y = [v for f in found for v in (f.outcome, f.outcome, None)]
    values = [v for v in (*x, *y) if v is not None]
    ends = [min(values), max(values)]
    texts = [
        f"trial {f.number}, foreseen after epoch {f.epoch}: {f.expected:.4g}, came {f.outcome:.4g}"
        for f in found
    ]
    expected, outcomes = [f.expected for f in found], [f.outcome for f in found]
    traces = (
        line(ends, ends, "came as foreseen", color=COLOURS["grid"], dash="dash"),
        line(x, y, "90 % interval", width=1.2, opacity=0.35),
        points(expected, outcomes, f"forecasts ({len(judged)})", texts),
    )
    caption = (
        "Only trials that were let go on can be judged, so the picture is theirs alone."
    ) + some_of(found, len(judged), "forecasts")
    labels = (f"{view.metric} foreseen", f"{view.metric} that came")
    margin = 0.04 * (ends[1] - ends[0]) or 0.1
    both = [max(ends[0] - margin, view.limits[0]), min(ends[1] + margin, view.limits[1])]
    figure = axes(traces, *labels, range=both).update_yaxes(range=both)
    return Drawing("anticipation", FORESEEN, figure, caption)
