"""Optuna's own plots of a study."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from optuna import visualization
from optuna.trial import FrozenTrial, TrialState

from optuna_deepweeds.report.cleaned import FixedStudy, as_they_ran, cleaned
from optuna_deepweeds.report.drawing import (
    COLOURS,
    SCALE,
    Drawing,
    points,
    reach,
    some_of,
    styled,
    thinned,
)
from optuna_deepweeds.report.standing import state_of
from optuna_deepweeds.report.view import StudyView

MIN_TRIALS = 12
"""Fewer trials give no importance: the best tenth of them would be one."""
_MAX_BARS = 1000
_MAX_JUDGED = 2000
_MAX_THREADS = 200
_SLICES_A_ROW = 4


def optuna_plots(view: StudyView) -> list[Drawing]:
    """Every plot that there is something to draw for."""
    plots = []
    if len(view.trials) > 1 and view.ranked:
        plots.append(_history(view))
    if sum(t.datetime_start is not None for t in view.trials) > 1:
        plots.append(_timeline(view))
    ended = cleaned(view)
    if len(ended) < 2:
        return plots
    best_first = sorted(ended, key=lambda t: -view.sign * t.values[0])
    best = ended.index(best_first[0])
    if len(ended) >= MIN_TRIALS and len({t.value for t in ended}) > 1:
        plots.append(_importance(view, ended, best))
    return [*plots, _slices(view, ended, best), _parallel(view, best_first)]


def _n_params(trials: Sequence[FrozenTrial]) -> int:
    return len({name for trial in trials for name in trial.params})


def _history(view: StudyView) -> Drawing:
    found = [
        t for t in view.trials
        if t.state == TrialState.COMPLETE or t is view.trials[-1] or view.end_of(t) is not None
    ]  # fmt: skip
    worth = [
        view.sign * t.values[0] if t.state == TrialState.COMPLETE else -math.inf for t in found
    ]
    best_so_far = np.maximum.accumulate(worth)
    rises = np.flatnonzero(np.append(-math.inf, best_so_far[:-1]) < best_so_far)
    shown = thinned(found, rises.tolist())
    ran = as_they_ran(shown)
    for place, trial in enumerate(ran):
        trial.number = place  # Optuna looks up values by it.
    study = FixedStudy(view.direction, ran)
    figure = visualization.plot_optimization_history(study, target_name=view.metric)
    for trace in figure.data:
        trace.update(x=[shown[place].number for place in trace.x])
    figure.update_traces(marker_color=COLOURS["complete"], name="complete", selector=0)
    style = {"color": COLOURS["best"], "shape": "hv"}
    figure.update_traces(line=style, name="best so far", selector=1)
    caption = ""
    for state in ("paused", "stopped"):
        cut = [t for t in shown if state_of(t) == state and t.number not in view.replaced]
        if cut := [t for t in cut if view.end_of(t) is not None]:
            x, y = [t.number for t in cut], [view.end_of(t) for t in cut]
            figure.add_trace(points(x, y, state, color=COLOURS[state], size=5))
            caption = view.where_they_stand
    figure.update_yaxes(**reach(figure.data, view.limits))
    figure.update_xaxes(dtick=1 if len(view.trials) < 9 else None)
    caption += some_of(shown, len(found))
    return Drawing("history", "Optimisation history", styled(figure, 340), caption)


def _timeline(view: StudyView) -> Drawing:
    n = len(view.trials)
    ran = FixedStudy(view.direction, as_they_ran(view.trials[-_MAX_BARS:]))
    figure = visualization.plot_timeline(ran)
    words = {t.number: state_of(t) for t in view.trials}
    bars, figure.data = figure.data, ()
    for bar in bars:  # One for each state of Optuna's.
        for word in dict.fromkeys(words[number] for number in bar.y):
            keep = [i for i, number in enumerate(bar.y) if words[number] == word]
            figure.add_trace(bar)
            parts = {k: [bar[k][i] for i in keep] for k in ("base", "text", "x", "y")}
            figure.data[-1].update(name=word, marker_color=COLOURS[word], **parts)
    if n < 8:
        figure.update_yaxes(dtick=1)
    caption = f"The last {_MAX_BARS:,} trials." if n > _MAX_BARS else ""
    return Drawing("timeline", "Timeline", styled(figure, 340), caption)


def _importance(view: StudyView, ended: Sequence[FrozenTrial], best: int) -> Drawing:
    judged = thinned(ended, [best], _MAX_JUDGED)
    study = FixedStudy(view.direction, judged)
    with warnings.catch_warnings(action="ignore"):  # Of few trials; the caption says so.
        figure = visualization.plot_param_importances(study, target_name=view.metric)
    figure.update_traces(showlegend=False, marker_color=COLOURS["complete"])
    caption = (
        f"How much each parameter decides whether one of these {len(judged):,} trials is among "
        "their best tenth, as shares of 1 (PED-ANOVA; parameters that not all trials have "
        "included)."
    ) + some_of(judged, len(ended))
    if len(judged) < 50:
        caption += " From so few trials the order is a hint, no more."
    height = 110 + 24 * len(figure.data[0].y)
    return Drawing("importance", "Parameter importance", styled(figure, height), caption)


def _slices(view: StudyView, ended: Sequence[FrozenTrial], best: int) -> Drawing:
    shown = thinned(ended, [best])
    figure = visualization.plot_slice(FixedStudy(view.direction, shown), target_name=view.metric)
    figure.update_traces(showlegend=False, marker_colorscale=SCALE)
    figure.update_xaxes(tickangle=0)
    figure.update_yaxes(**reach(figure.data, view.limits))
    n_params = _n_params(shown)
    n_rows = -(-n_params // _SLICES_A_ROW)
    columns = -(-n_params // n_rows)
    if n_params > 1:  # Optuna draws them in one row.
        width, height = 1 / columns, 1 / n_rows
        for i in range(n_params):
            row, column = divmod(i, columns)
            axis, top = str(i + 1) if i else "", 1 - row * height
            figure.layout[f"xaxis{axis}"].domain = (column * width, (column + 0.82) * width)
            side = {"domain": (top - 0.68 * height, top), "showticklabels": column == 0}
            figure.layout[f"yaxis{axis}"].update(side)
            if figure.layout[f"xaxis{axis}"].type == "log":
                _few_ticks(figure, axis)
    caption = view.where_they_stand + some_of(shown, len(ended))
    return Drawing("slices", "Slices", styled(figure, 240 * n_rows), caption, 210 * columns)


def _few_ticks(figure: Any, axis: str) -> None:
    """The ends and the middle of a logarithmic axis: more would run into one another."""
    x = [v for trace in figure.data if trace.xaxis == f"x{axis}" for v in trace.x]
    ticks = sorted({min(x), math.sqrt(min(x) * max(x)), max(x)})
    figure.layout[f"xaxis{axis}"].update(tickvals=ticks, ticktext=[f"{v:.3g}" for v in ticks])


def _parallel(view: StudyView, best_first: Sequence[FrozenTrial]) -> Drawing:
    from plotly.colors import sample_colorscale

    n, shown = len(best_first), best_first[:_MAX_THREADS]
    study = FixedStudy(view.direction, shown)
    *_, name = ("", *view.metric.split())  # All of it would leave the page on the left.
    figure = visualization.plot_parallel_coordinate(study, target_name=name)
    *lines, bar = figure.data
    # The best over the others.
    lines.sort(key=lambda trace: view.sign * trace.y[0])
    goodness = [trace.y[0] if view.sign > 0 else 1 - trace.y[0] for trace in lines]
    for trace, colour in zip(lines, sample_colorscale(SCALE, goodness), strict=True):
        trace.line.color = colour
    figure.data = [*lines, bar]
    bar.marker.colorscale = SCALE
    figure.update_xaxes(tickangle=-30)
    for note in figure.layout.annotations:
        note.font.color = None  # Of the page.
    caption = f"The best {_MAX_THREADS} of {n:,} trials." if n > _MAX_THREADS else ""
    width = 78 * (_n_params(shown) + 1)
    return Drawing("parallel", "Parallel coordinates", styled(figure, 430), caption, width)
