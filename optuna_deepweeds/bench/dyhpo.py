"""Syne Tune's DyHPO as a peer: sampler and pruner in one, in another Python environment.

Syne Tune pins its own versions, so it lives in an environment of its own: `python -m venv
dyhpo-env && dyhpo-env/bin/pip install 'syne-tune[gpsearchers]==0.14.2'`, then `--dyhpo-python
dyhpo-env/bin/python`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.pruners import BasePruner
from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial, TrialState

from optuna_deepweeds.bench.bridge import Bridge
from optuna_deepweeds.bench.curves import Curves, unit_cube
from optuna_deepweeds.trials import root

_SERVER = Path(__file__).with_name("dyhpo_server.py")


class DyHPO(BasePruner, RandomSampler):
    """A Gaussian process over configuration and epoch decides what a free worker does next.

    It starts a row of the table or goes on with a paused trial, with Syne Tune's defaults. It
    serves the replay of one study whose values are to be maximised.

    Args:
        curves: The table.
        seed: Of its generators.
        python: Interpreter of the environment that has Syne Tune.

    Raises:
        DeepWeedsError: There is no such interpreter, or Syne Tune is missing there.
    """

    def __init__(self, curves: Curves, *, seed: int, python: str | None) -> None:
        RandomSampler.__init__(self, seed)
        self._bridge = Bridge("dyhpo", "syne_tune", python, _SERVER)
        self._curves = curves
        self._row = 0
        rows = unit_cube(curves.params, curves.distributions).tolist()
        try:
            self._bridge.request(
                op="start", rows=rows, max_resource=curves.n_epochs, seed=seed % 2**31
            )
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the other process."""
        self._bridge.close()

    def next_continuation(
        self, study: optuna.Study, *, is_closing: bool = False
    ) -> FrozenTrial | None:
        """The paused trial to go on with; None for the row that `suggest_among` then names."""
        trials = study.get_trials(deepcopy=False)
        answer = self._bridge.request(op="suggest", trial=len(trials))
        if "row" in answer:
            self._row = answer["row"]
            return None
        return next(t for t in reversed(trials) if root(t) == answer["resume"])

    def suggest_among(
        self, study: optuna.Study, trial: FrozenTrial, candidates: Sequence[Mapping[str, Any]]
    ) -> int:
        """The index of the row that was chosen when a worker became free."""
        chosen = self._curves.params[self._row]
        return next(i for i, row in enumerate(candidates) if row is chosen)

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Whether the trial pauses."""
        epoch, value = max(trial.intermediate_values.items())
        answer = self._bridge.request(op="report", trial=root(trial), epoch=epoch, value=value)
        return not answer["goes_on"]

    def after_trial(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        if state == TrialState.COMPLETE:
            self.prune(study, trial)
