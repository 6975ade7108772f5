"""Workers that pause and continue trials, as those of `study run` do."""

from __future__ import annotations

import pickle

import numpy as np
from optuna.study import Study
from optuna.trial import Trial, TrialState

from optuna_deepweeds.pruners import DoraPruner
from optuna_deepweeds.studies.resume import continue_trial
from tests.pruners.contract import MAX_RESOURCE


class Workers:
    """Workers of one study that uses DORA, taking turns after every report.

    Attributes:
        curves: (n, MAX_RESOURCE) what configurations report; a new one takes the next row.
        rows: Row of each trial by number; a continuation has its origin's.
    """

    def __init__(self, curves: np.ndarray, *views: Study, is_fresh: bool = False) -> None:
        """`views` are the study as each worker sees it; `is_fresh`: ask new pruners alone."""
        self.curves = curves
        self.rows: dict[int, int] = {}
        self._views = views
        self._is_fresh = is_fresh

    @property
    def n_configurations(self) -> int:
        return len(set(self.rows.values()))

    def run(self, n: int = 1, *, is_closing: bool = False) -> None:
        """Start `n` trials, go on with paused ones first, and run all until they stop.

        Args:
            is_closing: Start nothing new.
        """
        idle = list(self._views)
        busy: list[tuple[Study, Trial, int]] = []
        while busy or n > 0:
            for study in idle if n > 0 else []:
                n -= 1
                parent = self._pruner(study).next_continuation(study, is_closing=is_closing)
                if parent is not None:
                    continue_trial(study, parent)
                elif is_closing:
                    continue
                row = self.n_configurations if parent is None else self.rows[parent.number]
                trial = study.ask()
                self.rows[trial.number] = row
                inherited = study.trials[trial.number].intermediate_values
                busy.append((study, trial, max(inherited, default=0)))
            if not busy:
                return
            study, trial, step = busy.pop(0)
            value = float(self.curves[self.rows[trial.number], step])
            trial.report(value, step + 1)
            idle = [study]
            if step + 1 == MAX_RESOURCE:
                study.tell(trial, value)
            elif self._should_prune(study, trial):
                study.tell(trial, state=TrialState.PRUNED)
            else:
                busy.append((study, trial, step + 1))
                idle = []

    def _should_prune(self, study: Study, trial: Trial) -> bool:
        self._pruner(study)
        return trial.should_prune()

    def _pruner(self, study: Study) -> DoraPruner:
        if self._is_fresh:
            study.pruner = pickle.loads(pickle.dumps(study.pruner))
        assert isinstance(study.pruner, DoraPruner)
        return study.pruner
