"""Any command as a task: it gets parameters, and prints one line a step."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import queue
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
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


class ScriptTask:
    """Runs a command for each trial; a `Task`.

    `{name}` in the command stands for the parameter, `{checkpoint}`, `{seed}`, `{epochs}` and
    `{device}` for what the run lends; other braces stay. The environment has the same as
    `PARAM_name` and `RUN_CHECKPOINT`, `RUN_SEED`, `RUN_EPOCHS`, `RUN_DEVICE`.

    On stdout, each line `{"value": 0.73}` or `{"step": 3, "value": 0.73}` reports a step; other
    lines are ignored. A command that writes its checkpoint, whole or not at all, before it prints
    the step's line, and goes on from it where it exists, is resumed and continued; others begin
    anew. It is ended by SIGTERM, and what it reports until then counts.

    Args:
        command: As typed in a shell, without the shell's operators.
        space: Its parameters.
        max_resource: The last step.
        metric: What it reports, in words.
        direction: "maximize" or "minimize".

    Raises:
        NotFoundError: If there is no such program.
        InvalidInputError: If the command cannot be split, or names nearly a parameter.
    """

    def __init__(
        self,
        command: str,
        *,
        space: SearchSpace,
        max_resource: int = 20,
        metric: str = "value",
        direction: str = "maximize",
    ) -> None:
        self.name = command
        self.space = space
        self.max_resource = max_resource
        self.metric = metric
        self.direction = direction
        try:
            self._words = shlex.split(command)
        except ValueError as error:
            raise InvalidInputError(f"the command {command!r} cannot be split: {error}.") from None
        if not self._words or shutil.which(self._words[0]) is None:
            raise NotFoundError(f"no program {' '.join(self._words[:1])!r}.")
        known = {*space.distributions, *space.constants, *_OF_THE_RUN}
        for name in _PLACE.findall(command):
            if name not in known and (hint := did_you_mean(name, known)):
                raise InvalidInputError(f"the space has no parameter {name!r}.{hint}")
        self.fingerprint = _digest(self._words)

    def __call__(self, trial: optuna.Trial, run: Run) -> float:
        """Run the command to its end and return the last value.

        Raises:
            TrainingError: If it fails or reports nothing.
        """
        lent = {
            "checkpoint": run.checkpoint,
            "seed": run.seed,
            "epochs": run.epochs,
            "device": run.device or "",
        }
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
        self._errors = tempfile.TemporaryFile("w+", errors="replace")
        self._process = subprocess.Popen(
            words,
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C reaches the worker, which ends it in order.
        )
        self._printed: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stream:
            for line in stream:
                self._printed.put(line)
        self._printed.put(None)

    def lines(self, should_stop: Callable[[], bool]) -> Iterator[str]:
        """Each line as it comes, until the command ends.

        Raises:
            TrialInterrupted: If `should_stop` became true meanwhile.
        """
        while True:
            try:
                line = self._printed.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                if should_stop():
                    raise TrialInterrupted from None
                continue
            if line is None:
                return
            yield line

    def check(self) -> None:
        """Wait for the end.

        Raises:
            TrainingError: If the command failed, with the last line of its stderr.
        """
        if self._process.wait() != 0:
            self._errors.seek(0)
            said = self._errors.read().strip().splitlines()[-1:]
            reason = f"the command ended with code {self._process.returncode}"
            raise TrainingError(": ".join([reason, *said]))

    def end(self) -> list[str]:
        """End the command and what it started; the lines that nobody has read."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=_GRACE_SECONDS)
        self._reader.join()
        self._errors.close()
        left = []
        while not self._printed.empty():
            left.append(self._printed.get() or "")
        return left


def _record(line: str) -> dict[str, Any] | None:
    """What a line reports, or None if it is something else."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    if not isinstance(record, dict) or "value" not in record:
        return None
    step = record.get("step", 1)
    if type(record["value"]) not in (int, float) or type(step) is not int:
        raise TrainingError(f"a step must be reported by numbers, but got {line.strip()!r:.100}.")
    return record


def _is_there(path: Path) -> None:
    """The command has written the checkpoint already."""


def _written_at(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0


def _digest(words: list[str]) -> str:
    """Of the command and of the files that it names."""
    digest = hashlib.sha256("\0".join(words).encode())
    for path in map(Path, words[1:]):
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()
