"""Any command as a task: it gets parameters, and prints one line a step."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
import select
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError

from optuna_deepweeds.errors import InvalidInputError, NotFoundError, TrainingError
from optuna_deepweeds.processes import dying_with_parent
from optuna_deepweeds.schema import did_you_mean
from optuna_deepweeds.spaces import SearchSpace
from optuna_deepweeds.tasks.run import Run, TrialInterrupted
from optuna_deepweeds.tasks.task import default_direction

_POLL_SECONDS = 0.2
_GRACE_SECONDS = 10.0
"""What a command has to end by itself before it is killed."""
_NOT_FINITE = re.compile(rb"([:\s])[-+]?(?:nan|inf(?:inity)?)\b")
"""As C, awk and others print what JSON does not know; a step of either kind is of no use."""
_PLACE = re.compile(r"\{(\w+)\}")
_OPERATORS = {"&&", "||", "|", ";", "&", ">", ">>", "<"}
_MOST_OF_CODE = 2**20
"""Bytes of a file that counts as code."""
_LENT = ("checkpoint", "epochs", "device", "seed", "until")


@dataclass(frozen=True)
class ScriptTask:
    """Runs a command for each trial; a `Task`.

    `{name}` in the command stands for the parameter, for nothing where that does not exist;
    `{checkpoint}`, `{seed}`, `{epochs}`, `{until}` and `{device}` for what the run lends; other
    braces stay. The environment has the same as `PARAM_name`, `RUN_CHECKPOINT`, `RUN_SEED`, ...

    On stdout, each line `{"value": 0.73}` or `{"step": 3, "value": 0.73}` reports a step; other
    lines are ignored. A command that writes its checkpoint, whole or not at all, before it prints
    the step's line, which then names the step, and goes on from it where it exists, is resumed
    and continued; others begin anew. It is ended by SIGTERM, and what it reports until then
    counts, where it is saved. One that is quick should end by itself after the step `RUN_UNTIL`,
    up to which it is wanted now.

    Attributes:
        name: The command as typed in a shell, without the shell's operators.
        space: Its parameters.
        folder: Where it runs; None for the current folder.
        max_resource: The last step; 0 for 20.
        metric: What it reports, in words; "" for "value".
        direction: "maximize" or "minimize"; "" for what the metric's name says.
        assumed: Which of "metric", "direction" and "epochs" nobody has said.

    Raises:
        NotFoundError: If there is no such program.
        InvalidInputError: If the command cannot be split, or names nearly a parameter.
    """

    name: str
    space: SearchSpace
    folder: Path | None = None
    max_resource: int = 0
    metric: str = ""
    direction: str = ""
    assumed: set[str] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        if not self.metric:
            self.assumed.add("metric")
            object.__setattr__(self, "metric", "value")
        if not self.direction:
            self.assumed.add("direction")
            object.__setattr__(self, "direction", default_direction(self.metric))
        if not self.max_resource:
            self.assumed.add("epochs")
            object.__setattr__(self, "max_resource", 20)
        words = self._words
        used = [
            *(word for word in words if word in _OPERATORS),
            *(w for w in words[:1] if w == "cd"),
        ]
        if used:
            raise InvalidInputError(
                f"a command must do without a shell's {used[0]!r}; give it to one: sh -c '...'."
            )
        program = next(iter(words), "")
        if self.folder is not None and not self.folder.is_dir():
            raise NotFoundError(f"no folder {self.folder}, where the command is to run.")
        if shutil.which(str(self._path(program)) if "/" in program else program) is None:
            raise NotFoundError(f"no program {program!r}.")
        if words[1:] and "python" in program and not self._path(words[1]).exists():
            if words[1].endswith(".py"):  # It would fail every trial, with a long reason.
                raise NotFoundError(f"no file {words[1]}.")
        known = {*self.space.distributions, *self.space.constants, *_LENT}
        for name in _PLACE.findall(self.name):
            if name not in known and (hint := did_you_mean(name, known)):
                raise InvalidInputError(f"the space has no parameter {name!r}.{hint}")

    @property
    def _words(self) -> list[str]:
        try:
            return shlex.split(self.name)
        except ValueError as error:
            raise InvalidInputError(f"{self.name!r} cannot be split: {error}.") from None

    def _path(self, word: str) -> Path:
        return (self.folder or Path.cwd()) / word

    @cached_property
    def _files(self) -> list[bytes]:
        """What is in the code that the command names; not in a program of the machine, or data."""
        words = self._words
        paths = map(self._path, words if not words[0].startswith("/") else words[1:])
        found = [path for path in paths if path.is_file() and path.stat().st_size <= _MOST_OF_CODE]
        return [path.read_bytes() for path in found]

    @property
    def fingerprint(self) -> str:
        """Digest of the command and of the files that it names."""
        digest = hashlib.sha256(self.name.encode())
        for content in self._files:
            digest.update(content)
        return digest.hexdigest()

    @property
    def saves(self) -> bool:
        """Whether the command, or a file that it names, speaks of its checkpoint."""
        return "{checkpoint}" in self.name or any(b"RUN_CHECKPOINT" in f for f in self._files)

    def __call__(self, trial: optuna.Trial, run: Run) -> float:
        """Run the command to its end and return the last value.

        Raises:
            TrainingError: If it fails or reports nothing.
        """
        left = run.allowance.epochs
        until = run.epochs if left is None else min(run.epochs, len(run.reported) + left)
        lent = {name: getattr(run, name) or "" for name in _LENT[:-2]}
        lent |= {"seed": run.seed, "until": until}
        values = dict.fromkeys(self.space.distributions, "") | run.config | lent
        words = [
            _PLACE.sub(lambda found: str(values.get(found[1], found[0])), word)
            for word in self._words
        ]
        environment = {f"RUN_{name.upper()}": str(value) for name, value in lent.items()}
        environment |= {f"PARAM_{name}": str(value) for name, value in run.config.items()}
        run.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        step, value = 0, None
        saved_at = began_at = _written_at(run.checkpoint)
        command = _Command(words, environment, self.folder)
        try:
            for line in command.lines(run.should_stop):
                record = _record(line)
                if record is None:
                    continue
                if began_at and "step" not in record:
                    raise TrainingError("a command with a checkpoint must print its steps.")
                step, value = record.get("step", step + 1), record["value"]
                with command.held():
                    is_saved = _written_at(run.checkpoint) != saved_at
                    saved_at = _written_at(run.checkpoint)
                    run.report(value, step, save=_is_there if is_saved else None)
            command.check()
        finally:
            # What it did until the signal reached it counts if it may lie in its checkpoint.
            unread = [record for record in map(_record, command.end()) if record is not None]
            if _written_at(run.checkpoint) != began_at:
                for record in unread:
                    step = record.get("step", step + 1)
                    with contextlib.suppress(TrialInterrupted, UpdateFinishedTrialError):
                        run.note(record["value"], step)
        if value is None:
            raise TrainingError('the command printed no line such as {"value": 0.73}.')
        if math.isnan(value):
            raise TrainingError("the last value of a command must be a number, but is nan.")
        return float(value)


class _Command:
    """A running command and what it prints."""

    def __init__(self, words: list[str], environment: dict[str, str], folder: Path | None) -> None:
        self._errors = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            words,
            cwd=folder,
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,  # Ctrl-C reaches the worker, which ends it in order.
            # Another worker goes on with the trial.
            preexec_fn=dying_with_parent(signal.SIGKILL),
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

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold it while it is decided whether it goes on, so that it does not run ahead."""
        self._signal(signal.SIGSTOP)
        yield
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

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
            self._signal(number)
            self._signal(signal.SIGCONT)  # Where it is held.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=_GRACE_SECONDS)
        with self._process, self._errors:
            yield from self.lines(lambda: False)


def _record(line: bytes) -> dict[str, Any] | None:
    """What a line reports, or None if it is something else."""
    try:
        record = json.loads(_NOT_FINITE.sub(rb"\1NaN", line))
    except ValueError:
        return None
    if not isinstance(record, dict) or "value" not in record:
        return None
    said = line.decode(errors="replace").strip()
    if type(record["value"]) not in (int, float) or type(record.get("step", 1)) is not int:
        raise TrainingError(f"a step must be reported by numbers, but got {said!r:.100}.")
    if record.get("step", 1) < 1:
        raise TrainingError(f"steps must be counted from 1, but got {said!r:.100}.")
    return record


def _is_there(path: Path) -> None:
    """The command has written the checkpoint already."""


def _written_at(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0
