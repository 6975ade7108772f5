"""SMAC3 behind standard input and output; run by an interpreter that has it installed.

This file is a script for another environment: it imports nothing of this package. One JSON
object a line in, one out:

    {"op": "start", "parameters": [...], "scenario": {"seed": 0, ...}} -> {}
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
    Float,
    GreaterThanCondition,
    InCondition,
    Integer,
)
from smac import HyperparameterOptimizationFacade, Scenario
from smac.runhistory import TrialValue


class Server:
    """Answers requests about one optimisation."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._smac: Any = None
        self._asked: Any = None

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        if request["op"] == "start":
            space = configuration_space(request["parameters"])
            scenario = Scenario(space, output_directory=self._directory, **request["scenario"])
            self._smac = HyperparameterOptimizationFacade(
                scenario, lambda config, seed=0: 0.0, overwrite=True, logging_level=False
            )
        elif request["op"] == "ask":
            self._asked = self._smac.ask()
            config = dict(self._asked.config)
            return {
                "params": {k: v.item() if hasattr(v, "item") else v for k, v in config.items()}
            }
        else:
            now = time.time()
            # The facade divides by nothing but time; a positive duration keeps it content.
            value = TrialValue(cost=request["value"], time=1e-3, starttime=now, endtime=now)
            self._smac.tell(self._asked, value, save=False)
        return {}


def configuration_space(parameters: list[dict[str, Any]]) -> ConfigurationSpace:
    """A ConfigSpace from descriptions: choices, or bounds with log and is_whole; the condition."""
    space = ConfigurationSpace()
    for parameter in parameters:
        name = parameter["name"]
        if "choices" in parameter:
            space.add(Categorical(name, parameter["choices"]))
        else:
            make = Integer if parameter["is_whole"] else Float
            space.add(make(name, tuple(parameter["bounds"]), log=parameter["log"]))
    for parameter in parameters:
        if "parent" in parameter:
            child, parent = space[parameter["name"]], space[parameter["parent"]]
            if parameter["values"] is None:
                space.add(GreaterThanCondition(child, parent, parameter["at_least"] - 1))
            else:
                space.add(InCondition(child, parent, parameter["values"]))
    return space


def main() -> None:
    """Answer requests until the input ends."""
    logging.disable(logging.CRITICAL)
    # Whatever libraries print must not get between the answers.
    answers, sys.stdout = sys.stdout, sys.stderr
    with tempfile.TemporaryDirectory() as directory:
        server = Server(Path(directory))
        for line in sys.stdin:
            try:
                answer = server.answer(json.loads(line))
            except Exception as error:
                answer = {"error": f"{type(error).__name__}: {error}"}
            print(json.dumps({**answer, "cpu": time.process_time()}), file=answers, flush=True)


if __name__ == "__main__":
    main()
