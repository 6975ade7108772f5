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

import importlib.util
import math
from collections.abc import Callable

from optuna_deepweeds.errors import DeepWeedsError
from optuna_deepweeds.studies.launch.local import WorkerCommand, local_workers, worker_program
from optuna_deepweeds.studies.launch.supervise import MAX_RESTARTS, Handle, LaunchResult, supervise

__all__ = ["ENGINES", "LaunchResult", "WorkerCommand", "check_engine", "launch", "worker_program"]

ENGINES = ("local", "ray", "slurm")
_PACKAGES = {"ray": "ray", "slurm": "submitit"}


def check_engine(engine: str) -> None:
    """Refuse an engine whose package is not installed.

    Raises:
        DeepWeedsError: It is not.
    """
    package = _PACKAGES.get(engine)
    if package is not None and importlib.util.find_spec(package) is None:
        raise DeepWeedsError(
            f"The engine {engine} needs the Python package {package}, which is not installed; "
            f"install it by: pip install 'optuna-deepweeds[{engine}]'"
        )


def launch(
    engine: str,
    command: WorkerCommand,
    n_workers: int,
    *,
    device: str | None = None,
    gpus: float = 0.0,
    should_stop: Callable[[], bool] = lambda: False,
    on_tick: Callable[[], None] = lambda: None,
    max_restarts: int = MAX_RESTARTS,
) -> LaunchResult:
    """Run workers by one of `ENGINES` until all of them ended.

    When `should_stop` turns true, each worker is told once and puts its trial back.

    Args:
        engine: Its name.
        command: How one worker is started.
        n_workers: Number of workers.
        device: Theirs, as for `training.train`; workers of this machine share a GPU.
        gpus: GPUs a worker, on a cluster; Slurm gives whole ones.
        should_stop: Asked at least once a second.
        on_tick: Called every two seconds, to show progress.
        max_restarts: How often a worker that crashed is started again; Slurm looks after its own.

    Raises:
        DeepWeedsError: The engine is not installed, or its cluster cannot be reached.
    """
    check_engine(engine)
    start: Callable[[int], Handle]
    if engine == "ray":
        from optuna_deepweeds.studies.launch.ray import ray_workers

        start = ray_workers(command, gpus)
        return supervise(start, n_workers, should_stop, on_tick, max_restarts, 0.5)
    if engine == "slurm":
        from optuna_deepweeds.studies.launch.slurm import slurm_workers

        start = slurm_workers(command, math.ceil(gpus))
        return supervise(start, n_workers, should_stop, on_tick, 0, 1.0)
    from optuna_deepweeds.studies.launch.gpu_sharing import shared_gpu

    with shared_gpu(n_workers, device) as environment:
        start = local_workers(command, n_workers, environment)
        return supervise(start, n_workers, should_stop, on_tick, max_restarts, 0.2)
