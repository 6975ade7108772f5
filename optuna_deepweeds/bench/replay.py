"""Replay of recorded learning curves through a real pruner on a real study.

Simulated workers ask the study for trials as real ones do; only training is replaced by a look
into the table of curves. Every epoch costs one unit of simulated time, so a worker is free again
after its trial's epochs, whatever the others do. What a decision really costs is measured.
"""

from __future__ import annotations

import heapq
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from optuna_deepweeds.attributes import ENQUEUED_PRIOR
from optuna_deepweeds.bench.curves import Curves, unit_cube
from optuna_deepweeds.studies.resume import continue_trial


class TableSampler(BaseSampler):
    """Proposes each configuration of a table once.

    Without `inner` the order is random. With it, the inner sampler chooses among those that are
    free if it can (`suggest_among`); else it proposes parameters and the nearest free one is
    taken; where it proposes nothing (its start-up trials), the next one of the random order.
    `enqueued` come before all, or the free ones nearest to them.
    """

    def __init__(
        self,
        curves: Curves,
        *,
        rng: np.random.Generator,
        inner: BaseSampler | None = None,
        enqueued: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self._curves = curves
        self._enqueued = [*enqueued]
        self._order = [int(row) for row in rng.permutation(len(curves.values))]
        self._inner = inner
        self._points = unit_cube(curves.params, curves.distributions)
        self._is_free = np.ones(len(curves.values), dtype=bool)
        self.rows: dict[int, int] = {}
        """Number of a trial -> its row of the table."""

    @property
    def is_exhausted(self) -> bool:
        return not self._is_free.any()

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return dict(self._curves.distributions)

    def sample_relative(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        search_space: dict[str, BaseDistribution],
    ) -> dict[str, Any]:
        row = self._chosen(study, trial)
        self._is_free[row] = False
        self.rows[trial.number] = row
        return dict(self._curves.params[row])

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        return self._curves.params[self.rows[trial.number]][param_name]

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        if self._inner is not None:
            self._inner.before_trial(study, trial)

    def after_trial(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        if self._inner is not None:
            self._inner.after_trial(study, trial, state, values)

    def _chosen(self, study: optuna.Study, trial: FrozenTrial) -> int:
        if self._enqueued:
            study._storage.set_trial_user_attr(trial._trial_id, ENQUEUED_PRIOR, "")
            return self._nearest(self._enqueued.pop(0))
        if self._inner is None:
            return self._next()
        if suggest_among := getattr(self._inner, "suggest_among", None):
            free = np.flatnonzero(self._is_free)
            return int(free[suggest_among(study, trial, [self._curves.params[i] for i in free])])
        space = self._inner.infer_relative_search_space(study, trial)
        proposal = self._inner.sample_relative(study, trial, space)
        return self._nearest(proposal) if proposal else self._next()

    def _next(self) -> int:
        while not self._is_free[self._order[-1]]:
            self._order.pop()
        return self._order[-1]

    def _nearest(self, proposal: Mapping[str, Any]) -> int:
        point = unit_cube([proposal], self._curves.distributions)
        difference = np.where(point < 0, 0.0, self._points - point)  # what is absent is open
        distance = np.square(difference).sum(axis=1)
        return int(np.argmin(np.where(self._is_free, distance, np.inf)))


@dataclass
class Outcome:
    """What one replayed run did; regrets are of true values (see `Curves.regret`).

    Attributes:
        epochs: Epochs paid for.
        finished: (epochs paid, regret) whenever the best finished trial changed.
        incumbent: (epochs paid, regret) whenever the trial with the best report so far changed:
            what it would have if it were trained to its end.
        paid: (n,) epochs paid for each configuration of the table.
        trials: Trials created, continuations included.
        continuations: Trials that continued a stopped one.
        decision_times: Seconds on the clock of each time the pruner was asked whether to stop.
        choice_times: Seconds of each choice of a continuation, likewise.
    """

    paid: np.ndarray
    epochs: int = 0
    finished: list[tuple[int, float]] = field(default_factory=list)
    incumbent: list[tuple[int, float]] = field(default_factory=list)
    trials: int = 0
    continuations: int = 0
    decision_times: list[float] = field(default_factory=list)
    choice_times: list[float] = field(default_factory=list)


def generator(seed: int, curves: Curves, stream: int) -> np.random.Generator:
    """A generator of its own for each seed, task and purpose, the same for every pruner."""
    task = np.frombuffer(curves.name.encode(), dtype=np.uint8).tolist()
    return np.random.default_rng(np.random.SeedSequence([seed, stream, *task]))


class Simulation:
    """A study on recorded curves that can go on in another storage.

    A pruner with `next_continuation(study)` is asked by every free worker first, and the trial
    that it names goes on from its last epoch.

    Args:
        curves: True curves; what regret is measured on.
        pruner: A fresh pruner.
        seed: Decides the random order of configurations, together with the task's name.
        sampler: Chooses or proposes configurations, see `TableSampler`.
        reported: (n, T) what trials report, if not the true values.
        enqueued: Configurations to begin with.

    Attributes:
        study: The study.
        outcome: What it did so far.
        rows: Number of a trial -> its row of the table.
    """

    def __init__(
        self,
        curves: Curves,
        pruner: BasePruner,
        *,
        seed: int = 0,
        sampler: BaseSampler | None = None,
        reported: np.ndarray | None = None,
        enqueued: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self._curves = curves
        self._reported = curves.reports if reported is None else reported
        self._table = TableSampler(
            curves, rng=generator(seed, curves, 0), inner=sampler, enqueued=enqueued
        )
        self.rows = self._table.rows
        self._pruner = pruner
        # Hyperband draws brackets from the name; a random one would make runs differ.
        self._name = f"replay-{curves.name}-{seed}"
        self.study = self._create(None)
        self._next_continuation = getattr(pruner, "next_continuation", None)
        self.outcome = Outcome(np.zeros(len(curves.values), dtype=int))
        self._best_finished = self._best_seen = -np.inf

    def _create(self, storage: BaseStorage | None) -> optuna.Study:
        return optuna.create_study(
            direction="maximize",
            sampler=self._table,
            pruner=self._pruner,
            storage=storage,
            study_name=self._name,
        )

    def move(self, storage: BaseStorage) -> None:
        """Go on with the same trials in an empty `storage`."""
        trials = self.study.get_trials(deepcopy=False)
        self.study = self._create(storage)
        self.study.add_trials(trials)

    def run(
        self, *, max_epochs: int = sys.maxsize, max_trials: int = sys.maxsize, workers: int = 1
    ) -> Outcome:
        """Go on until so many epochs are paid, so many trials made, or the table is used up.

        What is limited by trials stops between two of them, if there is one of the simulated
        asynchronous `workers`.
        """
        # Ties in time are broken by the worker's index, which keeps a run repeatable.
        queue: list[tuple[int, int, Trial]] = []
        idle = list(range(workers))
        now = 0
        while self.outcome.epochs < max_epochs:
            for worker in idle:
                trial = self._start() if self.outcome.trials < max_trials else None
                if trial is not None:
                    heapq.heappush(queue, (now + 1, worker, trial))
            if not queue:
                break
            now, worker, trial = heapq.heappop(queue)
            idle = []
            if self._train_one_epoch(trial):
                heapq.heappush(queue, (now + 1, worker, trial))
            else:
                idle = [worker]
        return self.outcome

    def _start(self) -> Trial | None:
        parent = self._choose_continuation()
        if parent is None and self._table.is_exhausted:
            return None
        trial = self.study.ask()
        self.outcome.trials += 1
        if parent is not None:
            self._table.rows[trial.number] = self._table.rows[parent.number]
            self.outcome.continuations += 1
            return trial
        for name in trial.relative_params:
            # The generic entry of the `suggest_*` family keeps the distribution as it is.
            trial._suggest(name, self._curves.distributions[name])
        return trial

    def _choose_continuation(self) -> FrozenTrial | None:
        if self._next_continuation is None:
            return None
        started = time.perf_counter()
        parent: FrozenTrial | None = self._next_continuation(
            self.study, is_closing=self._table.is_exhausted
        )
        self.outcome.choice_times.append(time.perf_counter() - started)
        if parent is not None:
            continue_trial(self.study, parent)
        return parent

    def _train_one_epoch(self, trial: Trial) -> bool:
        """Pay for the next epoch of a trial; False if the trial ended with it."""
        outcome, curves, row = self.outcome, self._curves, self._table.rows[trial.number]
        outcome.paid[row] += 1
        outcome.epochs += 1
        epoch = int(outcome.paid[row])
        value = float(self._reported[row, epoch - 1])
        regret = curves.regret(float(curves.values[row, -1]))
        trial.report(value, epoch)
        if value > self._best_seen:
            self._best_seen = value
            if not outcome.incumbent or outcome.incumbent[-1][1] != regret:
                outcome.incumbent.append((outcome.epochs, regret))
        if epoch == curves.n_epochs:
            self._tell(trial, TrialState.COMPLETE, value)
            if value > self._best_finished:
                self._best_finished = value
                outcome.finished.append((outcome.epochs, regret))
            return False
        started = time.perf_counter()
        is_stopped = trial.should_prune()
        outcome.decision_times.append(time.perf_counter() - started)
        if is_stopped:
            self._tell(trial, TrialState.PRUNED, value)
        return not is_stopped

    def _tell(self, trial: Trial, state: TrialState, value: float) -> None:
        # As `Study.tell`, which also copies the whole trial in order to return it.
        storage, trial_id = self.study._storage, trial._trial_id
        self._table.after_trial(self.study, storage.get_trial(trial_id), state, [value])
        storage.set_trial_state_values(trial_id, state, [value])
