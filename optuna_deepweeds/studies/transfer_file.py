"""A whole study in one file: out of one storage, into another, without loss.

The file holds JSON lines: a header (name, directions, attributes), then every trial (those of the
companion, which were imported, follow the study's own), then the number of trials, which tells a
cut-off file from a whole one. The name's ending `.gz` compresses it. NaN and infinity stand as in
Python's `json`.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, TextIO

import optuna
from optuna.distributions import BaseDistribution, distribution_to_json, json_to_distribution
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from optuna_deepweeds import attributes
from optuna_deepweeds.errors import InvalidInputError, NotFoundError
from optuna_deepweeds.files import whole
from optuna_deepweeds.schema import choose, load, require
from optuna_deepweeds.studies.copy import Content, create_copy

_FORMAT = "optuna-deepweeds study"
_VERSION = 1
_COMPRESSION = 1
_DIRECTIONS = [direction.name for direction in StudyDirection]


@dataclass(frozen=True)
class _Header:
    """The first line of a file; names and attributes of the study."""

    format: str
    version: int
    name: str
    directions: tuple[str, ...]
    user_attrs: Mapping[str, Any]
    system_attrs: Mapping[str, Any]

    def __post_init__(self) -> None:
        choose("format of an exported study", self.format, [_FORMAT])
        require(self.version == _VERSION, f"version = {_VERSION}", version=self.version)
        require(bool(self.directions), "1 <= number of directions", directions="none")
        for direction in self.directions:
            choose("direction", direction, _DIRECTIONS)


def export_study(study: optuna.Study, path: Path) -> int:
    """Write `study` to `path`, replacing the file once it is complete; returns how many trials.

    Raises:
        InvalidInputError: The file cannot be written.
    """
    content = Content.of(study)
    header = _Header(
        format=_FORMAT,
        version=_VERSION,
        name=study.study_name,
        directions=tuple(direction.name for direction in content.directions),
        user_attrs=content.user_attrs,
        system_attrs=content.system_attrs,
    )
    distributions: dict[tuple[object, ...], str] = {}
    with whole(path) as part, _open_text(part, "wt", is_gzip=path.suffix == ".gz") as file:
        file.write(json.dumps(asdict(header)) + "\n")
        for trial in content.trials:
            file.write(_trial_line(trial, distributions))
        file.write(json.dumps({"n_trials": len(content.trials)}) + "\n")
    return sum(attributes.PRIOR not in t.user_attrs for t in content.trials)


def import_study(path: Path, storage: BaseStorage, *, name: str | None = None) -> optuna.Study:
    """Create the study of `path` in `storage`, equal in everything but its identity and `name`.

    Raises:
        NotFoundError: There is no such file.
        InvalidInputError: It is no whole study, or the name is taken or cannot be used.
    """
    header, trials = _read(path)
    content = Content(
        directions=[StudyDirection[direction] for direction in header.directions],
        user_attrs=header.user_attrs,
        system_attrs=header.system_attrs,
        trials=trials,
    )
    try:
        return create_copy(content, header.name if name is None else name, storage)
    except InvalidInputError:
        raise
    except ValueError as error:
        raise InvalidInputError(f"{path}: a trial is inconsistent: {error}") from error


def _trial_line(trial: FrozenTrial, distributions: dict[tuple[object, ...], str]) -> str:
    # Trials share them, mostly all of them: each set is encoded once.
    key = (*trial.distributions, *map(id, trial.distributions.values()))
    if key not in distributions:
        found = {k: json.loads(distribution_to_json(d)) for k, d in trial.distributions.items()}
        distributions[key] = json.dumps(found)
    data = {
        "number": trial.number,
        "state": trial.state.name,
        "values": trial.values,
        "datetime_start": trial.datetime_start and trial.datetime_start.isoformat(),
        "datetime_complete": trial.datetime_complete and trial.datetime_complete.isoformat(),
        "params": trial.params,
        "user_attrs": trial.user_attrs,
        "system_attrs": trial.system_attrs,
        "intermediate_values": {str(k): v for k, v in trial.intermediate_values.items()},
    }
    return f'{json.dumps(data)[:-1]}, "distributions": {distributions[key]}}}\n'


def _trial_from_json(data: dict[str, Any], cache: dict[str, BaseDistribution]) -> FrozenTrial:
    distributions = {}
    for name, value in data["distributions"].items():
        text = json.dumps(value)
        if text not in cache:
            cache[text] = json_to_distribution(text)
        distributions[name] = cache[text]
    if set(data["params"]) != set(distributions):
        raise ValueError("parameters and distributions must have the same names")
    start, end = (
        None if data[key] is None else datetime.fromisoformat(data[key])
        for key in ("datetime_start", "datetime_complete")
    )
    return FrozenTrial(
        number=int(data["number"]),
        state=TrialState[data["state"]],
        value=None,
        values=None if data["values"] is None else _numbers(data["values"]),
        datetime_start=start,
        datetime_complete=end,
        params=dict(data["params"]),
        distributions=distributions,
        user_attrs=dict(data["user_attrs"]),
        system_attrs=dict(data["system_attrs"]),
        intermediate_values={int(k): float(v) for k, v in data["intermediate_values"].items()},
        trial_id=-1,
    )


def _numbers(values: Any) -> list[float]:
    if not isinstance(values, list) or not all(type(v) in (int, float) for v in values):
        raise ValueError(f"values must be a list of numbers, but got {values!r:.60}")
    return [float(value) for value in values]


def _read(path: Path) -> tuple[_Header, list[FrozenTrial]]:
    """Header and trials of a file, checked as a whole before anything is written."""
    trials: list[FrozenTrial] = []
    cache: dict[str, BaseDistribution] = {}
    number = 1
    try:
        with _open_text(path, "rt", is_gzip=path.suffix == ".gz") as file:
            header = load(_Header, json.loads(file.readline()), f"{path}, line 1")
            total: int | None = None
            for line in file:
                number += 1
                data = json.loads(line)
                if "n_trials" in data:
                    total = int(data["n_trials"])
                    break
                trials.append(_trial_from_json(data, cache))
    except FileNotFoundError:
        raise NotFoundError(f"An exported study must be a file, but there is no {path}.") from None
    except OSError as error:
        # Also gzip's complaint about a file that is none.
        raise InvalidInputError(f"{path} cannot be read: {error}") from error
    except InvalidInputError:
        raise
    except (
        ValueError, KeyError, TypeError, AttributeError, RecursionError, EOFError, zlib.error
    ) as error:  # fmt: skip
        raise InvalidInputError(
            f"{path}, line {number}: an exported study must be a file that study export wrote, "
            f"but got: {type(error).__name__}: {error}"
        ) from error
    if total != len(trials):
        raise InvalidInputError(
            f"{path}: an exported study must end with its number of trials, but the file is "
            f"cut off after {len(trials)} trials."
        )
    return header, trials


def _open_text(path: Path, mode: Literal["rt", "wt"], *, is_gzip: bool) -> TextIO:
    if not is_gzip:
        return path.open(mode, encoding="utf-8")
    # The default takes a second more for 10,000 trials, and a quarter of the size less.
    return gzip.open(path, mode, compresslevel=_COMPRESSION, encoding="utf-8")
