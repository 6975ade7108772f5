"""The charts of a comparison of methods."""

from __future__ import annotations

import numpy as np

from optuna_deepweeds.report.chart import Chart, Mark, Panel, method_colour
from optuna_deepweeds.report.compare import Comparison
from optuna_deepweeds.report.incumbent import Axis, band


def compare_charts(comparison: Comparison) -> dict[str, Chart]:
    """Every chart that there is something to draw for, by key."""
    made = (
        incumbents(comparison, "epochs"),
        incumbents(comparison, "seconds"),
        ranking(comparison),
        finals(comparison),
        cumulative_maximum(comparison),
    )
    return {chart.key: chart for chart in made if chart is not None}


def incumbents(comparison: Comparison, axis: Axis) -> Chart | None:
    """Median incumbent and quartiles over seeds against what was spent."""
    marks: list[Mark] = []
    scale = 1.0 if axis == "epochs" else 60.0
    for i, method in enumerate(comparison.methods):
        runs = [run for run in method.runs.values() if run.total(axis) > 0]
        if not any(len(run.values) for run in runs):
            continue
        b = band(runs, axis, comparison.sign)
        x, ink = (b.grid / scale).tolist(), method_colour(i)
        if len(runs) > 1:
            marks.append(
                Mark("band", x, _gaps(b.low), colour=ink, upper=_gaps(b.high), opacity=0.16)
            )
        marks.append(Mark("step", x, _gaps(b.median), method.label, ink, width=2.2))
    if not marks:
        return None
    what = "epochs trained" if axis == "epochs" else "minutes"
    panel = Panel(tuple(marks), x_label=what, y_label=f"best {comparison.metric}")
    return Chart(
        f"incumbent-{axis}",
        f"Best network against {'epochs' if axis == 'epochs' else 'time'}",
        (panel,),
        "Median over seeds, band from the lower to the upper quartile; a curve ends where the "
        "shortest of its studies ends.",
        height=400,
    )


def ranking(comparison: Comparison) -> Chart | None:
    """Mean rank over common seeds at every budget."""
    grid, ranks = comparison.ranks("epochs")
    if not len(grid):
        return None
    marks = tuple(
        Mark("line", grid.tolist(), ranks[:, i].tolist(), m.label, method_colour(i), width=2.2)
        for i, m in enumerate(comparison.methods)
    )
    panel = Panel(
        marks,
        x_label="epochs trained",
        y_label="mean rank",
        y_range=(len(comparison.methods) + 0.2, 0.8),
    )
    caption = "1 is best; ties share their mean rank. Over the seeds that every method has."
    return Chart("ranking", "Anytime ranking", (panel,), caption, height=320)


def finals(comparison: Comparison) -> Chart | None:
    """Final validation and test values of each seed."""
    panels = []
    labels = tuple((float(i), m.label) for i, m in enumerate(comparison.methods))
    for title in ("final", "test"):
        marks = []
        for i, method in enumerate(comparison.methods):
            values = method.final if title == "final" else method.tested
            if not values:
                continue
            y = list(values.values())
            ink = method_colour(i)
            texts = [f"{method.label}, seed {seed}: {v:.4g}" for seed, v in values.items()]
            middle = float(np.median(y))
            marks.append(Mark("line", [i - 0.25, i + 0.25], [middle] * 2, colour=ink, width=2.5))
            marks.append(
                Mark("points", [float(i)] * len(y), y, colour=ink, texts=texts, opacity=0.75)
            )
        if marks:
            name = f"best {comparison.metric}" if title == "final" else "test accuracy"
            ends = (-0.5, len(labels) - 0.5)
            panels.append(Panel(tuple(marks), y_label=name, x_ticks=labels, x_range=ends))
    if not panels:
        return None
    caption = "One point a seed; the bar is the median."
    return Chart("finals", "Where each seed ended", tuple(panels), caption, len(panels), 360)


def cumulative_maximum(comparison: Comparison) -> Chart | None:
    """The best value over the number of finished trials, one line a seed, as on the poster."""
    marks = []
    for i, method in enumerate(comparison.methods):
        is_first = True
        for seed, view in method.views.items():
            trials = sorted(
                (t for t in view.own if t.datetime_complete and t.state.is_finished()),
                key=lambda t: (t.datetime_complete, t.number),
            )
            complete = {t.number for t in view.ranked}
            best = -np.inf
            y: list[float | str | None] = []
            for trial in trials:
                if trial.number in complete and trial.value is not None:
                    best = max(best, comparison.sign * trial.value)
                y.append(comparison.sign * best if np.isfinite(best) else None)
            if y and y[-1] is not None:
                name = method.label if is_first else ""
                texts = [
                    f"{method.label}, seed {seed}, trial {k}: {v}" for k, v in enumerate(y, 1)
                ]
                marks.append(
                    Mark("step", list(range(1, len(y) + 1)), y, name, method_colour(i),
                         texts=texts, opacity=0.8)
                )  # fmt: skip
                is_first = False
    if not marks:
        return None
    panel = Panel(tuple(marks), x_label="trials", y_label=f"best {comparison.metric}")
    caption = "One line a study; trials that were stopped early count as trials."
    return Chart("cumulative", "Cumulative best over trials", (panel,), caption, height=380)


def _gaps(values: np.ndarray) -> list[float | None]:
    return [None if np.isnan(v) else float(v) for v in values]
