"""What the dashboard shows of a study beyond Optuna's own views: a note, figures, artifacts.

Cheap enough for the start and the end of a study, not for every epoch.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import optuna

from optuna_deepweeds.report import figures, tables
from optuna_deepweeds.report.anticipation import anticipation_chart, anticipation_sentence
from optuna_deepweeds.report.artifacts import save_artifacts
from optuna_deepweeds.report.chart import Chart, Panel
from optuna_deepweeds.report.incumbent import trajectory
from optuna_deepweeds.report.standing import standing
from optuna_deepweeds.report.view import StudyView
from optuna_deepweeds.tasks import ImageTask

logger = logging.getLogger(__name__)

_MAX_TRIALS = 2000
"""Beyond, figures would make the study's page slow; the note remains."""
_FIGURE_ID = "deepweeds-"


def publish(
    study: optuna.Study,
    *,
    with_figures: bool = True,
    with_artifacts: bool = True,
    task: ImageTask | None = None,
) -> None:
    """Write the study's note, and its key figures and files, for the dashboard.

    A folder of artifacts that cannot be written is a warning: no study is lost by it.

    Args:
        study: A study with one objective.
        with_figures: Also save figures; needs Plotly and is left out without it.
        with_artifacts: Also save files, see `artifacts`.
        task: The study's; without it its best network is not saved.
    """
    from optuna_dashboard import save_note

    view = StudyView.of(study)
    save_note(study, note(view))
    if with_figures:
        _save_figures(study, view)
    if with_artifacts:
        try:
            save_artifacts(study, task)
        except OSError as error:
            logger.warning("the artifacts of %r were not written: %s", study.study_name, error)


def note(view: StudyView) -> str:
    """The study in Markdown: specification, progress, best trials, how to resume."""
    parts = [
        f"**{_text(standing(view.progress, view.metric))}**",
        _markdown(tables.spec_table(view)),
    ]
    if view.spec:
        parts.append(f"Go on with it: `{tables.resume_command(view)}`")
    if view.progress.finished:
        figures_line = ", ".join(f"{label} {_text(value)}" for label, value in tables.cards(view))
        parts.append(f"### Progress\n\n{figures_line}")
    if view.ranked:
        parts.append(
            f"### Best trials\n\n{_markdown(tables.transposed(tables.best_table(view, 5)))}"
        )
    sentence = anticipation_sentence(view)
    if sentence:
        parts.append(f"### Anticipation\n\n{_text(sentence)}")
    priors = tables.prior_table(view)
    if priors is not None:
        parts.append(f"### Priors\n\n{_markdown(priors)}")
    failures = tables.failure_table(view)
    if failures.rows:
        shown = tables.Table(failures.columns, failures.rows[-20:])
        parts.append(f"### Failures\n\n{_markdown(shown)}")
    for title, table in tables.evaluation_tables(view):
        head = f"### Test results\n\n{_text(title)}\n\n" if title else ""
        parts.append(head + _markdown(table))
    return "\n\n".join(parts) + "\n"


def _markdown(table: tables.Table) -> str:
    lines = [
        "| " + " | ".join(_text(column) for column in table.columns) + " |",
        "|" + "---|" * len(table.columns),
    ]
    lines += ["| " + " | ".join(_text(_cell(value)) for value in row) + " |" for row in table.rows]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _text(text: str) -> str:
    """`text` without what Markdown or HTML would take for its own."""
    for mark in "\\`*_[]<>|":
        text = text.replace(mark, f"&#{ord(mark)};")
    return text.replace("\n", " ")


def _save_figures(study: optuna.Study, view: StudyView) -> None:
    try:
        from optuna_deepweeds.report.draw_plotly import to_plotly

        drawn = {c.key: to_plotly(_bare(c), with_title=True) for c in _charts(study, view)}
    except ImportError:
        return
    from optuna_dashboard import save_plotly_graph_object

    for key, figure in drawn.items():
        save_plotly_graph_object(study, figure, graph_object_id=_FIGURE_ID + key)


def _charts(study: optuna.Study, view: StudyView) -> list[Chart]:
    """What to save; in the place of a saved figure that is not drawn any more, why it is not."""
    made: dict[str, Chart | None] = dict.fromkeys(("learning-curves", "spending", "anticipation"))
    reason = "nothing to draw"
    if len(view.trials) > _MAX_TRIALS:
        reason = f"not drawn for more than {_MAX_TRIALS} trials; see `study report`"
    else:
        made["learning-curves"] = figures.learning_curves(view)
        made["spending"] = figures.spending(view, trajectory(view))
        made["anticipation"] = anticipation_chart(view)
    # A study's attributes cannot be deleted.
    stored = study._storage.get_study_system_attrs(study._study_id)
    charts = []
    for key, chart in made.items():
        if chart is not None:
            charts.append(chart)
        elif any(f":{_FIGURE_ID}{key}:" in name for name in stored):
            title = f"{key.replace('-', ' ').capitalize()}: {reason}"
            charts.append(Chart(key, title, (Panel(()),)))
    return charts


def _bare(chart: Chart) -> Chart:
    """`chart` without hover texts: the storage keeps a figure in pieces of two kilobytes."""
    panels = (
        replace(panel, marks=tuple(replace(mark, texts=()) for mark in panel.marks))
        for panel in chart.panels
    )
    return replace(chart, panels=tuple(panels))
