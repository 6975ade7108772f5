"""The charts of a comparison of methods."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from optuna_deepweeds.report.chart import Chart, Mark, Panel, method_colour
from optuna_deepweeds.report.compare import Comparison
from optuna_deepweeds.report.incumbent import Axis, band
from optuna_deepweeds.report.published import Published


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
    has_published = any(published is not None for _, _, published in columns)
    for i, (label, values, published) in enumerate(columns):
        if values:
            x = i - (0.14 if has_published else 0.0)
            y = list(values.values())
            ink = method_colour(i)
            half = 0.12 if has_published else 0.25
            texts = [f"{label}, seed {seed}: {v:.4g}" for seed, v in values.items()]
            middle = float(np.median(y))
            marks.append(Mark("line", [x - half, x + half], [middle] * 2, colour=ink, width=2.5))
            marks.append(Mark("points", [x] * len(y), y, colour=ink, texts=texts, opacity=0.75))
        if published is not None:
            marks += _published_marks(published, i + 0.14)
    if not marks:
        return None
    panel = Panel(
        tuple(marks),
        y_label=y_label,
        x_ticks=tuple((float(i), label) for i, (label, _, _) in enumerate(columns)),
        x_range=(-0.5, len(columns) - 0.5),
    )
    return Chart(key, title, (panel,), caption, height=380)


def _published_marks(published: Published, x: float) -> list[Mark]:
    y = list(published.test_accuracies)
    middle = float(np.median(y))
    texts = [f"published, {published.label}: {v:.4f}" for v in y]
    return [
        Mark("line", [x - 0.12, x + 0.12], [middle] * 2, colour="grid", width=2.5),
        Mark(
            "points", [x] * len(y), y, "published (other split)", "grid", texts=texts,
            symbol="diamond", size=7.0,
        ),
    ]  # fmt: skip


def cumulative_maximum(comparison: Comparison) -> Chart | None:
    """The best value over the number of finished trials, one line a seed, as on the poster."""
    marks = []
    for i, method in enumerate(comparison.methods):
        is_first = True
        for seed, view in method.views.items():
            trials = sorted(
                (t for t in view.trials if t.datetime_complete and t.state.is_finished()),
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
    caption = "One line a study; trials that were stopped early count as trials."
    is_wide = bool(comparison.published)
    if is_wide:
        x = [float(n) for p in comparison.published for n in p.n_trials]
        marks.append(
            Mark(
                "points", x, [v for p in comparison.published for v in p.test_accuracies],
                "published: test accuracy", "grid", symbol="diamond", size=7.0, opacity=0.7,
                texts=[f"published, {p.label}, {n:,} trials: {v:.4f} on the test images"
                       for p in comparison.published
                       for n, v in zip(p.n_trials, p.test_accuracies, strict=True)],
            )
        )  # fmt: skip
        caption += (
            " Grey diamonds: published studies at their number of trials; of these only the "
            "accuracy on the test images is known, so that is their height."
        )
    panel = Panel(
        tuple(marks),
        x_label="trials",
        y_label=f"best {comparison.metric}",
        log_x=is_wide,
        is_whole=True,
        x_ticks=tuple((float(n), f"{n:,}") for n in (1, 3, 10, 30, 100, 300, 1000))
        if is_wide
        else (),
    )
    return Chart("cumulative", "Cumulative best over trials", (panel,), caption, height=380)


def _gaps(values: np.ndarray) -> list[float | None]:
    return [None if np.isnan(v) else float(v) for v in values]
