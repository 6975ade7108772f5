"""The figures of a comparison of methods; each is None where there is nothing to draw."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from optuna_deepweeds.report.compare import Comparison
from optuna_deepweeds.report.drawing import (
    COLOURS,
    Drawing,
    axes,
    band,
    finite,
    line,
    method_colour,
    points,
)
from optuna_deepweeds.report.incumbent import Axis, summarise
from optuna_deepweeds.report.published import Published
from optuna_deepweeds.report.view import StudyView


def compare_figures(comparison: Comparison) -> dict[str, Drawing]:
    """Every figure that there is something to draw for, by key."""
    made = (
        incumbents(comparison, "epochs"),
        incumbents(comparison, "seconds"),
        finals(comparison),
        cumulative_maximum(comparison),
        test_accuracies(comparison),
    )
    return {drawing.key: drawing for drawing in made if drawing is not None}


def incumbents(comparison: Comparison, axis: Axis) -> Drawing | None:
    """Median incumbent and quartiles over seeds against what was spent."""
    traces: list[Any] = []
    label, scale = ("epochs trained", 1.0) if axis == "epochs" else ("minutes", 60.0)
    for i, method in enumerate(comparison.methods):
        runs = [run for run in method.runs.values() if run.total(axis) > 0]
        found = summarise(runs, axis, comparison.sign)
        if np.isnan(found.median).all():
            continue
        x, ink, y = (found.grid / scale).tolist(), method_colour(i), [*map(finite, found.median)]
        if len(runs) > 1:
            traces += band(x, [*map(finite, found.low)], [*map(finite, found.high)], ink)
        whole = int((~found.is_partial).sum())
        name = method.label
        # The dashed part begins where the whole one ends.
        for part, is_dashed in ((slice(whole), False), (slice(whole - 1, None), True)):
            if len(x[part]) > is_dashed and any(value is not None for value in y[part]):
                style = {"dash": "dash" if is_dashed else "solid", "shape": "hv", "color": ink}
                traces.append(line(x[part], y[part], name, width=2.2, **style))
                name = ""
        traces.append(points(x[-1:], y[-1:], color=ink, size=7))
    if not traces:
        return None
    caption = (
        "Median over seeds to the end of the last, band from the lower to the upper quartile; "
        "dashed from where one has ended, which keeps its best network."
    )
    figure = axes(traces, label, f"best {comparison.metric}", 400, comparison.limits)
    title = f"Best network against {'epochs' if axis == 'epochs' else 'time'}"
    return Drawing(f"incumbent-{axis}", title, figure, caption)


def finals(comparison: Comparison) -> Drawing | None:
    """Final value of each seed."""
    columns = [(m.label, m.final, None) for m in comparison.methods]
    figure = _columns(columns, f"best {comparison.metric}", comparison.limits)
    if figure is None:
        return None
    caption, width = "One point a seed; the bar is the median.", 78 * len(columns)
    return Drawing("finals", "Where each seed ended", figure, caption, max(300, width))


def test_accuracies(comparison: Comparison) -> Drawing | None:
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
    figure = _columns(columns, "test accuracy", (0.0, 1.0))
    title = "Test accuracy by sampler and pruner"
    return Drawing("test-accuracy", title, figure, caption, max(300, 78 * len(columns)))


_Column = tuple[str, Mapping[Hashable, float], Published | None]


def _columns(columns: Sequence[_Column], y_label: str, within: tuple[float, float]) -> Any:
    """One column a method: a point a seed, the median, and published values beside them."""
    traces: list[Any] = []
    name = "published (other split)"
    shift = 0.14 if any(published is not None for _, _, published in columns) else 0.0
    half = 0.12 if shift else 0.25
    for i, (label, values, published) in enumerate(columns):
        if values:
            y, ink, x = list(values.values()), method_colour(i), i - shift
            texts = [f"{label}, seed {seed}: {v:.4g}" for seed, v in values.items()]
            traces += [_median(x, y, half, ink)]
            traces += [points([x] * len(y), y, "", texts, color=ink, opacity=0.75)]
        if published is not None:
            y, x = list(published.test_accuracies), i + shift
            texts = [f"published, {published.label}: {v:.4f}" for v in y]
            traces += [_median(x, y, half, COLOURS["grid"])]
            traces += [_published([x] * len(y), y, name, texts)]
            name = ""
    if not traces:
        return None
    labels = [label for label, _, _ in columns]
    is_long = sum(len(label) + 2 for label in labels) > 100
    return axes(
        traces, "", y_label, within=within, tickvals=list(range(len(labels))), ticktext=labels,
        range=(-0.5, len(labels) - 0.5), tickangle=-35 if is_long else None,
    )  # fmt: skip


def _median(x: float, y: Sequence[float], half: float, colour: str) -> Any:
    return line([x - half, x + half], [float(np.median(y))] * 2, color=colour, width=2.5)


def _published(x: Sequence[float], y: Sequence[float], name: str, texts: Sequence[str]) -> Any:
    style = {"color": COLOURS["grid"], "symbol": "diamond", "size": 7, "opacity": 0.75}
    return points(x, y, name, texts, **style)


def cumulative_maximum(comparison: Comparison) -> Drawing | None:
    """The best value over the number of finished trials, one line a seed, as on the poster."""
    traces: list[Any] = []
    for i, method in enumerate(comparison.methods):
        name, ink = method.label, method_colour(i)
        for seed, view in method.views.items():
            x, y = _steps(view)
            if x:
                traces.append(points(x[-1:], y[-1:], color=ink, size=5))
                head = f"{method.label}, seed {seed}"
                texts = [f"{head}, trial {n}: {v:.4g}" for n, v in zip(x, y, strict=True)]
                traces.append(line(x, y, name, texts, color=ink, opacity=0.8, shape="hv"))
                name = ""
    if not traces:
        return None
    caption = "One line a study, to its last trial; paused and stopped trials count too."
    x_axis: dict[str, Any] = {}
    if comparison.published:
        pairs = [
            (n, value, f"published, {p.label}, {n:,} trials: {value:.4f} on the test images")
            for p in comparison.published
            for n, value in zip(p.n_trials, p.test_accuracies, strict=True)
        ]
        x, y, texts = (list(part) for part in zip(*pairs, strict=True))
        traces.append(_published(x, y, "published: test accuracy", texts))
        caption += (
            " Grey diamonds: published studies at their number of trials; of these only the "
            "accuracy on the test images is known, so that is their height."
        )
        ticks = [1, 3, 10, 30, 100, 300, 1000]
        x_axis = {"type": "log", "tickvals": ticks, "ticktext": [f"{n:,}" for n in ticks]}
    label = f"best {comparison.metric}"
    figure = axes(traces, "trials", label, within=comparison.limits, **x_axis)
    return Drawing("cumulative", "Cumulative best over trials", figure, caption)


def _steps(view: StudyView) -> tuple[list[float], list[float]]:
    """Number of ended trials and best value wherever it changed, and at the end."""
    ended = [t for t in view.trials if t.datetime_complete and t.state.is_finished()]
    ended.sort(key=lambda t: (t.datetime_complete, t.number))
    complete = {t.number: view.sign * t.value for t in view.ranked if t.value is not None}
    x: list[float] = []
    y: list[float] = []
    best = -math.inf
    for n, trial in enumerate(ended, 1):
        if complete.get(trial.number, -math.inf) > best:
            best = complete[trial.number]
            x.append(n)
            y.append(view.sign * best)
    return ([*x, len(ended)], [*y, y[-1]]) if x else (x, y)
