"""What a suggestion costs as a study grows: CPU time and memory."""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import optuna

from optuna_deepweeds.bench.problems import Problem, load_problem, random_params, stream
from optuna_deepweeds.bench.results import CellKey
from optuna_deepweeds.bench.samplers import (
    OptunaOptimiser,
    Setting,
    make_optimiser,
    quiet,
    single_threaded_children,
)
from optuna_deepweeds.errors import InvalidInputError

N_SUGGESTIONS = 20
"""Suggestions measured at each size, after two that are not."""


@dataclass(frozen=True)
class Cost:
    """A sampler at one size of a study.

    Attributes:
        sampler: As named on the command line.
        trials: Finished trials when the measurement began.
        ms: Median CPU time in milliseconds to ask, suggest every parameter and tell.
        worst_ms: The longest of them.
        memory_mib: Resident memory of the process afterwards, the study's trials included.
    """

    sampler: str
    trials: int
    ms: float
    worst_ms: float
    memory_mib: float


def measure(task: str, sampler: str, sizes: Sequence[int]) -> list[dict[str, Any]]:
    """The `Cost` of `sampler` at each size of one growing study of `task`, as records.

    The study is filled with random configurations in between, so that one sampler lives through
    all sizes: what it hoards shows as memory. A process of its own keeps others' memory out.

    Raises:
        InvalidInputError: A sampler that is not Optuna's kind of class.
    """
    with (
        single_threaded_children(),
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor,
    ):
        return executor.submit(_measure, task, sampler, tuple(sizes)).result()


def _measure(task: str, sampler: str, sizes: Sequence[int]) -> list[dict[str, Any]]:
    problem = load_problem(task)
    costs = []
    with quiet():
        optimiser = make_optimiser(CellKey(task, sampler, "none", 0), problem, Setting())
        if not isinstance(optimiser, OptunaOptimiser):
            raise InvalidInputError(f"costs are measured on Optuna samplers, but got {sampler!r}.")
        rng = stream(0, "cost", task)
        for size in sorted(sizes):
            _fill(optimiser.study, problem, size, rng)
            seconds = []
            for _ in range(N_SUGGESTIONS + 2):
                start = time.process_time()
                params = optimiser.ask()
                spent = time.process_time() - start
                value = problem.evaluate(params, rng.random())
                start = time.process_time()
                optimiser.tell(value)
                seconds.append(spent + time.process_time() - start)
            gc.collect()
            times = 1000 * np.array(seconds[2:])
            cost = Cost(sampler, size, float(np.median(times)), float(times.max()), _resident())
            costs.append(asdict(cost))
    return costs


def _fill(study: optuna.Study, problem: Problem, n_trials: int, rng: np.random.Generator) -> None:
    """Add random finished trials until there are `n_trials`."""
    distributions = problem.space.distributions
    for _ in range(n_trials - len(study.get_trials(deepcopy=False))):
        params = random_params(problem.space, rng)
        study.add_trial(
            optuna.trial.create_trial(
                params=params,
                distributions={name: distributions[name] for name in params},
                value=problem.evaluate(params, rng.random()),
            )
        )


def _resident() -> float:
    """Resident memory of this process in MiB, from /proc."""
    n_pages = int(Path("/proc/self/statm").read_text().split()[1])
    return n_pages * 4096 / 2**20
