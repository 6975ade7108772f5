"""What a pruner's decision costs in a study of many trials on SQLite."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass

import numpy as np

from optuna_deepweeds.bench.curves import Curves
from optuna_deepweeds.bench.peers import make_peer
from optuna_deepweeds.bench.replay import Simulation
from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.studies.storage import open_storage

N_TRIALS = 60
"""Trials over which decisions are timed, after two that are not."""


@dataclass(frozen=True)
class DecisionCost:
    """A pruner at one size of a study; times on the clock, in milliseconds.

    Attributes:
        pruner: As named on the command line.
        trials: Trials stored when the measurement began.
        decisions: Decisions timed.
        milliseconds: Mean of a decision after a report, what it reads and stores included.
        median, worst: Of the same.
        choice: Mean of choosing what to continue; None for pruners that continue nothing.
    """

    pruner: str
    trials: int
    decisions: int
    milliseconds: float
    median: float
    worst: float
    choice: float | None


def measure(curves: Curves, pruner: str, n_trials: int, *, seed: int = 0) -> DecisionCost:
    """Replay `n_trials` trials in memory, move them to a SQLite file and time what comes next.

    Raises:
        InvalidInputError: The curves are used up before there are so many trials.
    """
    peer = make_peer(pruner, max_resource=curves.n_epochs, seed=seed)
    simulation = Simulation(curves, peer, seed=seed)
    simulation.run(max_trials=n_trials)
    if simulation.outcome.trials < n_trials:
        raise InvalidInputError(
            f"the curves must last for more than {n_trials} trials, but {curves.name} gave "
            f"{simulation.outcome.trials}."
        )
    with tempfile.TemporaryDirectory() as directory:
        storage = open_storage(f"sqlite:///{directory}/cost.db")
        try:
            simulation.move(storage)
            simulation.run(max_trials=n_trials + 2)
            outcome = simulation.outcome
            outcome.decision_times.clear()
            outcome.choice_times.clear()
            simulation.run(max_trials=n_trials + 2 + N_TRIALS)
        finally:
            storage.remove_session()
            storage.engine.dispose()
    if not outcome.decision_times:
        raise InvalidInputError(
            f"the curves must last for more than {n_trials} trials, but {curves.name} ended."
        )
    times = 1e3 * np.array(outcome.decision_times)
    return DecisionCost(
        pruner,
        n_trials,
        len(times),
        float(times.mean()),
        float(np.median(times)),
        float(times.max()),
        1e3 * float(np.mean(outcome.choice_times)) if outcome.choice_times else None,
    )
