"""Optuna's pruners where their ways differ from what a study here promises."""

from __future__ import annotations

from typing import Any

from optuna.pruners import MedianPruner
from optuna.study import Study
from optuna.trial import FrozenTrial

from optuna_deepweeds.attributes import PRIOR


class OwnMedianPruner(MedianPruner):
    """Optuna's median pruner over the study's own trials: imported curves stop nothing."""

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """As Optuna's, as a real bool."""
        return bool(super().prune(_WithoutPriors(study), trial))  # type: ignore[arg-type]


class _WithoutPriors:
    """A study whose trials are seen without the imported ones."""

    def __init__(self, study: Study) -> None:
        self._study = study

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)

    def get_trials(self, *args: Any, **kwargs: Any) -> list[FrozenTrial]:
        trials = self._study.get_trials(*args, **kwargs)
        return [t for t in trials if PRIOR not in t.user_attrs]
