"""Syne Tune's DyHPO behind standard input and output; run by an interpreter that has it.

This file is a script for another environment: it imports nothing of this package. One JSON
object a line in, one out; trials have the numbers that the other side gives them:

    {"op": "start", "rows": [[...], ...], "max_resource": 20, "seed": 0} -> {}
    {"op": "suggest", "trial": 7}       -> {"row": 12} of a new trial 7, or {"resume": 3}
    {"op": "report", "trial": 3, "epoch": 2, "value": 0.5} -> {"goes_on": true}

Every answer has the CPU seconds used so far as "cpu"; a failure has the field "error".
"""

from __future__ import annotations

import json
import logging
import sys
import time
from datetime import datetime
from typing import Any

import numpy as np
from syne_tune.backend.trial_status import Trial
from syne_tune.config_space import uniform
from syne_tune.optimizer.legacy_baselines import DyHPO


class Server:
    """Answers requests about one search among the rows of a table."""

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        return dict(getattr(self, f"_{request.pop('op')}")(**request))

    def _start(self, rows: list[list[float]], max_resource: int, seed: int) -> dict[str, Any]:
        self._rows = np.array(rows)
        self._max_resource = max_resource
        names = [f"x{i}" for i in range(self._rows.shape[1])]
        space = {name: uniform(min(0.0, *self._rows[:, i]), 1.0) for i, name in enumerate(names)}
        configs = [dict(zip(names, row)) for row in rows]  # noqa: B905 - all of one length
        self._names = names
        self._trials: dict[int, Trial] = {}
        self._scheduler = DyHPO(
            {**space, "epochs": max_resource},
            metric="value",
            resource_attr="epoch",
            mode="max",
            max_resource_attr="epochs",
            random_seed=seed,
            search_options={"restrict_configurations": configs, "debug_log": False},
        )
        return {}

    def _suggest(self, trial: int) -> dict[str, Any]:
        suggestion = self._scheduler.suggest(trial)
        if not suggestion.spawn_new_trial_id:
            return {"resume": int(suggestion.checkpoint_trial_id)}
        self._trials[trial] = Trial(trial, dict(suggestion.config), datetime.now())
        self._scheduler.on_trial_add(self._trials[trial])
        point = np.array([suggestion.config[name] for name in self._names])
        return {"row": int(np.square(self._rows - point).sum(axis=1).argmin())}

    def _report(self, trial: int, epoch: int, value: float) -> dict[str, Any]:
        result = {"value": value, "epoch": epoch}
        decision = self._scheduler.on_trial_result(self._trials[trial], result)
        if epoch >= self._max_resource:
            self._scheduler.on_trial_complete(self._trials[trial], result)
        return {"goes_on": decision == "CONTINUE"}


def main() -> None:
    """Answer requests until the input ends."""
    logging.disable(logging.CRITICAL)
    # Whatever libraries print must not get between the answers.
    answers, sys.stdout = sys.stdout, sys.stderr
    server = Server()
    for line in sys.stdin:
        try:
            answer = server.answer(json.loads(line))
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps({**answer, "cpu": time.process_time()}), file=answers, flush=True)


if __name__ == "__main__":
    main()
