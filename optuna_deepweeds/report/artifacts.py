"""Files that the dashboard shows of a study: its best network and how it confuses the classes.

A file that came true anew (another best trial, another test) takes the place of its predecessor,
so that a study that is resumed often does not pile up networks.
"""

from __future__ import annotations

import json
import mimetypes
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import optuna

from optuna_deepweeds import attributes
from optuna_deepweeds.datasets.dataset import Dataset
from optuna_deepweeds.report import tables
from optuna_deepweeds.report.view import StudyView
from optuna_deepweeds.studies.checkpoints import root_number
from optuna_deepweeds.studies.locks import study_lock
from optuna_deepweeds.studies.manager import storage_url, study_checkpoints
from optuna_deepweeds.studies.storage_url import resolve_url, sqlite_path

FOLDER_VARIABLE = "DEEPWEEDS_ARTIFACTS"
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


def save_artifacts(study: optuna.Study, images: Dataset | None = None) -> None:
    """Put the files of `study` where the dashboard finds them, as far as they are new.

    Args:
        study: A study of this package; it needs a folder of artifacts, see `artifact_folder`.
        images: Its images; without them the network is left out.

    Raises:
        OSError: The folder cannot be written.
    """
    url, view = storage_url(study), StudyView.of(study)
    folder = artifact_folder(url) if url else None  # A study in memory has no URL.
    if folder is None or not view.spec:
        return
    for name, write in _files(study, view, images).items():
        _put(study, folder, name, write)


def _files(
    study: optuna.Study, view: StudyView, images: Dataset | None
) -> dict[str, Callable[[Path], object]]:
    """Name of each file -> what writes it to a path."""
    from optuna_deepweeds.studies.model import save_network

    files: dict[str, Callable[[Path], object]] = {}
    best = view.progress.best
    # Without the checkpoint the network would have to be trained again.
    if (
        images is not None
        and best is not None
        and study_checkpoints(study).path(root_number(best)).exists()
    ):
        files[f"network-trial-{best.number}.pt"] = lambda path: save_network(
            study, best, images, path
        )
    stored = view.user_attrs.get(attributes.EVALUATION)
    tested = next(iter(stored.get("trials") or ()), None) if isinstance(stored, Mapping) else None
    if isinstance(stored, Mapping) and tested and tested.get("confusion"):
        # The seeds tell a second test of the same trial from the first.
        scores = "-".join(f"{round(1e4 * score)}" for score in tested.get("seeds") or ())
        stem = f"trial-{tested.get('trial')}-{scores}"
        classes = [str(name) for name in stored.get("classes") or ()]
        files[f"confusion-{stem}.csv"] = lambda path: path.write_text(_csv(view), encoding="utf-8")
        files[f"confusionmatrix-{stem}.png"] = lambda path: _draw(classes, tested, path)
    return files


def _csv(view: StudyView) -> str:
    for title, table in tables.evaluation_tables(view):
        if title.startswith("Confusion"):
            rows = [table.columns, *table.rows]
            return "".join(",".join("" if c is None else str(c) for c in r) + "\n" for r in rows)
    return ""


def _draw(classes: list[str], tested: Mapping[str, Any], path: Path) -> None:
    from optuna_deepweeds.report.confusion import write_confusion_png

    title = f"Trial {tested.get('trial')} on the test images, accuracy {tested.get('mean'):.4f}"
    write_confusion_png(classes, tested["confusion"], path, title)


def _put(study: optuna.Study, folder: Path, name: str, write: Callable[[Path], object]) -> None:
    """Add the file `name`, in the place of the one whose name begins with the same word."""
    storage, study_id = study._storage, study._study_id
    kind = name.split("-")[0] + "-"

    def known() -> dict[str, dict[str, Any]]:
        """Key -> description of this kind's files; one deleted in the dashboard is null."""
        found = {
            key: json.loads(value)
            for key, value in storage.get_study_system_attrs(study_id).items()
            if key.startswith(_PREFIX)
        }
        return {k: v for k, v in found.items() if v and v.get("filename", "").startswith(kind)}

    def is_there() -> bool:
        return any(
            v["filename"] == name and (folder / v["artifact_id"]).exists()
            for v in known().values()
        )

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
            old = next(iter(known().values()), None)
            artifact_id = str(uuid.uuid4()) if old is None else str(old["artifact_id"])
            shutil.move(made, folder / artifact_id)
            mimetype, encoding = mimetypes.guess_type(name)
            entry = {
                "artifact_id": artifact_id,
                "filename": name,
                "mimetype": mimetype or "application/octet-stream",
                "encoding": encoding,
            }
            storage.set_study_system_attr(study_id, _PREFIX + artifact_id, json.dumps(entry))
