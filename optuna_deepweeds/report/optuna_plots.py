"""Optuna's own plots of a study."""

from __future__ import annotations

import math
from typing import Any

import optuna
from optuna import visualization
from optuna.trial import TrialState

from optuna_deepweeds.report.cleaned import FixedStudy, as_they_ran, cleaned, end_of
from optuna_deepweeds.report.drawing import COLOURS, Drawing, limits, points, styled
from optuna_deepweeds.report.view import StudyView

MIN_TRIALS = 12
"""Fewer trials give no importance: the best tenth of them would be one."""
_MAX_BARS = 1000
_MAX_POINTS = 2000
_MAX_THREADS = 300
_SLICES_A_ROW = 4
_STATES = {
    "COMPLETE": "finished", "PRUNED": "stopped", "FAIL": "failed", "RUNNING": "running",
    "WAITING": "waiting",
}  # fmt: skip


def optuna_plots(view: StudyView) -> list[Drawing]:
    """Every plot that there is something to draw for."""
    ran, study = as_they_ran(view), cleaned(view)
    found = study.complete
    plots = []
    if len(view.trials) > 1 and view.ranked:
        plots.append(_history(view, ran))
    if any(t.datetime_start for t in view.trials):
        plots.append(_timeline(ran))
    if not found:
        return plots
    if len(found) >= MIN_TRIALS and len({t.value for t in found}) > 1:
        plots.append(_importance(study, view.metric))
    return [*plots, _slices(study, view.metric), _parallel(study, view.metric)]


def _n_params(study: optuna.Study) -> int:
    return len({name for trial in study.trials for name in trial.params})


def _history(view: StudyView, ran: optuna.Study) -> Drawing:
    stopped = [
        (t.number, value)
        for t in view.trials
        if t.state == TrialState.PRUNED and t.number not in view.replaced
        and (value := end_of(t)) is not None
    ]  # fmt: skip
    figure = visualization.plot_optimization_history(ran, target_name=view.metric)
    figure.update_traces(marker_color=COLOURS["finished"])
    figure.update_traces(line={"color": COLOURS["best"], "shape": "hv"})
    if stopped:
        x, y = zip(*stopped, strict=True)
        figure.add_trace(points(x, y, "stopped", color=COLOURS["stopped"], size=5))
    figure.update_yaxes(range=limits(figure.data))
    caption = "Stopped trials stand at the value expected of them." if stopped else ""
    return Drawing("history", "Optimisation history", styled(figure, 340), caption)


def _timeline(ran: optuna.Study) -> Drawing:
    n = len(ran.trials)
    figure = visualization.plot_timeline(ran, n_recent_trials=_MAX_BARS)
    for trace in figure.data:
        word = _STATES[trace.name]
        trace.update(name=word, marker_color=COLOURS[word])
    if n < 8:
        figure.update_yaxes(dtick=1)
    caption = f"The last {_MAX_BARS:,} trials." if n > _MAX_BARS else ""
    return Drawing("timeline", "Timeline", styled(figure, 340), caption)


def _importance(study: FixedStudy, metric: str) -> Drawing:
    n = len(study.complete)
    figure = visualization.plot_param_importances(study, target_name=metric)
    figure.update_traces(showlegend=False, marker_color=COLOURS["finished"])
    caption = (
        f"How much each parameter decides whether one of these {n:,} trials is among their best "
        "tenth, as shares of 1 (PED-ANOVA; parameters that not all trials have included)."
    )
    if n < 50:
        caption += " From so few trials the order is a hint, no more."
    height = 110 + 24 * len(figure.data[0].y)
    return Drawing("importance", "Parameter importance", styled(figure, height), caption)


def _slices(study: FixedStudy, metric: str) -> Drawing:
    figure = visualization.plot_slice(study.best(_MAX_POINTS), target_name=metric)
    figure.update_traces(showlegend=False)
    figure.update_yaxes(range=limits(figure.data))
    n_params = _n_params(study.best(_MAX_POINTS))
    columns = min(n_params, _SLICES_A_ROW)
    n_rows = -(-n_params // columns)
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
    caption = (
        "Each trial at the value it reached or, stopped, at the one expected of it; a parameter "
        "that is inactive in a trial is left out there."
    )
    return Drawing("slices", "Slices", styled(figure, 240 * n_rows), caption, 210 * columns)


def _few_ticks(figure: Any, axis: str) -> None:
    """The ends and the middle of a logarithmic axis: more would run into one another."""
    x = [v for trace in figure.data if trace.xaxis == f"x{axis}" for v in trace.x]
    ticks = sorted({min(x), math.sqrt(min(x) * max(x)), max(x)})
    figure.layout[f"xaxis{axis}"].update(tickvals=ticks, ticktext=[f"{v:.3g}" for v in ticks])


def _parallel(study: FixedStudy, metric: str) -> Drawing:
    n, shown = len(study.complete), study.best(_MAX_THREADS)
    figure = visualization.plot_parallel_coordinate(shown, target_name=metric)
    figure.update_xaxes(tickangle=-30)
    caption = f"The best {_MAX_THREADS} of {n:,} trials." if n > _MAX_THREADS else ""
    width = 78 * (_n_params(shown) + 1)
    return Drawing("parallel", "Parallel coordinates", styled(figure, 430), caption, width)
