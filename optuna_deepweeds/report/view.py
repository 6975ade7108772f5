"""A study as the report sees it: its trials, who replaced whom, its direction."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from optuna_deepweeds import attributes, trials
from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.priors import n_imported
from optuna_deepweeds.report.calibration import Foreseen, judged, limits_of, outlook
from optuna_deepweeds.report.standing import again
from optuna_deepweeds.spaces import SPACES
from optuna_deepweeds.studies.accounting import Progress, progress, ranked
from optuna_deepweeds.studies.spec import refuse_old_form
from optuna_deepweeds.studies.storage.reading import Reader


@dataclass(frozen=True)
class StudyView:
    """What figures and tables are made from; read once, never written.

    Attributes:
        name: The study's name.
        direction: Of its one objective.
        metric: What a trial's value measures.
        user_attrs: The study's user attributes.
        trials: All trials.
        storage: How commands name where it is stored; None for the default storage.
    """

    name: str
    direction: StudyDirection
    metric: str
    user_attrs: Mapping[str, Any]
    trials: tuple[FrozenTrial, ...]
    storage: str | None = None

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
        metric = (study.metric_names or ["value"])[0]
        trials = tuple(study.get_trials(deepcopy=False))
        return cls(study.study_name, study.direction, metric, study.user_attrs, trials)

    @classmethod
    def read(
        cls, name: str, reader: Reader, *, storage: str | None = None, params: bool = True
    ) -> StudyView:
        """Read the study `name` in a storage that is only looked at, its parameters if need be.

        Raises:
            NotFoundError: There is no such study.
            InvalidInputError: It has several objectives.
            SpecMismatchError: The version before made it with priors inside.
        """
        row = reader.study(name)
        refuse_old_form(name, row.user_attrs)
        metric = (row.metric_names or ["value"])[0]
        trials = tuple(reader.trials(row.study_id, params=params))
        return cls(name, row.directions[0], metric, row.user_attrs, trials, storage)

    @property
    def sign(self) -> float:
        """Multiplied with a value, it makes larger better."""
        return trials.sign(self.direction)

    @property
    def spec(self) -> Mapping[str, Any]:
        """The stored specification; empty for a study of another program."""
        return self.stored(attributes.SPEC)

    def stored(self, key: str) -> Mapping[str, Any]:
        """A user attribute that is a mapping; empty if it is absent or anything else."""
        found = self.user_attrs.get(key)
        return found if isinstance(found, Mapping) else {}

    @property
    def epochs(self) -> int | None:
        """Epochs of a network that is trained to its end, if known."""
        return trials.whole_number(self.spec.get("epochs"), 0) or None

    @property
    def has_priors(self) -> bool:
        """Whether there are imported trials in the study's companion."""
        return n_imported(self.user_attrs) > 0

    @cached_property
    def replaced(self) -> dict[int, int]:
        """Number of each trial that another one continues or runs again -> the other's."""
        return {old: trial.number for trial in self.trials for old in trials.before(trial)}

    @cached_property
    def progress(self) -> Progress:
        """Counts of the study's own trials."""
        return progress(self.trials, self.direction)

    @cached_property
    def ranked(self) -> tuple[FrozenTrial, ...]:
        """The complete trials, best first."""
        return tuple(ranked(self.trials, self.direction))

    @cached_property
    def judged(self) -> list[Foreseen]:
        """What was foreseen and can be judged."""
        return judged(self.trials)

    @property
    def failures(self) -> list[FrozenTrial]:
        """Failed trials; those that were put back after an interruption are none."""
        return [
            t for t in self.trials if t.state == TrialState.FAIL and not trials.was_interrupted(t)
        ]

    @property
    def param_names(self) -> list[str]:
        """Searched parameters in the space's order, else in order of appearance."""
        seen = dict.fromkeys(name for t in self.trials for name in t.params)
        space = SPACES.get(str(self.spec.get("space")))
        ordered = [p.name for p in space.parameters if p.name in seen] if space else []
        return list(dict.fromkeys([*ordered, *seen]))

    @cached_property
    def limits(self) -> tuple[float, float]:
        """Between what its values must lie."""
        return limits_of(self.metric, self.trials)

    @cached_property
    def outlook(self) -> dict[int, Foreseen]:
        """By number, what is or was foreseen of the trials."""
        return outlook(self.trials, self.direction, self.metric)

    def end_of(self, trial: FrozenTrial) -> float | None:
        """The final value of a complete trial, of a stopped one the expected or else the last."""
        if trial.state == TrialState.PRUNED:
            found = self.outlook.get(trial.number)
            curve = trial.intermediate_values
            value = found.expected if found else curve[max(curve)] if curve else trial.value
        else:
            value = trial.value if trial.state == TrialState.COMPLETE else None
        return value if value is not None and math.isfinite(value) else None

    @property
    def where_they_stand(self) -> str:
        """What `end_of` is of the trials that were paused or stopped; empty without any."""
        if not self.progress.pruned:
            return ""
        where = "at their last value: nothing is foreseen before three trials are complete"
        if any(f.outcome is None for f in self.outlook.values()):
            where = "where they are expected to end"
        return f"Paused and stopped trials stand {where}."

    def again(self, trial: FrozenTrial) -> str | None:
        """The command that trains `trial` again; None of one that no worker has trained."""
        is_ours = attributes.SEED in trial.user_attrs
        return again(self.name, trial.number, self.storage) if is_ours else None
