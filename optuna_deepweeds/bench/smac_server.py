"""SMAC3 behind standard input and output; run by an interpreter that has it installed.

This file is a script for another environment: it imports nothing of this package. One JSON
object a line in, one out:

    {"op": "start", "parameters": [...], "seed": 0, "n_trials": 100, "options": {}} -> {}
    {"op": "ask"}                    -> {"params": {...}}
    {"op": "tell", "value": 0.5}     -> {}      (of the configuration asked for last; a loss)

Every answer has the CPU seconds used so far as "cpu"; a failure has the field "error".
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ConfigSpace import (
    Categorical,
    ConfigurationSpace,
    EqualsCondition,
    Float,
    GreaterThanCondition,
    InCondition,
    Integer,
)
from smac import HyperparameterOptimizationFacade, Scenario
from smac.runhistory import StatusType, TrialValue


class Server:
    """One optimisation."""

    def __init__(self, request: dict[str, Any], directory: Path) -> None:
        self.space = configuration_space(request["parameters"])
        scenario_options = dict(request["options"])
        scenario = Scenario(
            self.space,
            deterministic=bool(scenario_options.pop("deterministic", False)),
            n_trials=int(request["n_trials"]),
            seed=int(request["seed"]),
            output_directory=directory,
            **scenario_options,
        )
        self.smac = HyperparameterOptimizationFacade(
            scenario, lambda config, seed=0: 0.0, overwrite=True, logging_level=False
        )
        self.info: Any = None

    def ask(self) -> dict[str, Any]:
        self.info = self.smac.ask()
        return {name: _plain(value) for name, value in dict(self.info.config).items()}

    def tell(self, value: float) -> None:
        now = time.time()
        # The facade divides by nothing but time; a positive duration keeps it content.
        self.smac.tell(
            self.info,
            TrialValue(
                cost=value, time=1e-3, status=StatusType.SUCCESS, starttime=now, endtime=now
            ),
            save=False,
        )


def configuration_space(parameters: list[dict[str, Any]]) -> ConfigurationSpace:
    """A ConfigSpace from descriptions with name, kind, low, high, log, choices, condition."""
    space = ConfigurationSpace()
    for parameter in parameters:
        name = parameter["name"]
        if parameter["kind"] == "categorical":
            space.add(Categorical(name, list(range(parameter["n_choices"]))))
        else:
            bounds = (parameter["low"], parameter["high"])
            make = Integer if parameter["kind"] == "int" else Float
            space.add(make(name, bounds, log=parameter["log"]))
    for parameter in parameters:
        condition = parameter.get("condition")
        if condition is None:
            continue
        child, parent = space[parameter["name"]], space[condition["parent"]]
        if "at_least" in condition:
            space.add(GreaterThanCondition(child, parent, condition["at_least"] - 1))
        elif len(condition["values"]) == 1:
            space.add(EqualsCondition(child, parent, condition["values"][0]))
        else:
            space.add(InCondition(child, parent, condition["values"]))
    return space


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def main() -> None:
    """Answer requests until the input ends."""
    logging.disable(logging.CRITICAL)
    # Whatever libraries print must not get between the answers.
    answers, sys.stdout = sys.stdout, sys.stderr
    server: Server | None = None
    with tempfile.TemporaryDirectory() as directory:
        for line in sys.stdin:
            request = json.loads(line)
            answer: dict[str, Any] = {}
            try:
                if request["op"] == "start":
                    server = Server(request, Path(directory))
                elif request["op"] == "ask":
                    assert server is not None
                    answer["params"] = server.ask()
                else:
                    assert server is not None
                    server.tell(request["value"])
            except Exception as error:
                answer = {"error": f"{type(error).__name__}: {error}"}
            answer["cpu"] = time.process_time()
            print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
