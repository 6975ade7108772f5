"""Files of prior trials of every format."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from optuna_deepweeds.errors import InvalidInputError, NotFoundError
from optuna_deepweeds.priors.record import PriorTrial, with_metric
from optuna_deepweeds.priors.smac import read_smac_json
from optuna_deepweeds.priors.tables import read_csv

_MAX_BYTES = 256 * 2**20


def read_priors(path: Path, *, metric: str | None = None) -> list[PriorTrial]:
    """Read a file of prior trials; the format is recognised by its content.

    Args:
        path: A CSV of one of `tables.FORMATS` or SMAC3's `runhistory.json`.
        metric: What the values are, in place of what the file says, or which column holds them.

    Raises:
        NotFoundError: No such file.
        InvalidInputError: The file is not readable as any of the formats.
    """
    text = _read_text(path)
    if text.lstrip().startswith(("{", "[")):
        return with_metric(read_smac_json(str(path), path.stem, text), metric)
    priors = read_csv(str(path), path.stem, text, metric)
    beside = path.with_name("params.json")
    if path.name == "progress.csv" and beside.is_file():  # Ray Tune's folder of one trial.
        priors = [replace(p, params={**_params(beside), **p.params}) for p in priors]
    return with_metric(priors, metric)


def _params(path: Path) -> dict[str, Any]:
    try:
        params = json.loads(_read_text(path))
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"{path} must be JSON, but {error}.") from None
    if not isinstance(params, dict):
        raise InvalidInputError(f"{path} must be an object of parameters, but is not.")
    return {name: value for name, value in params.items() if value is not None}


def _read_text(path: Path) -> str:
    if not path.exists():
        raise NotFoundError(f"the prior file {path} does not exist.")
    if not path.is_file():
        raise InvalidInputError(f"a prior must be a file, but {path} is not one.")
    try:
        size = path.stat().st_size
        if size > _MAX_BYTES:
            raise InvalidInputError(
                f"a prior file must not exceed {_MAX_BYTES // 2**20} MiB, but {path} has "
                f"{size / 2**20:.0f} MiB."
            )
        data = path.read_bytes()
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be read: {error.strerror or error}.") from None
    if not data.strip():
        raise InvalidInputError(f"a prior file must hold trials, but {path} is empty.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInputError(
            f"a prior file must be UTF-8 text, but {path} is not (byte {error.start})."
        ) from None
    if "\0" in text:
        raise InvalidInputError(f"a prior file must be text, but {path} is binary.")
    return text
