"""Optuna's own plots of a study, for the page and as PNG files."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from optuna.trial import TrialState

from optuna_deepweeds.report.chart import COLOURS, limits
from optuna_deepweeds.report.cleaned import as_they_ran, cleaned, end_of, outcomes
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


@dataclass(frozen=True)
class OptunaPlot:
    """One of Optuna's plots; see `chart.Figure`.

    Attributes:
        draw: Given `optuna.visualization` it returns a figure of Plotly, given
            `optuna.visualization.matplotlib` one axes or an array of them.
        height: In pixels.
    """

    key: str
    title: str
    draw: Callable[[Any], Any]
    caption: str = ""
    height: int = 380
    min_width: int = 300
    has_legend: bool = False

    def to_plotly(self) -> Any:
        from optuna import visualization

        from optuna_deepweeds.report.draw_plotly import styled

        return styled(self.draw(visualization), self.height, has_legend=self.has_legend)

    def write_png(self, path: Path) -> None:
        from matplotlib import pyplot
        from optuna.visualization import matplotlib as visualization

        from optuna_deepweeds.report.draw_png import save

        pyplot.switch_backend("agg")
        # Optuna's plots set a style for good, and warn: of being experimental, of one value alone.
        with pyplot.rc_context(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            figure = np.ravel(self.draw(visualization))[0].figure
            figure.set_size_inches(max(8.0, self.min_width / 80), self.height / 70)
            try:
                save(figure, path, bbox_inches="tight")
            finally:
                pyplot.close(figure)


def optuna_plots(view: StudyView) -> list[OptunaPlot]:
    """Every plot that there is something to draw for."""
    found = outcomes(view)
    plots = []
    if len(view.trials) > 1 and any(
        t.state == TrialState.COMPLETE and end_of(t) is not None for t in view.trials
    ):
        plots.append(_history(view))
    if any(t.datetime_start for t in view.trials):
        plots.append(_timeline(view))
    if not found:
        return plots
    values = [trial.values[0] for trial in found]
    if len(found) >= MIN_TRIALS and min(values) < max(values):
        plots.append(_importance(view, len(found)))
    n_params = len({name for trial in found for name in trial.params})
    return [*plots, _slices(view, n_params), _parallel(view, n_params, len(found))]


def _history(view: StudyView) -> OptunaPlot:
    study = as_they_ran(view)
    stopped = [
        (t.number, value)
        for t in view.trials
        if t.state == TrialState.PRUNED and t.number not in view.replaced
        and (value := end_of(t)) is not None
    ]  # fmt: skip
    x, y = [n for n, _ in stopped], [v for _, v in stopped]
    values = [v for t in view.trials if (v := end_of(t)) is not None]

    def draw(library: Any) -> Any:
        drawn = library.plot_optimization_history(study, target_name=view.metric)
        if hasattr(drawn, "add_scatter"):
            drawn.update_traces(marker_color=COLOURS["finished"])
            drawn.update_traces(line={"color": COLOURS["best"], "shape": "hv"})
            if stopped:
                marker = {"color": COLOURS["stopped"], "size": 5}
                drawn.add_scatter(x=x, y=y, mode="markers", name="stopped", marker=marker)
            drawn.update_yaxes(range=limits(values))
        else:
            drawn.lines[0].set_drawstyle("steps-post")
            if stopped:
                drawn.scatter(x, y, s=12, color=COLOURS["stopped"], label="stopped")
                drawn.legend()
        return drawn

    caption = "Stopped trials stand at the value expected of them." if stopped else ""
    return OptunaPlot("history", "Optimisation history", draw, caption, 340, has_legend=True)


def _timeline(view: StudyView) -> OptunaPlot:
    study = as_they_ran(view)

    def draw(library: Any) -> Any:
        drawn = library.plot_timeline(study, n_recent_trials=_MAX_BARS)
        if hasattr(drawn, "for_each_trace"):
            drawn.for_each_trace(_recolour)
            drawn.update_yaxes(dtick=1 if len(view.trials) < 8 else None)
        return drawn

    caption = f"The last {_MAX_BARS:,} trials." if len(view.trials) > _MAX_BARS else ""
    return OptunaPlot("timeline", "Timeline", draw, caption, 340, has_legend=True)


def _recolour(trace: Any) -> None:
    """A state by our word and colour."""
    word = _STATES.get(trace.name, trace.name)
    trace.update(name=word, marker_color=COLOURS.get(word, COLOURS["grid"]))


def _importance(view: StudyView, n: int) -> OptunaPlot:
    study = cleaned(view)
    n_params = len({name for trial in study.get_trials() for name in trial.params})
    caption = (
        f"How much each parameter decides whether one of these {n:,} trials is among their best "
        "tenth, as shares of 1 (PED-ANOVA; parameters that not all trials have included)."
    )
    if n < 50:
        caption += " From so few trials the order is a hint, no more."
    return OptunaPlot(
        "importance", "Parameter importance",
        lambda library: library.plot_param_importances(study, target_name=view.metric),
        caption, 110 + 24 * n_params,
    )  # fmt: skip


def _slices(view: StudyView, n_params: int) -> OptunaPlot:
    study = cleaned(view, at_most=_MAX_POINTS)
    n_rows = -(-n_params // _SLICES_A_ROW)
    around = limits([trial.values[0] for trial in study.get_trials() if trial.values])

    def draw(library: Any) -> Any:
        drawn = library.plot_slice(study, target_name=view.metric)
        if hasattr(drawn, "update_yaxes"):
            drawn.update_yaxes(range=around)
        if n_params > 1:
            (_fold_axes if isinstance(drawn, np.ndarray) else _fold)(drawn, n_params, n_rows)
        return drawn

    return OptunaPlot(
        "slices", "Slices", draw,
        "Each trial at the value it reached or, stopped, at the one expected of it; a parameter "
        "that is inactive in a trial is left out there.",
        240 * n_rows, 210 * min(n_params, _SLICES_A_ROW),
    )  # fmt: skip


def _fold(figure: Any, n_params: int, n_rows: int) -> None:
    """Lay the slices, which Optuna draws in one row, in several."""
    width, height = 1 / min(n_params, _SLICES_A_ROW), 1 / n_rows
    for i in range(n_params):
        row, column = divmod(i, _SLICES_A_ROW)
        name = str(i + 1) if i else ""
        top = 1 - row * height
        figure.layout[f"xaxis{name}"].domain = (column * width, (column + 0.82) * width)
        figure.layout[f"yaxis{name}"].update(
            domain=(top - 0.68 * height, top), showticklabels=column == 0
        )
        if figure.layout[f"xaxis{name}"].type == "log":
            _few_ticks(figure, name)


def _few_ticks(figure: Any, name: str) -> None:
    """The ends and the middle of a logarithmic axis: more would run into one another."""
    x = [v for trace in figure.data if trace.xaxis == f"x{name}" for v in trace.x]
    ticks = sorted({min(x), math.sqrt(min(x) * max(x)), max(x)})
    figure.layout[f"xaxis{name}"].update(tickvals=ticks, ticktext=[f"{v:.3g}" for v in ticks])


def _fold_axes(axes: Any, n_params: int, n_rows: int) -> None:
    from matplotlib.gridspec import GridSpec
    from matplotlib.ticker import NullFormatter

    columns = min(n_params, _SLICES_A_ROW)
    figure = axes[0].figure
    grid = GridSpec(n_rows, columns, figure=figure, right=0.86, hspace=0.5)
    for i, one in enumerate(axes):
        one.set_subplotspec(grid[i // columns, i % columns])
        one.xaxis.set_minor_formatter(NullFormatter())
    figure.axes[-1].set_position((0.88, 0.11, 0.015, 0.77))  # Of the colours.


def _parallel(view: StudyView, n_params: int, n: int) -> OptunaPlot:
    study = cleaned(view, at_most=_MAX_THREADS)
    caption = f"The best {_MAX_THREADS} of {n:,} trials." if n > _MAX_THREADS else ""
    return OptunaPlot(
        "parallel", "Parallel coordinates",
        lambda library: library.plot_parallel_coordinate(study, target_name=view.metric),
        caption, 430, 78 * (n_params + 1),
    )  # fmt: skip
