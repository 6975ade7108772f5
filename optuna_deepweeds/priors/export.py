"""A study's finished trials as a file of priors."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import optuna

from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.priors.from_study import read_study
from optuna_deepweeds.priors.trial_table import write_csv
from optuna_deepweeds.spaces import SearchSpace


def export_priors(study: optuna.Study, path: Path, *, space: SearchSpace | None = None) -> int:
    """Write the finished and pruned trials that `study` ran itself as our CSV, with their curves.

    The file appears whole or not at all.

    Args:
        study: A study with one objective.
        path: The file to write; an existing one is replaced.
        space: Gives the order of the columns and the constants; without it, the order in which
            parameters first appear.

    Returns:
        The number of trials written.

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
    text = write_csv(priors, param_names=names)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", newline="", dir=path.parent, delete=False
        ) as file:
            file.write(text)
        # A temporary file is private by default; a table of trials is not.
        os.chmod(file.name, 0o644)
        os.replace(file.name, path)
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be written: {error.strerror or error}.") from None
    return len(priors)
