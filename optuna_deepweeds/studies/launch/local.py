"""Several workers of one study: as processes of this machine, or by Ray or Slurm.

Every engine does no more than run `optuna-deepweeds worker NAME` somewhere and run it again when
it dies; what a worker does is the same everywhere. The storage's URL travels in the environment,
where `ps` does not show its password.

| engine | needs | a dead worker | many GPUs |
|---|---|---|---|
| local | - | started again | dealt out in turn |
| ray | `optuna-deepweeds[ray]`, a Ray cluster | started again, maybe elsewhere | fractions |
| slurm | `optuna-deepweeds[slurm]`, a cluster | job requeued at its time limit | by Slurm |
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.studies.storage.engine import STORAGE_VARIABLE, resolve_url, sqlite_path

ENGINES = ("local", "ray", "slurm")


def worker_program(verbosity: int = 0) -> tuple[str, ...]:
    """The command that runs a worker without a display, logging as `-v` given so often does."""
    return (sys.executable, "-m", "optuna_deepweeds", *["-v"] * verbosity, "worker", "--quiet")


WORKER = worker_program()

MAX_RESTARTS = 3
_POLL_SECONDS = 0.2
_RESTART_PAUSE_SECONDS = 1.0
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class WorkerCommand:
    """How one worker is started, on whatever machine.

    Attributes:
        study_name: The study to join.
        url: Its storage, with the password if it has one.
        arguments: Further arguments of `optuna-deepweeds worker`, such as `--device cpu`.
        program: The command that takes them.
    """

    study_name: str
    url: str
    arguments: tuple[str, ...] = ()
    program: tuple[str, ...] = WORKER

    @property
    def line(self) -> list[str]:
        """The command line; without the URL."""
        return [*self.program, *self.arguments, "--", self.study_name]

    def start(self, environment: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start the worker; it puts its trial back when this process dies or ends it."""
        return subprocess.Popen(
            self.line,
            env={**os.environ, **(environment or {}), STORAGE_VARIABLE: absolute_url(self.url)},
            # Ctrl-C reaches a terminal's whole process group; a worker must get only the one
            # signal that its launcher passes on, as the second ends it at once.
            start_new_session=True,
            preexec_fn=die_with_parent,
        )


@dataclass
class LaunchResult:
    """How the workers of one launch ended.

    Attributes:
        exit_codes: The last exit code of each worker; negative for a signal.
        restarts: How often workers were started again.
    """

    exit_codes: list[int] = field(default_factory=list)
    restarts: int = 0

    @property
    def exit_code(self) -> int:
        """0 if any worker saw the study to its end, else what went wrong first."""
        if not self.exit_codes or 0 in self.exit_codes:
            return 0
        code = self.exit_codes[0]
        return 128 - code if code < 0 else code


@dataclass
class _Slot:
    """One of the workers, through its restarts."""

    environment: dict[str, str]
    process: subprocess.Popen[bytes]
    exit_code: int | None = None
    restarts: int = 0
    restart_at: float | None = None


def launch_local(
    study_name: str,
    url: str,
    n_workers: int,
    *,
    arguments: Sequence[str] = (),
    devices: Sequence[str] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    on_tick: Callable[[], None] = lambda: None,
    max_restarts: int = MAX_RESTARTS,
    program: Sequence[str] = WORKER,
    environment: Mapping[str, str] | None = None,
) -> LaunchResult:
    """Run workers as processes of this machine until all of them ended.

    When `should_stop` turns true, each worker gets SIGTERM once and puts its trial back. When
    this process dies, its workers do the same; those already told end at once.

    Args:
        study_name: The study to work on.
        url: Its storage.
        n_workers: Number of processes.
        arguments: Further arguments of `optuna-deepweeds worker`.
        devices: CUDA devices to deal out in turn, as in CUDA_VISIBLE_DEVICES; by default those
            of that variable, if set. Empty: leave the choice to the workers.
        should_stop: Asked several times a second.
        on_tick: Called as often, to show progress.
        max_restarts: How often a worker that crashed is started again.
        program: The command to run as a worker.
        environment: Added to that of the workers.

    Raises:
        InvalidInputError: `n_workers` is less than 1.
    """
    if n_workers < 1:
        raise InvalidInputError(f"`workers >= 1` must hold, but got workers={n_workers}.")
    if devices is None:
        devices = visible_devices()
    command = WorkerCommand(study_name, url, tuple(arguments), tuple(program))
    result = LaunchResult()
    slots: list[_Slot] = []
    told = False
    try:
        for i in range(n_workers):
            own = {**(environment or {}), **_environment(i, n_workers, devices)}
            slots.append(_Slot(own, command.start(own)))
        while True:
            for slot in slots:
                slot.exit_code = slot.process.poll()
            if not told and should_stop():
                told = True
                for slot in slots:
                    slot.restart_at = None
                    if slot.exit_code is None:
                        slot.process.terminate()
            if not told:
                for slot in slots:
                    _look_after(slot, command, max_restarts, result)
            on_tick()
            if all(s.exit_code is not None and s.restart_at is None for s in slots):
                break
            time.sleep(_POLL_SECONDS)
    finally:
        for slot in slots:  # Some still run only after an exception.
            if slot.process.poll() is None and not told:
                slot.process.terminate()
        result.exit_codes = [slot.process.wait() for slot in slots]
    return result


def visible_devices() -> list[str]:
    """The CUDA devices that this process may use by CUDA_VISIBLE_DEVICES; empty if not set."""
    text = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    devices = [device.strip() for device in text.split(",") if device.strip()]
    return [] if devices == ["-1"] else devices


def absolute_url(url: str) -> str:
    """The URL with an absolute path, for processes that start in other folders."""
    resolved = resolve_url(url)
    path = sqlite_path(resolved)
    if path is not None and not path.is_absolute() and not resolved.query:
        resolved = resolved.set(database=str(Path.cwd() / path))
    return resolved.render_as_string(hide_password=False)


def may_restart(exit_code: int, restarts: int, max_restarts: int = MAX_RESTARTS) -> bool:
    """Whether starting a worker again can help.

    It can after a signal that nobody asked for (out of memory, a crash in a driver) and after
    losing the storage; once after an error, for a broken CUDA context heals with the process.
    """
    if exit_code < 0 or exit_code == 5:
        return restarts < max_restarts
    return exit_code == 1 and restarts < min(1, max_restarts)


def _look_after(
    slot: _Slot, command: WorkerCommand, max_restarts: int, result: LaunchResult
) -> None:
    """Start a crashed worker again, after a pause that grows."""
    if slot.exit_code is None:
        return
    now = time.monotonic()
    if slot.restart_at is None:
        if may_restart(slot.exit_code, slot.restarts, max_restarts):
            slot.restart_at = now + _RESTART_PAUSE_SECONDS * 2**slot.restarts
    elif now >= slot.restart_at:
        slot.restart_at = None
        slot.restarts += 1
        result.restarts += 1
        slot.process = command.start(slot.environment)
        slot.exit_code = None


def _environment(index: int, n_workers: int, devices: Sequence[str]) -> dict[str, str]:
    environment = {}
    if devices:
        environment["CUDA_VISIBLE_DEVICES"] = devices[index % len(devices)]
    if n_workers > 1 and "OMP_NUM_THREADS" not in os.environ:
        # Each process would start a thread a core.
        environment["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // n_workers))
    return environment


def die_with_parent() -> None:
    """Between fork and exec: ask Linux for a SIGTERM when the launcher dies."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


# Loaded before any fork: the child must not import or allocate much.
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
