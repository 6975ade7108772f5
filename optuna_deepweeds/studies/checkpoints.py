"""Where the checkpoints of a study lie and which of them are kept.

One rolling file a chain of trials: a trial and everything that continues it. Its name tells the
chain's first trial and the claim that writes it, so that a worker that was given up for dead and
wakes later writes into a file that nobody reads any more.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from optuna_deepweeds import attributes
from optuna_deepweeds.trials import root

FOLDER_VARIABLE = "DEEPWEEDS_CHECKPOINTS"
_PART_SECONDS = 3600.0
_TICK = timedelta(microseconds=1)


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
        """File of the chain that begins with that trial, of its latest claim that saved."""
        # Earlier versions named the chain alone.
        return max(self._of_chain(number), key=_claim, default=self._file(f"{number:06d}"))

    def claim(self, number: int, trial: int, start: datetime | None) -> Path:
        """The file for one claim of a trial, with what earlier claims of the chain have saved.

        Args:
            number: The first trial of the chain.
            trial: The trial; those that continue a chain have rising numbers.
            start: When it was claimed; each claim of it has a later one.
        """
        since = datetime.fromtimestamp(0, UTC)
        ticks = 0 if start is None else (start.astimezone(UTC) - since) // _TICK
        own = self._file(f"{number:06d}_{trial:06d}_{ticks:016d}")
        before = self.path(number)
        # A later claim's file is none of ours: then this worker slept, and its trial is lost.
        if _claim(before) < _claim(own):
            with contextlib.suppress(FileNotFoundError):
                before.replace(own)
        return own

    def _of_chain(self, number: int) -> list[Path]:
        return [f for f in self.folder.glob(f"trial-{number:06d}*.pt") if _claim(f)[0] == number]

    def _file(self, what: str) -> Path:
        return self.folder / f"trial-{what}.pt"

    def exists(self, trial: FrozenTrial) -> bool:
        """True if `trial` has a checkpoint to go on from."""
        return self.path(root(trial)).exists()

    def keep_only(self, roots: Iterable[int]) -> int:
        """Delete every checkpoint except those of `roots`; return how many went.

        Half-written files, left by workers that were killed while they wrote, go too once no
        worker can still be writing them.
        """
        # A file that came since has a higher claim.
        keep = {number: _claim(self.path(number)) for number in roots}
        deleted = 0
        for file in self.folder.glob("trial-*.pt"):
            claim = _claim(file)
            if claim[0] not in keep or claim < keep[claim[0]]:
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


def _claim(file: Path) -> tuple[int, ...]:
    """What a file's name tells: the chain's first trial, the trial, and when it was claimed."""
    return tuple(map(int, re.findall(r"\d+", file.name)))
