"""Workers on a Ray cluster: `--engine ray`. One Ray task holds one worker process.

The nodes need this package, the images and, by their environment or by their arguments, the same
paths; the storage must be reachable from all of them (PostgreSQL, not a SQLite file).
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from optuna_deepweeds.errors import DeepWeedsError
from optuna_deepweeds.studies.launch.local import WorkerCommand

_POLL_SECONDS = 0.5
_LOST = -9  # The node or Ray's process died, which is a crash as well.


def ray_workers(command: WorkerCommand, gpus: float) -> Callable[[int], RayWorker]:
    """What starts each worker, wherever there is room; those without room wait for it.

    The cluster is that of RAY_ADDRESS, one that runs here, or else a new one on this machine.

    Args:
        command: How one worker is started; its URL is the storage's as the nodes reach it.
        gpus: Of a worker; a fraction lets several share one.

    Raises:
        DeepWeedsError: The cluster cannot be reached.
    """
    import ray

    if not ray.is_initialized():
        try:
            ray.init(log_to_driver=True, include_dashboard=False)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise DeepWeedsError(
                f"A Ray cluster must answer at RAY_ADDRESS, but: {error}"
            ) from error
    task = ray.remote(max_retries=0, num_cpus=1, num_gpus=gpus)(_work)
    command = replace(command, url=command.absolute_url)
    return lambda index: RayWorker(ray, task.remote(command))


class RayWorker:
    """One worker, by the reference to its task."""

    def __init__(self, ray: Any, reference: Any) -> None:
        self._ray = ray
        self._reference = reference
        self._told = False

    def poll(self) -> int | None:
        if not self._ray.wait([self._reference], timeout=0)[0]:
            if self._told:
                self.terminate()  # At every turn: a request may get lost.
            return None
        try:
            return int(self._ray.get(self._reference))
        except (self._ray.exceptions.TaskCancelledError, KeyboardInterrupt):
            return 143
        except self._ray.exceptions.RayError:
            return 1 if self._told else _LOST

    def terminate(self) -> None:
        self._told = True
        self._ray.cancel(self._reference, force=False)


def _work(command: WorkerCommand) -> int:
    """On a node: one worker, until it ends or Ray cancels the task."""
    cancelled = threading.Event()
    # Ray cancels a task as Ctrl-C would, maybe several times; an exception could come anywhere,
    # and the worker must be told once.
    before = signal.signal(signal.SIGINT, lambda number, frame: cancelled.set())
    try:
        process = command.start()
        told = False
        while process.poll() is None:
            if cancelled.is_set() and not told:
                told = True
                process.terminate()
            time.sleep(_POLL_SECONDS)
        return int(process.returncode)
    finally:
        signal.signal(signal.SIGINT, before)
