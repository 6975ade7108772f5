"""One entry for every kind of prior: `read_priors`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import optuna

from optuna_deepweeds.errors import InvalidInputError, NotFoundError, StorageError
from optuna_deepweeds.priors import run_history, trial_table
from optuna_deepweeds.priors.csv_rows import header_of
from optuna_deepweeds.priors.from_study import read_study
from optuna_deepweeds.priors.record import WAYS, PriorTrial, canonical_metric

_MAX_BYTES = 256 * 2**20

OpenStudy = Callable[[str, str], optuna.Study]
"""(storage URL, study name) -> study."""


def read_priors(
    source: str | Path, *, open_study: OpenStudy | None = None, metric: str | None = None
) -> list[PriorTrial]:
    """Read prior trials; the format is recognised by its content.

    Args:
        source: A file (our CSV, the lecture's run-history CSV, SMAC3's `runhistory.json`) or
            `URL#STUDY`, an Optuna study in a storage.
        open_study: Opens `URL#STUDY`; Optuna's own way if not given.
        metric: What the values are, in place of what the source says.

    Raises:
        NotFoundError: No such file or study.
        InvalidInputError: The file is not readable as any of the formats; the message names
            the line, the column and the rule.
        StorageError: The storage of `URL#STUDY` does not answer.
    """
    text = str(source)
    url, mark, name = text.rpartition("#")
    if "://" in url and mark:
        priors = read_study((open_study or _open_study)(url, name))
    elif "://" in text:
        raise InvalidInputError(f"a study as prior is written URL#STUDY, but got {text!r}.")
    else:
        priors = _read_file(Path(source))
    if metric is None:
        return priors
    known = canonical_metric(metric)
    return [replace(p, metric=known, direction=WAYS.get(known, p.direction)) for p in priors]


def _read_file(path: Path) -> list[PriorTrial]:
    text = _read_text(path)
    header = header_of(text)
    if text.lstrip().startswith(("{", "[")):
        return run_history.read_smac_json(str(path), path.stem, text)
    if set(trial_table.REQUIRED) <= set(header):
        return trial_table.read_csv(str(path), path.stem, text)
    if "cost" in header or any(column.startswith("config:") for column in header):
        return run_history.read_csv(str(path), path.stem, text)
    if any(column.startswith("param:") for column in header):
        return trial_table.read_csv(str(path), path.stem, text)
    raise InvalidInputError(
        f"{path} must be a CSV of trials (columns state, value, metric, direction, param:*), a "
        "run-history CSV (columns cost, budget, status, config:*) or SMAC3's runhistory.json, "
        "but its first line is none of these headers."
    )


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


def _open_study(url: str, name: str) -> optuna.Study:
    file = url.removeprefix("sqlite:///")
    # Optuna would create an empty database in place of a missing one.
    if file != url and not file.startswith("file:") and not Path(file).exists():
        raise NotFoundError(f"there is no database at {file}.")
    try:
        # The sampler and pruner are never used; naming them keeps Optuna from building its own.
        return optuna.load_study(
            study_name=name,
            storage=url,
            sampler=optuna.samplers.RandomSampler(),
            pruner=optuna.pruners.NopPruner(),
        )
    except KeyError:
        names = optuna.get_all_study_names(url)
        known = f"studies there: {', '.join(names)}" if names else "it holds none"
        raise NotFoundError(f"there is no study {name!r} in that storage; {known}.") from None
    except Exception as error:
        # SQLAlchemy and its drivers raise dozens of types here; their texts may hold passwords.
        raise StorageError(
            f"the storage of the prior study {name!r} does not answer ({type(error).__name__})."
        ) from None
