"""What a suggestion costs as a study grows, and what a pruner's decision costs in a long one."""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna

from optuna_deepweeds.bench.curves import Curves
from optuna_deepweeds.bench.methods import make_pruner
from optuna_deepweeds.bench.problems import Problem, load_problem, random_params
from optuna_deepweeds.bench.replay import Simulation
from optuna_deepweeds.bench.runner import quiet, single_threaded_processes
from optuna_deepweeds.bench.samplers import grid, make_study
from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.seeds import generator
from optuna_deepweeds.studies.storage import open_storage

N_SUGGESTIONS = 20
"""Suggestions measured at each size, after two that are not."""

N_TRIALS = 60
"""Trials over which decisions are timed, after two that are not."""


def of_suggestions(task: str, sampler: str, sizes: Sequence[int]) -> list[dict[str, Any]]:
    """Records of `sampler` at each size of one growing study of `task`.

    The study is filled with random configurations in between, so that one sampler lives through
    all sizes: what it hoards shows as memory. A process of its own keeps others' memory out.

    Returns:
        `trials` finished when the measurement began; median and longest CPU time in milliseconds
        to ask, suggest every parameter and tell; resident memory of the process in MiB
        afterwards, the study's trials included.

    Raises:
        InvalidInputError: A sampler that is not Optuna's kind of class.
    """
    with single_threaded_processes(1) as executor:
        return executor.submit(_measure, task, sampler, tuple(sizes)).result()


def _measure(task: str, sampler: str, sizes: Sequence[int]) -> list[dict[str, Any]]:
    if sampler.partition(":")[0] == "smac":
        raise InvalidInputError(f"costs are measured on Optuna samplers, but got {sampler!r}.")
    problem = load_problem(task)
    records = []
    with quiet():
        (cell,) = grid([task], [sampler], [0], budget=max(sizes))
        study = make_study(cell, problem)
        rng = generator(0, "cost", task)
        for size in sorted(sizes):
            _fill(study, problem, size, rng)
            seconds = []
            for _ in range(N_SUGGESTIONS + 2):
                start = time.process_time()
                trial = study.ask()
                problem.space.suggest(trial)
                spent = time.process_time() - start
                value = problem.evaluate(trial.params, rng.random())
                start = time.process_time()
                study.tell(trial, value)
                seconds.append(spent + time.process_time() - start)
            gc.collect()
            times = 1000 * np.array(seconds[2:])
            records.append(
                {
                    "sampler": sampler,
                    "trials": size,
                    "ms": float(np.median(times)),
                    "worst_ms": float(times.max()),
                    "memory_mib": _resident(),
                }
            )
    return records


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


def of_decisions(curves: Curves, pruner: str, n_trials: int, *, seed: int = 0) -> dict[str, Any]:
    """Replay `n_trials` trials in memory, move them to a SQLite file and time what comes next.

    Returns:
        Number of `decisions` timed, their mean, median and longest time on the clock in
        milliseconds, what a decision reads and stores included; `choice`, the mean time of
        choosing what to continue, None for pruners that continue nothing.

    Raises:
        InvalidInputError: The curves are used up before there are so many trials.
    """
    peer = make_pruner(pruner, max_resource=curves.n_epochs, seed=seed)
    simulation = Simulation(curves, peer, seed=seed)
    simulation.run(max_trials=n_trials)
    outcome = simulation.outcome
    if outcome.trials == n_trials:
        with tempfile.TemporaryDirectory() as directory:
            storage = open_storage(f"sqlite:///{directory}/cost.db")
            try:
                simulation.move(storage)
                simulation.run(max_trials=n_trials + 2)
                outcome.decision_times.clear()
                outcome.choice_times.clear()
                simulation.run(max_trials=n_trials + 2 + N_TRIALS)
            finally:
                storage.remove_session()
                storage.engine.dispose()
    if outcome.trials < n_trials or not outcome.decision_times:
        raise InvalidInputError(
            f"the curves must last for more than {n_trials} trials, but {curves.name} gave "
            f"{outcome.trials}."
        )
    times = 1e3 * np.array(outcome.decision_times)
    return {
        "pruner": pruner,
        "trials": n_trials,
        "decisions": len(times),
        "milliseconds": float(times.mean()),
        "median": float(np.median(times)),
        "worst": float(times.max()),
        "choice": 1e3 * float(np.mean(outcome.choice_times)) if outcome.choice_times else None,
    }
