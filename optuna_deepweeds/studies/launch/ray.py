"""Workers on a Ray cluster: `--engine ray`. One Ray task holds one worker process.

The nodes need this package, the images and, by their environment or by `arguments`, the same
paths; the storage must be reachable from all of them (PostgreSQL, not a SQLite file).
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from optuna_deepweeds.errors import DeepWeedsError, InvalidInputError
from optuna_deepweeds.studies.launch.local import (
    MAX_RESTARTS,
    WORKER,
    LaunchResult,
    WorkerCommand,
    absolute_url,
    may_restart,
)

_POLL_SECONDS = 0.5
_GONE = 1  # Exit code of a worker whose node or Ray process died once too often.


def launch_ray(
    study_name: str,
    url: str,
    n_workers: int,
    *,
    arguments: Sequence[str] = (),
    address: str | None = None,
    gpus_per_worker: float = 0.0,
    cpus_per_worker: float = 1.0,
    should_stop: Callable[[], bool] = lambda: False,
    on_tick: Callable[[], None] = lambda: None,
    max_restarts: int = MAX_RESTARTS,
    program: Sequence[str] = WORKER,
) -> LaunchResult:
    """Run workers on a Ray cluster until all of them ended.

    A worker that crashes, or whose node dies, is started again wherever there is room. When
    `should_stop` turns true, each worker puts its trial back.

    Args:
        study_name: The study to work on.
        url: Its storage, as the nodes reach it.
        n_workers: Number of workers; those without room on the cluster wait for it.
        arguments: Further arguments of `optuna-deepweeds worker`.
        address: The cluster's address; None for RAY_ADDRESS, a running local cluster, or else a
            new one on this machine.
        gpus_per_worker: A fraction lets several workers share one GPU.
        cpus_per_worker: CPU cores that Ray reserves for a worker.
        should_stop: Asked twice a second.
        on_tick: Called as often, to show progress.
        max_restarts: How often a worker that crashed is started again.
        program: The command to run as a worker.

    Raises:
        DeepWeedsError: Ray is not installed, or the cluster cannot be reached.
    """
    if n_workers < 1:
        raise InvalidInputError(f"`workers >= 1` must hold, but got workers={n_workers}.")
    ray = _connect(address)
    task = ray.remote(max_retries=0, num_cpus=cpus_per_worker, num_gpus=gpus_per_worker)(_work)
    command = WorkerCommand(study_name, absolute_url(url), tuple(arguments), tuple(program))
    result = LaunchResult(exit_codes=[_GONE] * n_workers)
    restarts = [0] * n_workers
    running = {task.remote(command): i for i in range(n_workers)}
    told = False
    try:
        while running:
            done, _ = ray.wait(list(running), timeout=_POLL_SECONDS)
            for reference in done:
                i = running.pop(reference)
                code = _result(ray, reference)
                # None: the node or Ray's process died, which is a crash as well.
                result.exit_codes[i] = _GONE if code is None else code
                crash = -9 if code is None else code
                if not told and may_restart(crash, restarts[i], max_restarts):
                    restarts[i] += 1
                    result.restarts += 1
                    running[task.remote(command)] = i
            told = told or should_stop()
            if told:
                _cancel(ray, running)  # At every turn: a request may get lost.
            on_tick()
    except BaseException:
        _cancel(ray, running)
        raise
    return result


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


def _connect(address: str | None) -> Any:
    try:
        import ray
    except ImportError:
        raise DeepWeedsError(
            "The engine ray needs the Python package ray, which is not installed; install it "
            "by: pip install 'optuna-deepweeds[ray]'"
        ) from None
    if not ray.is_initialized():
        try:
            ray.init(address=address, log_to_driver=True, include_dashboard=False)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise DeepWeedsError(
                f"A Ray cluster must answer at {address or 'RAY_ADDRESS'}, but: {error}"
            ) from error
    return ray


def _result(ray: Any, reference: Any) -> int | None:
    try:
        return int(ray.get(reference))
    except (ray.exceptions.TaskCancelledError, KeyboardInterrupt):
        return 143
    except ray.exceptions.RayError:
        return None


def _cancel(ray: Any, running: dict[Any, int]) -> None:
    for reference in running:
        ray.cancel(reference, force=False)
