"""Files that the dashboard shows of a study: pictures, its best network, how it confuses classes.

A file that came true anew (another best trial, another test) takes the place of its predecessor,
so that a study that is resumed often does not pile up networks.
"""

from __future__ import annotations

import contextlib
import csv
import json
import mimetypes
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import optuna

from optuna_deepweeds import attributes
from optuna_deepweeds.report.confusion import write_confusion_png
from optuna_deepweeds.report.draw_png import write_png
from optuna_deepweeds.report.figures import anticipation, learning_curves
from optuna_deepweeds.report.tables import Table, confusion_table
from optuna_deepweeds.report.view import StudyView
from optuna_deepweeds.studies.manager import storage_url, study_checkpoints
from optuna_deepweeds.studies.storage.engine import resolve_url, sqlite_path
from optuna_deepweeds.studies.storage.locks import study_lock
from optuna_deepweeds.tasks import ImageTask, Task
from optuna_deepweeds.trials import root

FOLDER_VARIABLE = "DEEPWEEDS_ARTIFACTS"
PICTURES = {"curves": learning_curves, "foreseen": anticipation}
"""What the note shows: first word of a file's name -> what draws it."""
_PREFIX = "artifacts:"  # Of the study's system attributes that Optuna's artifacts are listed in.


def artifact_folder(url: str | None) -> Path | None:
    """The folder of a storage's artifacts.

    `DEEPWEEDS_ARTIFACTS` where set, else `artifacts` beside a SQLite file; None for other
    databases, whose workers and dashboard need not share a disk.
    """
    if folder := os.environ.get(FOLDER_VARIABLE):
        return Path(folder)
    file = sqlite_path(resolve_url(url))
    return None if file is None else file.resolve().parent / "artifacts"


def save_artifacts(study: optuna.Study, task: Task | None = None) -> None:
    """Put the files of `study` where the dashboard finds them, as far as they are new.

    Args:
        study: A study of this package; it needs a folder of artifacts, see `artifact_folder`.
        task: Its task; without it the network is left out.

    Raises:
        OSError: The folder cannot be written.
    """
    url, view = storage_url(study), StudyView.of(study)
    folder = artifact_folder(url) if url else None  # A study in memory has no URL.
    if folder is None or not view.spec:
        return
    for name, write in _files(study, view, task).items():
        _put(study, folder, name, write)


def delete_artifacts(study: optuna.Study) -> None:
    """Delete the files of `study`, except those that another study of its storage lists too."""
    url = storage_url(study)
    folder = artifact_folder(url) if url else None
    if folder is None:
        return
    storage = study._storage
    mine, others = set[str](), set[str]()
    for other in storage.get_all_studies():
        found = _listed(storage.get_study_system_attrs(other._study_id))
        (mine if other._study_id == study._study_id else others).update(i for _, i in found)
    for artifact_id in mine - others:
        (folder / artifact_id).unlink(missing_ok=True)


def _listed(system_attrs: Mapping[str, Any]) -> list[tuple[str, str]]:
    """File name and artifact id of the files that a study lists; one deleted there is null.

    Attributes can be overwritten by anyone who reaches the storage: only what Optuna makes as an
    id is taken for a file's name.
    """
    files = []
    for key, value in system_attrs.items():
        if key.startswith(_PREFIX):
            with contextlib.suppress(AttributeError, KeyError, TypeError, ValueError):
                entry = json.loads(value)
                files.append((str(entry["filename"]), str(uuid.UUID(entry["artifact_id"]))))
    return files


def _files(
    study: optuna.Study, view: StudyView, task: Task | None
) -> dict[str, Callable[[Path], object]]:
    """Name of each file -> what writes it to a path."""
    files: dict[str, Callable[[Path], object]] = {}
    best = view.progress.best
    # Without the checkpoint the network would have to be trained again.
    if isinstance(task, ImageTask) and best is not None:
        checkpoint = study_checkpoints(study).path(root(best))
        if checkpoint.exists():
            name = f"network-trial-{best.number}.pt"
            files[name] = lambda path: task.network(best, checkpoint).save(path)
    stored = view.stored(attributes.EVALUATION)
    table = confusion_table(stored)
    if table is not None:
        tested = stored["trials"][0]
        # The seeds tell a second test of the same trial from the first.
        scores = "-".join(f"{round(1e4 * score)}" for score in tested.get("seeds") or ())
        stem = f"trial-{tested.get('trial')}-{scores}"
        title = f"Trial {tested.get('trial')} on the test images, accuracy {tested['mean']:.4f}"
        files[f"confusion-{stem}.csv"] = lambda path: _csv(table, path)
        files[f"confusionmatrix-{stem}.png"] = lambda path: write_confusion_png(table, path, title)
    for name, kind in PICTURES.items():
        if drawing := kind(view):
            # The epochs tell a picture from an earlier one.
            file = f"{name}-{view.progress.epochs}-epochs.png"
            files[file] = partial(write_png, drawing)
    return files


def pictures(study: optuna.Study) -> dict[str, str]:
    """Kind of each picture that is among the study's files -> its address in the dashboard."""
    found = _listed(study._storage.get_study_system_attrs(study._study_id))
    return {
        kind: f"/artifacts/{study._study_id}/{identity}"
        for file, identity in found
        if (kind := file.split("-")[0]) in PICTURES
    }


def _csv(table: Table, path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([table.columns, *table.rows])


def _put(study: optuna.Study, folder: Path, name: str, write: Callable[[Path], object]) -> None:
    """Add the file `name`, in the place of the one whose name begins with the same word."""
    storage, study_id = study._storage, study._study_id
    kind = name.split("-")[0] + "-"

    def known() -> list[tuple[str, str]]:
        """File name and artifact id of this kind's files."""
        found = _listed(storage.get_study_system_attrs(study_id))
        return [(file, identity) for file, identity in found if file.startswith(kind)]

    def is_there() -> bool:
        return any(file == name and (folder / identity).exists() for file, identity in known())

    if is_there():
        return
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".new-") as place:
        made = Path(place) / name
        try:
            write(made)
        except ImportError:
            return  # A figure without the library that draws.
        with study_lock(storage, study_id):
            if is_there():  # Another worker came first.
                return
            artifact_id = next((identity for _, identity in known()), str(uuid.uuid4()))
            shutil.move(made, folder / artifact_id)
            mimetype, encoding = mimetypes.guess_type(name)
            entry = {
                "artifact_id": artifact_id,
                "filename": name,
                "mimetype": mimetype or "application/octet-stream",
                "encoding": encoding,
            }
            storage.set_study_system_attr(study_id, _PREFIX + artifact_id, json.dumps(entry))
