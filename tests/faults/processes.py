"""Worker processes on one study: started, waited for, found again by the trials that they have."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from typing import Any

import optuna

from optuna_deepweeds import attributes
from tests.faults.studies import BenchStudy, work

LONGEST_SECONDS = 600.0


def start(target: Callable[..., None], bench: BenchStudy, *arguments: Any) -> BaseProcess:
    """A process that calls `target(bench, *arguments)`."""
    # Imports once; a forked worker starts in milliseconds, so that kills hit work.
    context = multiprocessing.get_context("forkserver")
    preload = [work.__module__, "sqlalchemy.dialects.sqlite", "sqlalchemy.dialects.postgresql"]
    preload += ["alembic.command", "optuna_deepweeds.pruners.dora"]
    if bench.url.startswith("postgresql"):
        preload.append("psycopg")
    if bench.epoch_seconds is None:
        # (torch._dynamo takes seconds and is imported by every optimiser.)
        preload += ["optuna_deepweeds.training", "torch", "torch._dynamo"]
    context.set_forkserver_preload(preload)
    process = context.Process(target=target, args=(bench, *arguments), daemon=True)
    process.start()
    return process


def finish(processes: Sequence[BaseProcess]) -> None:
    """Wait until every worker has ended by itself."""
    deadline = time.monotonic() + LONGEST_SECONDS
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    assert codes == [0] * len(processes), "every worker ends by itself"


def enlarge(study: optuna.Study, n_trials: int) -> None:
    """Give the study another total."""
    study.set_user_attr(attributes.BUDGET, {"trials": n_trials})
