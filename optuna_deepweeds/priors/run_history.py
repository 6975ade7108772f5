"""Readers of run histories: the lecture's CSV and SMAC3's `runhistory.json`.

In both, `cost` is 1 - validation accuracy (the lecture's convention) and `budget` counts epochs.

Source: final project of the AutoML lecture SS 2023, Freiburg and Hannover; SMAC3 2.x
`smac/runhistory/runhistory.py` for the JSON layout.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.priors.csv_rows import Row, read_rows
from optuna_deepweeds.priors.record import PriorTrial, parse_cell

_PREFIX = "config:"
CSV_COLUMNS = ("cost", "budget", "status")
"""What a header must hold to be a run history."""

# SMAC3 writes a run's status as a number: 1 is SUCCESS.
_SMAC_STATUS = {0: "RUNNING", 1: "SUCCESS", 2: "CRASHED", 3: "TIMEOUT", 4: "MEMORYOUT"}
_SMAC_FIELDS = ("config_id", "instance", "seed", "budget", "cost", "time", "status")


def read_csv(path: str, source: str, text: str) -> list[PriorTrial]:
    """Read the lecture's run history: columns `config:*`, cost, budget, time, status.

    An empty `config:` cell means that the parameter was inactive.

    Raises:
        InvalidInputError: The file breaks its format; the message names line and column.
    """
    return [_from_row(row, source) for row in read_rows(path, text, required=CSV_COLUMNS)]


def _from_row(row: Row, source: str) -> PriorTrial:
    params = {
        column.removeprefix(_PREFIX): value
        for column, cell in row.cells.items()
        if column.startswith(_PREFIX) and (value := parse_cell(cell)) is not None
    }
    cost = row.number("cost")
    return PriorTrial(
        params=params,
        value=math.nan if cost is None else cost,
        direction="minimize",
        metric="error",
        source=source,
        where=f"line {row.line}",
        epochs=row.count("budget") or None,
        seconds=row.number("time", required=False),
        dataset=str(params["dataset"]) if "dataset" in params else None,
        problem=_status_problem(row.text("status").rpartition(".")[2]),
    )


def read_smac_json(path: str, source: str, text: str) -> list[PriorTrial]:
    """Read SMAC3's `runhistory.json`, whose runs are lists (2.0) or objects (later).

    Raises:
        InvalidInputError: It is not JSON or not a run history.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"{path} must be JSON, but {error}.") from None
    if not isinstance(document, Mapping) or not (
        isinstance(document.get("data"), list) and isinstance(document.get("configs"), Mapping)
    ):
        raise InvalidInputError(
            f"{path} must be a SMAC3 run history (an object with the list `data` and the object "
            "`configs`), but is not."
        )
    return [
        _from_run(path, source, index, run, document["configs"])
        for index, run in enumerate(document["data"])
    ]


def _from_run(
    path: str, source: str, index: int, run: Any, configs: Mapping[str, Any]
) -> PriorTrial:
    where = f"run {index}"
    fields = dict(zip(_SMAC_FIELDS, run, strict=False)) if isinstance(run, list) else run
    try:
        config = configs[str(fields["config_id"])]
        cost, budget, seconds = fields["cost"], fields.get("budget"), fields.get("time")
        params = {name: value for name, value in config.items() if value is not None}
        value = float(cost)
        epochs = int(budget) if budget else None
        seconds = None if seconds is None else float(seconds)
        status = fields.get("status", 1)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        raise InvalidInputError(
            f"{path}, {where}: must hold config_id (one of `configs`), a single cost, budget and "
            "time, but does not."
        ) from None
    return PriorTrial(
        params=params,
        value=value,
        direction="minimize",
        metric="error",
        source=source,
        where=where,
        epochs=epochs,
        seconds=seconds,
        problem=_status_problem(_SMAC_STATUS.get(status, str(status))),
    )


def _status_problem(status: str) -> str:
    return "" if status in ("SUCCESS", "DONOTADVANCE") else f"status is {status or 'empty'}"
