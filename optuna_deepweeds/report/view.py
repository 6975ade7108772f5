"""A study as the report sees it: its trials, who replaced whom, its direction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from optuna_deepweeds import attributes
from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.priors import n_imported
from optuna_deepweeds.spaces import SPACES, SearchSpace
from optuna_deepweeds.studies.accounting import Progress, progress, ranked
from optuna_deepweeds.trials import replaced, whole_number


@dataclass(frozen=True)
class StudyView:
    """What figures and tables are made from; read once, never written.

    Attributes:
        name: The study's name.
        direction: Of its one objective.
        metric: What a trial's value measures.
        user_attrs: The study's user attributes.
        trials: All trials.
    """

    name: str
    direction: StudyDirection
    metric: str
    user_attrs: Mapping[str, Any]
    trials: tuple[FrozenTrial, ...]

    @classmethod
    def of(cls, study: optuna.Study) -> StudyView:
        """Read `study`.

        Raises:
            InvalidInputError: It has several objectives.
        """
        if len(study.directions) != 1:
            raise InvalidInputError(
                f"a report needs a study with one objective, but {study.study_name!r} has "
                f"{len(study.directions)}."
            )
        names = study.metric_names
        return cls(
            name=study.study_name,
            direction=study.direction,
            metric=names[0] if names else "value",
            user_attrs=study.user_attrs,
            trials=tuple(study.get_trials(deepcopy=False)),
        )

    @property
    def sign(self) -> float:
        """Multiplied with a value, it makes larger better."""
        return -1.0 if self.direction == StudyDirection.MINIMIZE else 1.0

    @property
    def spec(self) -> Mapping[str, Any]:
        """The stored specification; empty for a study of another program."""
        stored = self.user_attrs.get(attributes.SPEC)
        return stored if isinstance(stored, Mapping) else {}

    @property
    def epochs(self) -> int | None:
        """Epochs of a network that is trained to its end, if known."""
        return whole_number(self.spec.get("epochs"), 0) or None

    @property
    def space(self) -> SearchSpace | None:
        """The space of the specification, if known."""
        return SPACES.get(str(self.spec.get("space")))

    @property
    def n_priors(self) -> int:
        """Imported trials in the study's companion."""
        return n_imported(self.user_attrs)

    @cached_property
    def replaced(self) -> frozenset[int]:
        """Numbers of the trials that another one continues or runs again."""
        return frozenset(replaced(self.trials))

    @cached_property
    def progress(self) -> Progress:
        """Counts of the study's own trials."""
        return progress(self.trials, self.direction)

    @cached_property
    def ranked(self) -> tuple[FrozenTrial, ...]:
        """The complete trials, best first."""
        return tuple(ranked(self.trials, self.direction))

    @property
    def failures(self) -> list[FrozenTrial]:
        """Failed trials; those that were put back after an interruption are none."""
        return [
            t
            for t in self.trials
            if t.state == TrialState.FAIL and attributes.INTERRUPTED not in t.system_attrs
        ]

    @property
    def param_names(self) -> list[str]:
        """Searched parameters in the space's order, else in order of appearance."""
        seen = dict.fromkeys(name for t in self.trials for name in t.params)
        ordered = [p.name for p in self.space.parameters if p.name in seen] if self.space else []
        return list(dict.fromkeys([*ordered, *seen]))

    def kind(self, trial: FrozenTrial) -> str:
        """How a trial ended, in one word of the legend."""
        if trial.state == TrialState.COMPLETE:
            return "continued" if attributes.ORIGIN in trial.user_attrs else "finished"
        if trial.state == TrialState.PRUNED:
            return "stopped"
        return {TrialState.FAIL: "failed", TrialState.RUNNING: "running"}.get(
            trial.state, "waiting"
        )
