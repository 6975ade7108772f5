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

import optuna
from optuna.trial import FrozenTrial
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from optuna_deepweeds import attributes
from optuna_deepweeds.trials import root

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


class CheckpointFolder:
    """The checkpoint files of one study: those of its identity, whatever it is called."""

    def __init__(self, base: Path, study: optuna.Study) -> None:
        uid = re.sub(r"[^0-9a-f]", "", str(study.user_attrs.get(attributes.UID, "")))
        self.folder = base / (uid or f"study-{study._study_id}")
        if uid and not self.folder.exists():
            # Earlier versions put the name that the study had before it.
            self.folder = next(iter(sorted(base.glob(f"*-{uid}"))), self.folder)

    def path(self, number: int) -> Path:
        """File of the chain that begins with that trial."""
        return self.folder / f"trial-{number:06d}.pt"

    def exists(self, trial: FrozenTrial) -> bool:
        """True if `trial` has a checkpoint to go on from."""
        return self.path(root(trial)).exists()

    def keep_only(self, roots: Iterable[int]) -> int:
        """Delete every checkpoint except those of `roots`; return how many went.

        Half-written files, left by workers that were killed while they wrote, go too once no
        worker can still be writing them.
        """
        keep = {self.path(number).name for number in roots}
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
