"""The study's own charts beside Optuna's; each is None where there is nothing to draw."""

from __future__ import annotations

import math
from collections.abc import Sequence

from optuna.trial import FrozenTrial

from optuna_deepweeds.report.chart import Chart, Figure, Mark, Panel
from optuna_deepweeds.report.cleaned import last_value
from optuna_deepweeds.report.incumbent import Trajectory, trajectory
from optuna_deepweeds.report.view import StudyView

_KINDS = ("stopped", "failed", "running", "continued", "finished")
_MAX_CURVES = 1500


def study_figures(view: StudyView) -> dict[str, Figure]:
    """Every figure of the study that there is something to draw for, by key."""
    from optuna_deepweeds.report.optuna_plots import optuna_plots

    figures: list[Figure] = [*own_charts(view), *optuna_plots(view)]
    return {figure.key: figure for figure in figures}


def own_charts(view: StudyView) -> list[Chart]:
    """Those that Optuna has no plot for."""
    made = (learning_curves(view), spending(view, trajectory(view)), anticipation_chart(view))
    return [chart for chart in made if chart is not None]


def learning_curves(view: StudyView) -> Chart | None:
    """Every trial's curve; the parent of a continued trial is part of its successor's curve."""
    trials = [t for t in view.trials if t.intermediate_values and t.number not in view.replaced]
    if not trials:
        return None
    caption = ""
    if len(trials) > _MAX_CURVES:
        caption = f"The last {_MAX_CURVES:,} of {len(trials):,} curves."
        trials = trials[-_MAX_CURVES:]
    opacity = 0.8 if len(trials) <= 30 else 0.5 if len(trials) <= 150 else 0.3
    best = view.progress.best
    marks = []
    for kind in _KINDS:
        chosen = [t for t in trials if view.kind(t) == kind]
        if chosen and chosen != [best]:  # Else one line would hide the other.
            shade = opacity * (0.7 if kind == "stopped" else 1)
            marks.append(_curves(view, chosen, kind, f"{kind} ({len(chosen)})", shade))
            if kind in ("stopped", "failed"):
                marks.append(_ends(chosen, kind, opacity))
    if best is not None and best.intermediate_values:
        marks.append(_curves(view, [best], "best", f"best: trial {best.number}", 1.0))
    panel = Panel(tuple(marks), x_label="epoch", y_label=view.metric, is_whole=True)
    return Chart("learning-curves", "Learning curves", (panel,), caption, height=420)


def _curves(
    view: StudyView, trials: Sequence[FrozenTrial], kind: str, name: str, opacity: float
) -> Mark:
    x: list[float | None] = []
    y: list[float | None] = []
    texts: list[str] = []
    for trial in trials:
        for epoch, value in sorted(trial.intermediate_values.items()):
            x.append(epoch)
            y.append(value if math.isfinite(value) else None)
            word = view.kind(trial)
            texts.append(f"trial {trial.number} ({word}), epoch {epoch}: {value:.4g}")
        x.append(None)
        y.append(None)
        texts.append("")
    width = 2.6 if kind == "best" else 1.3
    return Mark("line", x, y, name, kind, opacity=opacity, texts=texts, width=width)


def _ends(trials: Sequence[FrozenTrial], kind: str, opacity: float) -> Mark:
    """Where curves were cut off: with one epoch there is no line to see."""
    x = [max(t.intermediate_values) for t in trials]
    texts = [f"trial {t.number} {kind} after epoch {e}" for t, e in zip(trials, x, strict=True)]
    return Mark(
        "points", x, [last_value(t) for t in trials], colour=kind, texts=texts, size=4.0,
        opacity=min(1.0, opacity + 0.2), symbol="x" if kind == "failed" else "circle",
    )  # fmt: skip


def spending(view: StudyView, run: Trajectory) -> Chart | None:
    """The incumbent against epochs and against time, a point at each trial that ended."""
    if not len(run.values):
        return None
    panels: list[Panel] = []
    for axis, label, scale in (("epochs", "epochs trained", 1.0), ("seconds", "minutes", 60.0)):
        x = (run.epochs if axis == "epochs" else run.seconds) / scale
        end = (run.total_epochs if axis == "epochs" else run.total_seconds) / scale
        values = run.values.tolist()
        marks = (
            Mark("step", [*x.tolist(), end], [*values, values[-1]], width=2.2),
            Mark("points", x.tolist(), values, size=5.0),
        )
        panels.append(
            Panel(
                marks, x_label=label, y_label="" if panels else f"best {view.metric}",
                x_range=(0.0, 1.02 * end) if end > 0 else None,
            )
        )  # fmt: skip
    return Chart("spending", "Best network against what it cost", tuple(panels), height=300)


def anticipation_chart(view: StudyView) -> Chart | None:
    """Outcome against expectation with intervals, and the diagonal; None without any."""
    found = view.calibration.points
    if not found:
        return None
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
    marks = (
        Mark("line", ends, ends, "as foreseen", "grid", dash=True),
        Mark("line", x, y, "interval", opacity=0.35, width=1.2),
        Mark(
            "points", [f.expected for f in found], [f.outcome for f in found],
            f"anticipations ({len(found)})", texts=texts,
        ),
    )  # fmt: skip
    panel = Panel(marks, x_label=f"expected {view.metric}", y_label=f"final {view.metric}")
    return Chart(
        "anticipation",
        "Anticipation against outcome",
        (panel,),
        "Off the dashed line a trial ended otherwise than foreseen. Only trials that were let go "
        "on can be judged, so the picture is theirs alone.",
    )
