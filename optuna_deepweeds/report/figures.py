"""The study's own figures beside Optuna's; each is None where there is nothing to draw."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial

from optuna_deepweeds.report.cleaned import last_value
from optuna_deepweeds.report.drawing import (
    COLOURS,
    Drawing,
    axes,
    limits,
    line,
    points,
    some_of,
    styled,
    thinned,
)
from optuna_deepweeds.report.incumbent import trajectory
from optuna_deepweeds.report.view import StudyView

_KINDS = ("stopped", "failed", "running", "continued", "finished")
_MAX_CURVES = 500


def study_figures(view: StudyView) -> dict[str, Drawing]:
    """Every figure of the study that there is something to draw for, by key."""
    from optuna_deepweeds.report.optuna_plots import optuna_plots

    return {drawing.key: drawing for drawing in (*own_figures(view), *optuna_plots(view))}


def own_figures(view: StudyView) -> list[Drawing]:
    """Those that Optuna has no plot for."""
    made = (learning_curves(view), spending(view), anticipation(view))
    return [drawing for drawing in made if drawing is not None]


def learning_curves(view: StudyView) -> Drawing | None:
    """Every trial's curve; the parent of a continued trial is part of its successor's curve."""
    found = [t for t in view.trials if t.intermediate_values and t.number not in view.replaced]
    if not found:
        return None
    trials = thinned(found, n=_MAX_CURVES)
    caption = some_of(trials, len(found), "curves")  # The best one has a line of its own.
    opacity = 0.8 if len(trials) <= 30 else 0.5 if len(trials) <= 150 else 0.3
    best = view.progress.best
    traces = []
    for kind in _KINDS:
        chosen = [t for t in trials if view.kind(t) == kind]
        if not chosen or chosen == [best]:  # One line would hide the other.
            continue
        name, shade = f"{kind} ({len(chosen)})", opacity * (0.7 if kind == "stopped" else 1)
        traces.append(_curves(view, chosen, name, COLOURS[kind], 1.3, shade))
        if kind in ("stopped", "failed"):
            traces.append(_ends(chosen, kind, min(1.0, opacity + 0.2)))
    if best is not None and best.intermediate_values:
        name = f"best: trial {best.number}"
        traces.append(_curves(view, [best], name, COLOURS["best"], 2.6, 1.0))
    last = max(max(t.intermediate_values) for t in trials)
    figure = axes(traces, "epoch", view.metric, 420, dtick=1 if last < 9 else None)
    return Drawing("learning-curves", "Learning curves", figure, caption)


def _curves(
    view: StudyView,
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
        head = f"trial {trial.number} ({view.kind(trial)}), epoch"
        for epoch, value in sorted(trial.intermediate_values.items()):
            x.append(epoch)
            y.append(value if math.isfinite(value) else None)
            texts.append(f"{head} {epoch}: {value:.4g}")
        x.append(None)
        y.append(None)
        texts.append("")
    return line(x, y, name, texts, color=colour, width=width, opacity=opacity)


def _ends(trials: Sequence[FrozenTrial], kind: str, opacity: float) -> Any:
    """Where curves were cut off: with one epoch there is no line to see."""
    x = [max(t.intermediate_values) for t in trials]
    texts = [f"trial {t.number} {kind} after epoch {e}" for t, e in zip(trials, x, strict=True)]
    style = {"symbol": "x" if kind == "failed" else "circle", "color": COLOURS[kind], "size": 4}
    return points(x, [last_value(t) for t in trials], "", texts, opacity=opacity, **style)


def spending(view: StudyView) -> Drawing | None:
    """The incumbent against epochs and against time, a point at each trial that ended."""
    from plotly.subplots import make_subplots

    run = trajectory(view)
    if not len(run.values):
        return None
    rises = np.flatnonzero(np.diff(run.values)) + 1
    shown = thinned(range(len(run.values)), rises.tolist())
    caption = some_of(shown, len(run.values), "finished trials")
    values = run.values[shown].tolist()
    figure = make_subplots(cols=2, horizontal_spacing=0.11)
    for column, (x, end, label) in enumerate(
        (
            (run.epochs[shown], run.total_epochs, "epochs trained"),
            (run.seconds[shown] / 60, run.total_seconds / 60, "minutes"),
        ),
        1,
    ):
        step = line([*x.tolist(), end], [*values, values[-1]], width=2.2, shape="hv")
        for trace in (step, points(x.tolist(), values, size=5)):
            figure.add_trace(trace, row=1, col=column)
        ends = (0.0, 1.02 * end) if end > 0 else None
        figure.update_xaxes(title_text=label, range=ends, col=column)
    figure.update_yaxes(range=limits(figure.data))
    figure.update_yaxes(title_text=html.escape(f"best {view.metric}"), col=1)
    title = "Best network against what it cost"
    return Drawing("spending", title, styled(figure, 300), caption, 420)


def anticipation(view: StudyView) -> Drawing | None:
    """Outcome against expectation with intervals, and the diagonal; None without any."""
    judged = view.calibration.points
    if not judged:
        return None
    numbers = [t.number for t in view.ranked[:1]]
    found = thinned(judged, [i for i, f in enumerate(judged) if f.number in numbers])
    x: list[float | None] = []
    y: list[float | None] = []
    for f in found:
        x += [f.low, f.high, None]
        y += [f.outcome, f.outcome, None]
    values = [v for f in found for v in (f.expected, f.outcome)]
    ends = [min(values), max(values)]
    texts = [
        f"trial {f.number}, foreseen after epoch {f.epoch}: {f.expected:.4g}, came {f.outcome:.4g}"
        for f in found
    ]
    expected, outcomes = [f.expected for f in found], [f.outcome for f in found]
    traces = (
        line(ends, ends, "as foreseen", color=COLOURS["grid"], dash="dash"),
        line(x, y, "interval", width=1.2, opacity=0.35),
        points(expected, outcomes, f"anticipations ({len(judged)})", texts),
    )
    caption = (
        "Off the dashed line a trial ended otherwise than foreseen. Only trials that were let go "
        "on can be judged, so the picture is theirs alone."
    ) + some_of(found, len(judged), "anticipations")
    figure = axes(traces, f"expected {view.metric}", f"final {view.metric}")
    return Drawing("anticipation", "Anticipation against outcome", figure, caption)
