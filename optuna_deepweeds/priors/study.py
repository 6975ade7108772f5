"""Trials of an Optuna study as priors, and as a file of priors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from optuna_deepweeds import attributes
from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.files import write_whole
from optuna_deepweeds.priors.record import (
    STOPPED_EARLY,
    Direction,
    PriorTrial,
    canonical_metric,
)
from optuna_deepweeds.priors.tables import write_csv
from optuna_deepweeds.spaces import SearchSpace
from optuna_deepweeds.trials import FINISHED, chain, expected_end, linked


def read_study(
    study: optuna.Study, *, with_imported: bool = True, with_forecasts: bool = False
) -> list[PriorTrial]:
    """The COMPLETE and PRUNED trials of `study`, the latter marked as stopped early.

    A trial that another one continues is left out, since the other carries its curve. No system
    attribute is taken along: a copied rung would prune other trials. Those that were imported into
    its companion come `with_imported`, and keep the source they were imported from. With
    `with_forecasts`, those that were stopped come with the end that was foreseen for them.

    Raises:
        InvalidInputError: The study has several objectives.
    """
    if len(study.directions) != 1:
        raise InvalidInputError(
            f"a prior study must have one objective, but {study.study_name!r} has "
            f"{len(study.directions)}."
        )
    minimizes = study.direction == optuna.study.StudyDirection.MINIMIZE
    direction: Direction = "minimize" if minimizes else "maximize"
    names = study.metric_names
    metric = canonical_metric(names[0]) if names else ""
    spec = study.user_attrs.get(attributes.SPEC)
    dataset = spec.get("dataset") if isinstance(spec, Mapping) else None
    trials = study.get_trials(deepcopy=False)
    by_number = {trial.number: trial for trial in trials}
    finished = [t for t in trials if t.state in FINISHED and t.params]
    continued = set[int]().union(*(linked(t.user_attrs, attributes.ORIGIN) for t in finished))
    own = [
        PriorTrial(
            params=dict(trial.params),
            value=math.nan if value is None else value,
            direction=direction,
            metric=metric,
            source=str(trial.user_attrs.get(attributes.PRIOR, study.study_name)),
            where=f"trial {trial.number}",
            curve=_curve(trial),
            epochs=max(trial.intermediate_values, default=0) or None,
            seconds=_seconds(trial, by_number),
            dataset=Path(dataset).name if isinstance(dataset, str) else None,  # No path of a user.
            problem="" if is_known else STOPPED_EARLY,
            is_forecast=with_forecasts,
        )
        for trial in finished
        if trial.number not in continued
        for foreseen in [expected_end(trial) if with_forecasts else None]
        for value in [trial.value if foreseen is None else foreseen]
        for is_known in [trial.state == TrialState.COMPLETE or foreseen is not None]
    ]
    companion = spec.get("priors") if with_imported and isinstance(spec, Mapping) else None
    if not companion or companion not in optuna.get_all_study_names(study._storage):
        return own
    informing = optuna.load_study(study_name=companion, storage=study._storage)
    return own + read_study(informing, with_forecasts=with_forecasts)


def _curve(trial: FrozenTrial) -> dict[int, float]:
    return {step: value for step, value in sorted(trial.intermediate_values.items()) if step >= 1}


def _seconds(trial: FrozenTrial, by_number: Mapping[int, FrozenTrial]) -> float | None:
    """Seconds trained over the whole chain of continuations that ends with `trial`."""
    total = 0.0
    for link in chain(trial, by_number):
        seconds: Any = link.user_attrs.get(attributes.TRAIN_SECONDS)
        if seconds is None and link.duration is not None:
            seconds = link.duration.total_seconds()
        total += float(seconds or 0.0)
    return total or None


def export_priors(
    study: optuna.Study,
    path: Path,
    *,
    space: SearchSpace | None = None,
    digits: int | None = None,
) -> int:
    """Write the finished and pruned trials that `study` ran itself as our CSV, with their curves.

    The file appears whole or not at all. `space` gives the order of the columns; without it, it
    is that in which parameters first appear; `digits` is as of `write_csv`. Returns the number of
    trials written.

    Raises:
        InvalidInputError: There is nothing to write, or the file cannot be written.
    """
    priors = read_study(study, with_imported=False)
    if not priors:
        raise InvalidInputError(
            f"a study must have finished trials to export, but {study.study_name!r} has none."
        )
    seen = dict.fromkeys(name for prior in priors for name in prior.params)
    names = list(dict.fromkeys([*space.distributions, *seen])) if space else list(seen)
    write_whole(path, write_csv(priors, param_names=names, digits=digits))
    return len(priors)
