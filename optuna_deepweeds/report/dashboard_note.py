"""What the dashboard shows of a study beyond Optuna's own views: a note, figures, artifacts.

Cheap enough for the start and the end of a study, not for every epoch.
"""

from __future__ import annotations

import logging
from typing import Any

import optuna

from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.report.drawing import Drawing, axes, titled
from optuna_deepweeds.report.view import StudyView
from optuna_deepweeds.tasks import Task

logger = logging.getLogger(__name__)

_MAX_TRIALS = 2000
"""Beyond, figures would make the study's page slow; the note remains."""
_FIGURE_ID = "deepweeds-"
_KEYS = ("learning-curves", "spending", "anticipation")


def publish(study: optuna.Study, *, task: Task | None = None, note_only: bool = False) -> None:
    """Write the study's note, and its key figures and files, for the dashboard.

    A folder of artifacts that cannot be written is a warning: no study is lost by it.

    Args:
        study: A study with one objective.
        task: The study's; without it its best network is not saved.
        note_only: Leave out the figures, which need Plotly, and the files, see `artifacts`.
    """
    from optuna_dashboard import save_note

    from optuna_deepweeds.report.artifacts import save_artifacts
    from optuna_deepweeds.report.pages import note

    view = StudyView.of(study)
    save_note(study, note(view))
    if note_only:
        return
    _save_figures(study, view)
    try:
        save_artifacts(study, task)
    except (OSError, InvalidInputError) as error:
        logger.warning("the artifacts of %r were not written: %s", study.study_name, error)


def _save_figures(study: optuna.Study, view: StudyView) -> None:
    try:
        drawn = {drawing.key: _bare(drawing) for drawing in _drawings(study, view)}
    except ImportError:
        return
    from optuna_dashboard import save_plotly_graph_object

    for key, figure in drawn.items():
        save_plotly_graph_object(study, figure, graph_object_id=_FIGURE_ID + key)


def _drawings(study: optuna.Study, view: StudyView) -> list[Drawing]:
    """What to save; in the place of a saved figure that is not drawn any more, why it is not."""
    from optuna_deepweeds.report.figures import own_figures

    is_long = len(view.trials) > _MAX_TRIALS
    drawings = [] if is_long else own_figures(view)
    reason = "nothing to draw"
    if is_long:
        reason = f"not drawn for more than {_MAX_TRIALS} trials; see `study report`"
    # A study's attributes cannot be deleted.
    stored = study._storage.get_study_system_attrs(study._study_id)
    for key in set(_KEYS) - {drawing.key for drawing in drawings}:
        if any(f":{_FIGURE_ID}{key}:" in name for name in stored):
            title = f"{key.replace('-', ' ').capitalize()}: {reason}"
            drawings.append(Drawing(key, title, axes((), "", "")))
    return drawings


def _bare(drawing: Drawing) -> Any:
    """Its figure without hover texts: the storage keeps a figure in pieces of two kilobytes."""
    return titled(drawing).update_traces(text=None, hovertemplate=None)
