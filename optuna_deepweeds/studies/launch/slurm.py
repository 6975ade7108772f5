"""Workers as Slurm jobs through submitit: `--engine slurm`. One job holds one worker process.

At its time limit a job's worker puts its trial back and the job is queued again; the study goes
on from the checkpoint, which therefore must lie on a disk that all nodes share. The jobs outlive
the process that submitted them if it is killed; `study stop` ends them then.
"""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from optuna_deepweeds.errors import DeepWeedsError
from optuna_deepweeds.studies.launch.local import WorkerCommand
from optuna_deepweeds.studies.storage.engine import STORAGE_VARIABLE

_DEFAULT_FOLDER = Path("storage") / "slurm"
_CPUS = 4
# Before the time limit: the epoch under way, its checkpoint, and the requeueing.
_NOTICE_SECONDS = 120


class SlurmWorker:
    """What a job runs; submitit asks it for a continuation when the time is nearly over.

    Args:
        command: How the worker is started, without the URL, which comes by the environment: the
            job's files lie in a shared folder.
    """

    def __init__(self, command: WorkerCommand) -> None:
        self.command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._waiter: threading.Thread | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_process": None, "_waiter": None}

    def __call__(self) -> int:
        """Run the worker; returns its exit code."""
        self._process = replace(self.command, url=os.environ[STORAGE_VARIABLE]).start()
        # A thread of its own waits: `checkpoint` runs as a signal handler in the middle of this.
        self._waiter = threading.Thread(target=self._process.wait)
        self._waiter.start()
        while self._waiter.is_alive():
            self._waiter.join(1.0)
        return int(self._process.returncode)

    def checkpoint(self) -> Any:
        """Put the running trial back and return the job's continuation."""
        from submitit.helpers import DelayedSubmission

        if self._process is not None and self._waiter is not None:
            self._process.terminate()
            self._waiter.join()
        return DelayedSubmission(SlurmWorker(self.command))


def slurm_workers(
    command: WorkerCommand,
    gpus: int,
    *,
    folder: Path = _DEFAULT_FOLDER,
    cluster: str = "slurm",
    minutes: int = 240,
) -> Callable[[int], SlurmJob]:
    """What submits each worker as a job.

    Args:
        command: How one worker is started; its URL is the storage's as the nodes reach it.
        gpus: Of a job.
        folder: Where submitit keeps scripts and logs; on a disk that all nodes share.
        cluster: "slurm", or "local" to run the jobs as processes of this machine.
        minutes: After so long a job is queued again.
    """
    import submitit

    folder.mkdir(parents=True, exist_ok=True)

    def submit(index: int) -> SlurmJob:
        before = os.environ.get(STORAGE_VARIABLE)
        # Slurm hands the submitter's environment on to the job.
        os.environ[STORAGE_VARIABLE] = command.absolute_url
        try:
            executor = submitit.AutoExecutor(
                folder=folder, cluster=cluster, slurm_max_num_timeout=1_000_000
            )
            executor.update_parameters(
                name=f"deepweeds-{command.study_name}"[:60],
                timeout_min=minutes,
                gpus_per_node=gpus,
                cpus_per_task=_CPUS,
                slurm_signal_delay_s=_NOTICE_SECONDS,
            )
            return SlurmJob(executor.submit(SlurmWorker(replace(command, url=""))))
        except (RuntimeError, submitit.core.utils.FailedJobError) as error:
            raise DeepWeedsError(f"Slurm must take the jobs, but said: {error}") from error
        finally:
            if before is None:
                os.environ.pop(STORAGE_VARIABLE)
            else:
                os.environ[STORAGE_VARIABLE] = before

    return submit


class SlurmJob:
    """One worker, by its job."""

    def __init__(self, job: Any) -> None:
        self._job = job
        self._told = False

    def poll(self) -> int | None:
        if not self._job.done():
            return None
        if self._told:
            return 143
        # `exception` is None as well for a worker that ended with an error of its own.
        return 1 if self._job.exception() is not None else int(self._job.result())

    def terminate(self) -> None:
        self._told = True
        self._job.cancel(check=False)
