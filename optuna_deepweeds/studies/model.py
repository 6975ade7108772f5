"""Takes the network of a trial out of its study."""

from __future__ import annotations

from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState

from optuna_deepweeds import attributes
from optuna_deepweeds.datasets import Dataset
from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.studies.manager import study_checkpoints, study_spec
from optuna_deepweeds.studies.objective import training_seed
from optuna_deepweeds.trials import root, whole_number


def save_network(study: optuna.Study, trial: FrozenTrial, data: Dataset, path: Path) -> None:
    """Write the network of `trial` as it was after its last epoch to `path`.

    It is read from the trial's checkpoint; where that has been deleted, the network is trained
    again from the trial's own seed (on the CPU this gives the same network).

    Raises:
        InvalidInputError: If the trial was not trained to its last epoch in this study.
    """
    from optuna_deepweeds.training import train

    if trial.state != TrialState.COMPLETE:
        raise InvalidInputError(
            f"a network is saved of a complete trial, but trial {trial.number} is "
            f"{trial.state.name.lower()}."
        )
    spec = study_spec(study)
    first = root(trial)
    checkpoint = study_checkpoints(study).path(first)
    network = train(
        {**trial.params, **spec.search_space.constants},
        data,
        seed=whole_number(trial.user_attrs.get(attributes.SEED), training_seed(spec.seed, first)),
        epochs=spec.epochs,
        resume_from=checkpoint if checkpoint.exists() else None,
    )
    network.save(path)
