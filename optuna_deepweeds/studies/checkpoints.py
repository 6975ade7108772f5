"""Where the checkpoints of a study lie and which of them are kept.

One rolling file a chain of trials: a trial and everything that continues it share the file named
by the chain's first trial.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from optuna_deepweeds import attributes

FOLDER_VARIABLE = "DEEPWEEDS_CHECKPOINTS"
_PART_SECONDS = 3600.0


def default_base(storage_url: str) -> Path:
    """The folder that holds every study's checkpoint folder.

    `DEEPWEEDS_CHECKPOINTS` where set, else `checkpoints` beside a SQLite file, else
    `storage/checkpoints` in the current directory. Workers on several machines need a folder that
    all of them reach.
    """
    if folder := os.environ.get(FOLDER_VARIABLE):
        return Path(folder)
    try:
        url = make_url(storage_url)
    except ArgumentError:
        return Path("storage/checkpoints")
    if url.get_backend_name() == "sqlite" and url.database and url.database != ":memory:":
        return Path(url.database.removeprefix("file:")).resolve().parent / "checkpoints"
    return Path("storage/checkpoints")


def new_uid() -> str:
    """A fresh identity for a study."""
    return secrets.token_hex(4)


def root_number(trial: FrozenTrial) -> int:
    """Number of the first trial of the chain that `trial` belongs to."""
    return whole_number(trial.user_attrs.get(attributes.ROOT), trial.number)


def whole_number(value: Any, default: int) -> int:
    """An attribute that must be a number from 0 on; `default` where it is absent or junk.

    Attributes can be overwritten by anyone who reaches the storage.
    """
    return value if type(value) is int and value >= 0 else default


class CheckpointFolder:
    """The checkpoint files of one study."""

    def __init__(self, base: Path, study: optuna.Study) -> None:
        # Only letters, digits, dot, dash and underscore of a name reach the file system, so no
        # study name leads out of `base`; the identity keeps equal remains apart.
        slug = re.sub(r"[^A-Za-z0-9._-]+", "-", study.study_name).strip(".-")[:60]
        uid = re.sub(r"[^0-9a-f]", "", str(study.user_attrs.get(attributes.UID, "")))
        self.folder = base / f"{slug or 'study'}-{uid or study._study_id}"

    def path(self, root: int) -> Path:
        """File of the chain that begins with trial number `root`."""
        return self.folder / f"trial-{root:06d}.pt"

    def exists(self, trial: FrozenTrial) -> bool:
        """True if `trial` has a checkpoint to go on from."""
        return self.path(root_number(trial)).exists()

    def keep_only(self, roots: Iterable[int]) -> int:
        """Delete every checkpoint except those of `roots`; return how many went.

        Half-written files, left by workers that were killed while they wrote, go too once no
        worker can still be writing them.
        """
        keep = {self.path(root).name for root in roots}
        deleted = 0
        for file in self.folder.glob("trial-*.pt"):
            if file.name not in keep:
                file.unlink(missing_ok=True)
                deleted += 1
        for file in self.folder.glob(".trial-*.part"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - file.stat().st_mtime > _PART_SECONDS:
                    file.unlink()
        return deleted

    def delete(self) -> None:
        """Remove the folder and everything in it."""
        shutil.rmtree(self.folder, ignore_errors=True)
