"""The charts of a comparison of methods; each is None where there is nothing to draw."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from optuna_deepweeds.report.chart import Chart, Mark, Panel, method_colour
from optuna_deepweeds.report.compare import Comparison
from optuna_deepweeds.report.incumbent import Axis, band
from optuna_deepweeds.report.published import Published
from optuna_deepweeds.report.view import StudyView


def compare_charts(comparison: Comparison) -> dict[str, Chart]:
    """Every chart that there is something to draw for, by key."""
    made = (
        incumbents(comparison, "epochs"),
        incumbents(comparison, "seconds"),
        ranking(comparison),
        finals(comparison),
        cumulative_maximum(comparison),
        test_accuracies(comparison),
    )
    return {chart.key: chart for chart in made if chart is not None}


def incumbents(comparison: Comparison, axis: Axis) -> Chart | None:
    """Median incumbent and quartiles over seeds against what was spent."""
    marks: list[Mark] = []
    scale = 1.0 if axis == "epochs" else 60.0
    for i, method in enumerate(comparison.methods):
        runs = [run for run in method.runs.values() if run.total(axis) > 0]
        b = band(runs, axis, comparison.sign)
        if np.isnan(b.median).all():
            continue
        x, ink = (b.grid / scale).tolist(), method_colour(i)
        if len(runs) > 1:
            marks.append(
                Mark("band", x, _gaps(b.low), colour=ink, upper=_gaps(b.high), opacity=0.16)
            )
        whole = int((~b.is_partial).sum())  # The dashed part begins where the whole one ends.
        for part, name, is_dashed in (
            (slice(whole), method.label, False), (slice(whole - 1, None), "", True)
        ):  # fmt: skip
            y = _gaps(b.median[part])
            if any(value is not None for value in y):
                marks.append(Mark("step", x[part], y, name, ink, width=2.2, dash=is_dashed))
    if not marks:
        return None
    what = "epochs trained" if axis == "epochs" else "minutes"
    panel = Panel(tuple(marks), x_label=what, y_label=f"best {comparison.metric}")
    return Chart(
        f"incumbent-{axis}",
        f"Best network against {'epochs' if axis == 'epochs' else 'time'}",
        (panel,),
        "Median over seeds, band from the lower to the upper quartile; dashed from where a study "
        "has ended, which keeps its best network.",
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
    lowest = len(comparison.methods) + 0.2
    panel = Panel(marks, x_label="epochs trained", y_label="mean rank", y_range=(lowest, 0.8))
    caption = "1 is best; ties share their mean rank. Over the seeds that every method has."
    return Chart("ranking", "Anytime ranking", (panel,), caption, height=320)


def finals(comparison: Comparison) -> Chart | None:
    """Final value of each seed."""
    columns = [(m.label, m.final, None) for m in comparison.methods]
    return _columns(
        columns, "finals", "Where each seed ended", f"best {comparison.metric}",
        "One point a seed; the bar is the median.",
    )  # fmt: skip


def test_accuracies(comparison: Comparison) -> Chart | None:
    """Test accuracy by searcher and scheduler, as on the poster, beside the published values."""
    shown = comparison.published
    columns: list[_Column] = [
        (m.label, m.tested, m.published if m.published in shown else None)
        for m in comparison.methods
    ]
    ours = {published for _, _, published in columns}
    columns += [(p.label, {}, p) for p in shown if p not in ours]
    if not any(tested for _, tested, _ in columns):
        return None
    caption = "Best network of each study, trained again and scored on the test images: "
    caption += "one point a seed, the bar is the median."
    if shown:
        caption += " Grey diamonds: published, on another split of the same size."
    return _columns(
        columns, "test-accuracy", "Test accuracy by sampler and pruner", "test accuracy", caption
    )


_Column = tuple[str, Mapping[Hashable, float], Published | None]


def _columns(
    columns: Sequence[_Column], key: str, title: str, y_label: str, caption: str
) -> Chart | None:
    """One column a method: a point a seed, the median, and published values beside them."""
    marks = []
    shift = 0.14 if any(published is not None for _, _, published in columns) else 0.0
    for i, (label, values, published) in enumerate(columns):
        if values:
            texts = [f"{label}, seed {seed}: {v:.4g}" for seed, v in values.items()]
            half, ink, y = 0.12 if shift else 0.25, method_colour(i), list(values.values())
            marks += _column(i - shift, y, texts, half, Mark("points", (), (), colour=ink))
        if published is not None:
            y = list(published.test_accuracies)
            texts = [f"published, {published.label}: {v:.4f}" for v in y]
            marks += _column(i + shift, y, texts, 0.12, _published("published (other split)"))
    if not marks:
        return None
    panel = Panel(
        tuple(marks),
        y_label=y_label,
        x_ticks=tuple((float(i), label) for i, (label, _, _) in enumerate(columns)),
        x_range=(-0.5, len(columns) - 0.5),
    )
    return Chart(key, title, (panel,), caption, height=380)


def _column(x: float, y: list[float], texts: list[str], half: float, style: Mark) -> list[Mark]:
    """Points above one another at `x`, and their median."""
    middle = [float(np.median(y))] * 2
    return [
        Mark("line", [x - half, x + half], middle, colour=style.colour, width=2.5),
        replace(style, x=[x] * len(y), y=y, texts=texts, opacity=0.75),
    ]


def _published(name: str) -> Mark:
    return Mark("points", (), (), name, "grid", symbol="diamond", size=7.0)


def cumulative_maximum(comparison: Comparison) -> Chart | None:
    """The best value over the number of finished trials, one line a seed, as on the poster."""
    marks = []
    for i, method in enumerate(comparison.methods):
        names = iter([method.label])  # Of the first line alone.
        for seed, view in method.views.items():
            x, y = _steps(view)
            if x:
                texts = [
                    f"{method.label}, seed {seed}, trial {n}: {v:.4g}"
                    for n, v in zip(x, y, strict=True)
                ]
                name, ink = next(names, ""), method_colour(i)
                marks.append(Mark("step", x, y, name, ink, texts=texts, opacity=0.8))
    if not marks:
        return None
    caption = "One line a study; trials that were stopped early count as trials."
    ticks: tuple[int, ...] = ()
    if comparison.published:
        shown = [
            (float(n), v, f"published, {p.label}, {n:,} trials: {v:.4f} on the test images")
            for p in comparison.published
            for n, v in zip(p.n_trials, p.test_accuracies, strict=True)
        ]
        style = _published("published: test accuracy")
        x, y, texts = (list(part) for part in zip(*shown, strict=True))
        marks.append(replace(style, x=x, y=y, texts=texts, opacity=0.7))
        caption += (
            " Grey diamonds: published studies at their number of trials; of these only the "
            "accuracy on the test images is known, so that is their height."
        )
        ticks = (1, 3, 10, 30, 100, 300, 1000)
    panel = Panel(
        tuple(marks),
        x_label="trials",
        y_label=f"best {comparison.metric}",
        log_x=bool(ticks),
        is_whole=True,
        x_ticks=tuple((float(n), f"{n:,}") for n in ticks),
    )
    return Chart("cumulative", "Cumulative best over trials", (panel,), caption, height=380)


def _steps(view: StudyView) -> tuple[list[float], list[float]]:
    """Number of ended trials and best value wherever it changed, and at the end."""
    ended = [t for t in view.trials if t.datetime_complete and t.state.is_finished()]
    ended.sort(key=lambda t: (t.datetime_complete, t.number))
    complete = {t.number: view.sign * t.value for t in view.ranked if t.value is not None}
    x: list[float] = []
    y: list[float] = []
    best = -np.inf
    for n, trial in enumerate(ended, 1):
        if complete.get(trial.number, -np.inf) > best:
            best = complete[trial.number]
            x.append(n)
            y.append(view.sign * best)
    return ([*x, len(ended)], [*y, y[-1]]) if x else (x, y)


def _gaps(values: np.ndarray) -> list[float | None]:
    return [None if np.isnan(v) else float(v) for v in values]
