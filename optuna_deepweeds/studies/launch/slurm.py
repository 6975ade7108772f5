"""Workers as Slurm jobs through submitit: `--engine slurm`. One job holds one worker process.

At its time limit a job's worker puts its trial back and the job is queued again; the study goes
on from the checkpoint, which therefore must lie on a disk that all nodes share.
"""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from optuna_deepweeds.errors import DeepWeedsError, InvalidInputError
from optuna_deepweeds.studies.launch.local import (
    WORKER,
    LaunchResult,
    WorkerCommand,
    absolute_url,
)
from optuna_deepweeds.studies.storage.engine import STORAGE_VARIABLE

_POLL_SECONDS = 1.0
_DEFAULT_FOLDER = Path("storage") / "slurm"
# Before the time limit: the epoch under way, its checkpoint, and the requeueing.
_NOTICE_SECONDS = 120


class SlurmWorker:
    """What a job runs; submitit asks it for a continuation when the time is nearly over."""

    def __init__(self, study_name: str, arguments: Sequence[str], program: Sequence[str]) -> None:
        # Without the URL: the job's files lie in a shared folder. It comes by the environment.
        self.study_name = study_name
        self.arguments = tuple(arguments)
        self.program = tuple(program)
        self._process: subprocess.Popen[bytes] | None = None
        self._waiter: threading.Thread | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_process": None, "_waiter": None}

    def __call__(self) -> int:
        """Run the worker; returns its exit code."""
        url = os.environ[STORAGE_VARIABLE]
        command = WorkerCommand(self.study_name, url, self.arguments, self.program)
        self._process = command.start()
        # A thread of its own waits: `checkpoint` runs as a signal handler in the middle of this.
        self._waiter = threading.Thread(target=self._process.wait)
        self._waiter.start()
        while self._waiter.is_alive():
            self._waiter.join(_POLL_SECONDS)
        return int(self._process.returncode)

    def checkpoint(self) -> Any:
        """Put the running trial back and return the job's continuation."""
        from submitit.helpers import DelayedSubmission

        if self._process is not None and self._waiter is not None:
            self._process.terminate()
            self._waiter.join()
        return DelayedSubmission(SlurmWorker(self.study_name, self.arguments, self.program))


def launch_slurm(
    study_name: str,
    url: str,
    n_workers: int,
    *,
    arguments: Sequence[str] = (),
    folder: Path = _DEFAULT_FOLDER,
    cluster: str = "slurm",
    time_limit_minutes: int = 240,
    gpus_per_worker: int = 0,
    cpus_per_worker: int = 4,
    options: Mapping[str, Any] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    on_tick: Callable[[], None] = lambda: None,
    program: Sequence[str] = WORKER,
) -> LaunchResult:
    """Submit workers as jobs and wait until all of them ended.

    The jobs outlive this process if it is killed; `study stop` ends them then. When
    `should_stop` turns true, the jobs are cancelled and their trials put back.

    Args:
        study_name: The study to work on.
        url: Its storage, as the nodes reach it.
        n_workers: Number of jobs.
        arguments: Further arguments of `optuna-deepweeds worker`.
        folder: Where submitit keeps scripts and logs; on a disk that all nodes share.
        cluster: "slurm", or "local" to run the jobs as processes of this machine.
        time_limit_minutes: After this long a job is queued again.
        gpus_per_worker: Whole GPUs of a job.
        cpus_per_worker: CPU cores of a job.
        options: Further parameters of submitit's executor, such as `slurm_partition`.
        should_stop: Asked every second.
        on_tick: Called as often, to show progress.
        program: The command to run as a worker.

    Raises:
        DeepWeedsError: submitit is not installed, or Slurm refuses the jobs.
    """
    if n_workers < 1:
        raise InvalidInputError(f"`workers >= 1` must hold, but got workers={n_workers}.")
    submitit = _submitit()
    folder.mkdir(parents=True, exist_ok=True)
    jobs = []
    before = os.environ.get(STORAGE_VARIABLE)
    # Slurm hands the submitter's environment on to the job.
    os.environ[STORAGE_VARIABLE] = absolute_url(url)
    try:
        executor = submitit.AutoExecutor(
            folder=folder, cluster=cluster, slurm_max_num_timeout=1_000_000
        )
        executor.update_parameters(
            name=f"deepweeds-{study_name}"[:60],
            timeout_min=time_limit_minutes,
            gpus_per_node=gpus_per_worker,
            cpus_per_task=cpus_per_worker,
            slurm_signal_delay_s=_NOTICE_SECONDS,
            **(options or {}),
        )
        worker = SlurmWorker(study_name, arguments, program)
        jobs = [executor.submit(worker) for _ in range(n_workers)]
    except (RuntimeError, submitit.core.utils.FailedJobError) as error:
        raise DeepWeedsError(f"Slurm must take the jobs, but said: {error}") from error
    finally:
        if before is None:
            os.environ.pop(STORAGE_VARIABLE)
        else:
            os.environ[STORAGE_VARIABLE] = before
    return _wait(jobs, should_stop=should_stop, on_tick=on_tick)


def _wait(
    jobs: Sequence[Any], *, should_stop: Callable[[], bool], on_tick: Callable[[], None]
) -> LaunchResult:
    told = False
    while not all(job.done() for job in jobs):
        if not told and should_stop():
            told = True
            for job in jobs:
                job.cancel(check=False)
        on_tick()
        time.sleep(_POLL_SECONDS)
    return LaunchResult(exit_codes=[143 if told else _exit_code(job) for job in jobs])


def _exit_code(job: Any) -> int:
    # `exception` is None as well for a worker that ended with an error of its own.
    return 1 if job.exception() is not None else int(job.result())


def _submitit() -> Any:
    try:
        import submitit
    except ImportError:
        raise DeepWeedsError(
            "The engine slurm needs the Python package submitit, which is not installed; install "
            "it by: pip install 'optuna-deepweeds[slurm]'"
        ) from None
    return submitit
