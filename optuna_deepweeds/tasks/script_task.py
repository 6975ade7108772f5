"""Any command as a task: it gets parameters, and prints one line a step."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import select
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError

from optuna_deepweeds.errors import InvalidInputError, NotFoundError, TrainingError
from optuna_deepweeds.schema import did_you_mean
from optuna_deepweeds.spaces import SearchSpace
from optuna_deepweeds.tasks.run import Run, TrialInterrupted

_POLL_SECONDS = 0.2
_GRACE_SECONDS = 10.0
"""What a command has to end by itself before it is killed."""
_PLACE = re.compile(r"\{(\w+)\}")
_OF_THE_RUN = ("checkpoint", "seed", "epochs", "device")


@dataclass(frozen=True)
class ScriptTask:
    """Runs a command for each trial; a `Task`.

    `{name}` in the command stands for the parameter, `{checkpoint}`, `{seed}`, `{epochs}` and
    `{device}` for what the run lends; other braces stay. The environment has the same as
    `PARAM_name` and `RUN_CHECKPOINT`, `RUN_SEED`, `RUN_EPOCHS`, `RUN_DEVICE`.

    On stdout, each line `{"value": 0.73}` or `{"step": 3, "value": 0.73}` reports a step; other
    lines are ignored. A command that writes its checkpoint, whole or not at all, before it prints
    the step's line, and goes on from it where it exists, is resumed and continued; others begin
    anew. It is ended by SIGTERM, and what it reports until then counts.

    Attributes:
        name: The command as typed in a shell, without the shell's operators.
        space: Its parameters.
        max_resource: The last step.
        metric: What it reports, in words.
        direction: "maximize" or "minimize".

    Raises:
        NotFoundError: If there is no such program.
        InvalidInputError: If the command cannot be split, or names nearly a parameter.
    """

    name: str
    space: SearchSpace
    max_resource: int = 20
    metric: str = "value"
    direction: str = "maximize"

    def __post_init__(self) -> None:
        words = self._words
        if not words or shutil.which(words[0]) is None:
            raise NotFoundError(f"no program {' '.join(words[:1])!r}.")
        known = {*self.space.distributions, *self.space.constants, *_OF_THE_RUN}
        for name in _PLACE.findall(self.name):
            if name not in known and (hint := did_you_mean(name, known)):
                raise InvalidInputError(f"the space has no parameter {name!r}.{hint}")

    @property
    def _words(self) -> list[str]:
        try:
            return shlex.split(self.name)
        except ValueError as error:
            raise InvalidInputError(f"{self.name!r} cannot be split: {error}.") from None

    @property
    def fingerprint(self) -> str:
        """Digest of the command and of the files that it names."""
        digest = hashlib.sha256(self.name.encode())
        for path in map(Path, self._words[1:]):
            if path.is_file():
                digest.update(path.read_bytes())
        return digest.hexdigest()

    def __call__(self, trial: optuna.Trial, run: Run) -> float:
        """Run the command to its end and return the last value.

        Raises:
            TrainingError: If it fails or reports nothing.
        """
        lent = {name: getattr(run, name) or "" for name in _OF_THE_RUN} | {"seed": run.seed}
        values = {**run.config, **lent}
        words = [
            _PLACE.sub(lambda found: str(values.get(found[1], found[0])), word)
            for word in self._words
        ]
        environment = {f"RUN_{name.upper()}": str(value) for name, value in lent.items()}
        environment |= {f"PARAM_{name}": str(value) for name, value in run.config.items()}
        run.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        step, saved_at = 0, _written_at(run.checkpoint)
        command = _Command(words, environment)
        try:
            for line in command.lines(run.should_stop):
                record = _record(line)
                if record is not None:
                    step = record.get("step", step + 1)
                    is_saved = _written_at(run.checkpoint) != saved_at
                    saved_at = _written_at(run.checkpoint)
                    run.report(record["value"], step, save=_is_there if is_saved else None)
            command.check()
        finally:
            # What it did until the signal reached it lies in its checkpoint.
            for record in filter(None, map(_record, command.end())):
                step = record.get("step", step + 1)
                with contextlib.suppress(TrialInterrupted, UpdateFinishedTrialError):
                    run.note(record["value"], step)
        if not run.reported:
            raise TrainingError('the command printed no line such as {"value": 0.73}.')
        return run.reported[max(run.reported)]


class _Command:
    """A running command and what it prints."""

    def __init__(self, words: list[str], environment: dict[str, str]) -> None:
        self._errors = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            words,
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,  # Ctrl-C reaches the worker, which ends it in order.
        )
        self._unread = b""

    def lines(self, should_stop: Callable[[], bool]) -> Iterator[bytes]:
        """Each whole line as it comes, until the command ends.

        Raises:
            TrialInterrupted: If `should_stop` became true meanwhile.
        """
        assert self._process.stdout is not None
        pipe = self._process.stdout.fileno()
        while True:
            while b"\n" in self._unread:
                line, _, self._unread = self._unread.partition(b"\n")
                yield line
            if select.select([pipe], [], [], _POLL_SECONDS)[0]:
                printed = os.read(pipe, 65536)
                if not printed:
                    return
                self._unread += printed
            elif should_stop():
                raise TrialInterrupted

    def check(self) -> None:
        """Wait for the end.

        Raises:
            TrainingError: If the command failed, with the last line of its stderr.
        """
        if self._process.wait() != 0:
            self._errors.seek(0)
            said = self._errors.read().decode(errors="replace").strip().splitlines()[-1:]
            reason = f"the command ended with code {self._process.returncode}"
            raise TrainingError(": ".join([reason, *said]))

    def end(self) -> Iterator[bytes]:
        """End the command and what it started; yields the lines that nobody has read."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=_GRACE_SECONDS)
        with self._process, self._errors:
            yield from self.lines(lambda: False)


def _record(line: bytes) -> dict[str, Any] | None:
    """What a line reports, or None if it is something else."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    if not isinstance(record, dict) or "value" not in record:
        return None
    if type(record["value"]) not in (int, float) or type(record.get("step", 1)) is not int:
        said = line.decode(errors="replace").strip()
        raise TrainingError(f"a step must be reported by numbers, but got {said!r:.100}.")
    return record


def _is_there(path: Path) -> None:
    """The command has written the checkpoint already."""


def _written_at(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0
