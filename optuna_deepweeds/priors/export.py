"""A study's finished trials as a file of priors."""

from __future__ import annotations

import contextlib
import os
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
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise InvalidInputError(f"{path} cannot be written: {error.strerror or error}.") from None
    return len(priors)
