"""How one worker is started, and workers as processes of this machine: `--engine local`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from optuna_deepweeds.processes import dying_with_parent
from optuna_deepweeds.studies.storage.engine import STORAGE_VARIABLE, resolve_url, sqlite_path


def worker_program(*options: str) -> tuple[str, ...]:
    """The command that runs a worker without a display, with `options` of the program itself."""
    return (sys.executable, "-m", "optuna_deepweeds", *options, "worker", "--quiet")


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
    program: tuple[str, ...] = worker_program()

    @property
    def line(self) -> list[str]:
        """The command line; without the URL."""
        return [*self.program, *self.arguments, "--", self.study_name]

    @property
    def absolute_url(self) -> str:
        """The URL with an absolute path, for processes that start in other folders."""
        url = resolve_url(self.url)
        path = sqlite_path(url)
        if path is not None and not path.is_absolute() and not url.query:
            url = url.set(database=str(Path.cwd() / path))
        return url.render_as_string(hide_password=False)

    def start(self, environment: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start the worker; it puts its trial back when this process dies or ends it."""
        return subprocess.Popen(
            self.line,
            env={**os.environ, **(environment or {}), STORAGE_VARIABLE: self.absolute_url},
            # Ctrl-C reaches a terminal's whole process group; a worker must get only the one
            # signal that its launcher passes on, as the second ends it at once.
            start_new_session=True,
            preexec_fn=dying_with_parent(signal.SIGTERM),
        )


def local_workers(
    command: WorkerCommand, n_workers: int, environment: Mapping[str, str]
) -> Callable[[int], subprocess.Popen[bytes]]:
    """What starts each worker; the devices of CUDA_VISIBLE_DEVICES are dealt out in turn."""
    devices = visible_devices()

    def start(index: int) -> subprocess.Popen[bytes]:
        own = dict(environment)
        if devices:
            own["CUDA_VISIBLE_DEVICES"] = devices[index % len(devices)]
        if n_workers > 1 and "OMP_NUM_THREADS" not in os.environ:
            # Each process would start a thread a core.
            own["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // n_workers))
        return command.start(own)

    return start


def visible_devices() -> list[str]:
    """The CUDA devices that this process may use by CUDA_VISIBLE_DEVICES; empty if not set."""
    text = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    devices = [device.strip() for device in text.split(",") if device.strip()]
    return [] if devices == ["-1"] else devices
