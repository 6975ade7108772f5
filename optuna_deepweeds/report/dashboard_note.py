"""What the dashboard shows of a study beyond Optuna's own views: a note, pictures, artifacts.

Cheap enough for the start and the end of a study, not for every epoch.
"""

from __future__ import annotations

import logging

import optuna

from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.report.view import StudyView
from optuna_deepweeds.tasks import Task

logger = logging.getLogger(__name__)


def publish(study: optuna.Study, *, task: Task | None = None, note_only: bool = False) -> None:
    """Write the study's note, and its pictures and files, for the dashboard.

    A folder of artifacts that cannot be written is a warning: no study is lost by it.

    Args:
        study: A study with one objective.
        task: The study's; without it its best network is not saved.
        note_only: Leave out the files, see `artifacts`.
    """
    from optuna_dashboard import save_note

    from optuna_deepweeds.report.artifacts import pictures, save_artifacts
    from optuna_deepweeds.report.pages import note

    if not note_only:
        try:
            save_artifacts(study, task)
        except (OSError, InvalidInputError) as error:
            logger.warning("the artifacts of %r were not written: %s", study.study_name, error)
    save_note(study, note(StudyView.of(study), pictures(study)))
