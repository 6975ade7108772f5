"""SMAC3's `runhistory.json`: `cost` is taken as 1 - validation accuracy, `budget` counts epochs.

| version | a run |
|---|---|
| 1.x | [id, instance, seed, budget], [cost, time, status, ...] |
| 2.0 to 2.2 | id, instance, seed, budget, cost, time, status, ... |
| 2.3 | the same with the processor's time, a float, before the status; or an object |

Source: `smac/runhistory/runhistory.py` of these versions.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.priors.record import PriorTrial
from optuna_deepweeds.priors.tables import LECTURE

# SMAC3 2 writes a run's status as a number, 1.x as {"__enum__": "StatusType.SUCCESS"}.
_STATUS = {0: "RUNNING", 1: "SUCCESS", 2: "CRASHED", 3: "TIMEOUT", 4: "MEMORYOUT"}
_FIELDS = ("config_id", "instance", "seed", "budget", "cost", "time", "status")


def read_smac_json(path: str, source: str, text: str) -> list[PriorTrial]:
    """Read SMAC3's `runhistory.json`; a run that is none becomes a prior with a problem.

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
        _from_run(source, f"run {index}", run, document["configs"])
        for index, run in enumerate(document["data"])
    ]


def _from_run(source: str, where: str, run: Any, configs: Mapping[str, Any]) -> PriorTrial:
    try:
        fields = _fields(run)
        config = configs[str(fields["config_id"])]
        budget, seconds = fields.get("budget"), fields.get("time")
        epochs = float(budget or 0)
        prior = PriorTrial(
            params={name: value for name, value in config.items() if value is not None},
            value=float(fields["cost"]),
            direction="minimize",
            metric="error",
            source=source,
            where=where,
            epochs=int(epochs) or None,
            seconds=None if seconds is None else float(seconds),
        )
        status = fields.get("status", 1)
        if isinstance(status, Mapping):
            status = status["__enum__"].rpartition(".")[2]
        word = str(_STATUS.get(status, status))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        problem = "must hold config_id (one of `configs`), a single cost, budget and time"
        return PriorTrial({}, math.nan, "minimize", "error", source, where, problem=problem)
    problem = LECTURE.states.get(word.lower(), f"status is {word or 'empty'}")
    if not epochs.is_integer():
        problem = f"budget is {epochs:g}, no whole number of epochs"
    return replace(prior, problem=problem)


def _fields(run: Any) -> Mapping[str, Any]:
    if isinstance(run, Mapping):
        return run
    if len(run) == 2 and isinstance(run[0], list):
        run = [*run[0], *run[1]]
    if len(run) > 7 and type(run[6]) is float:
        run = [*run[:6], *run[7:]]
    return dict(zip(_FIELDS, run, strict=False))
