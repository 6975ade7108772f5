"""DORA's anticipations against what came of the trials it let go on: sentence and chart."""

from __future__ import annotations

from optuna_deepweeds.report.calibration import Calibration, foreseen
from optuna_deepweeds.report.chart import Chart, Mark, Panel
from optuna_deepweeds.report.tables import Table
from optuna_deepweeds.report.view import StudyView


def judge(view: StudyView) -> Calibration:
    """The anticipations of a study that can be judged."""
    return Calibration(tuple(foreseen(view.trials)), view.sign)


def anticipation_sentence(view: StudyView) -> str:
    """How the anticipations turned out, or an empty text without any."""
    judged = judge(view)
    if judged.error is None or judged.surprise is None:
        return ""
    n = len(judged.points)
    text = (
        f"{n} anticipation{'' if n == 1 else 's'} can be judged by a trial that was trained to "
        f"its end: off by {judged.error:.3g} on average, and outcomes are "
        f"{abs(judged.surprise):.3g} {'better' if judged.surprise > 0 else 'worse'} than expected."
    )
    if judged.coverage is not None:
        text += f" {judged.coverage:.0%} of the outcomes lie in their interval."
    if judged.correlation is not None:
        text += f" Rank correlation {judged.correlation:.2f}."
    return text if n >= 10 else f"{text} This is little to go by."


def anticipation_table(view: StudyView) -> Table | None:
    """The same figures by the epoch at which something was foreseen; None without any."""
    rows = judge(view).by_epoch()
    if not rows:
        return None
    keys = ("anticipations_judged", "anticipation_error", "anticipation_surprise",
            "anticipation_inside", "anticipation_correlation")  # fmt: skip
    columns = ("after epoch", "judged", "error", "surprise", "inside", "rank correlation")
    return Table(columns, tuple((row["epoch"], *(row.get(k) for k in keys)) for row in rows))


def anticipation_chart(view: StudyView) -> Chart | None:
    """Outcome against expectation with intervals, and the diagonal; None without any."""
    found = judge(view).points
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
        Mark("line", x, y, "interval", "finished", opacity=0.35, width=1.2),
        Mark(
            "points", [f.expected for f in found], [f.outcome for f in found],
            f"anticipations ({len(found)})", "finished", texts=texts,
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
