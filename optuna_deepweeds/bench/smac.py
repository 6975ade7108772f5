"""SMAC3 as a peer: a server in another Python environment, spoken to in lines of JSON.

SMAC pins its own versions of half the stack, so it lives in an environment of its own:
`python -m venv smac-env && smac-env/bin/pip install smac`, then `--smac-python
smac-env/bin/python`.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from optuna_deepweeds.bench.problems import Problem
from optuna_deepweeds.errors import DeepWeedsError
from optuna_deepweeds.spaces import Parameter

_SERVER = Path(__file__).with_name("smac_server.py")


class SmacOptimiser:
    """SMAC3's HyperparameterOptimizationFacade with its defaults.

    Categories travel as their index and stepped numbers as the number of the step, so that any
    choice and any grid survives JSON and ConfigSpace.

    Args:
        problem: What is searched; larger-is-better problems are negated.
        seed: Of the scenario.
        n_trials: Budget, which sizes SMAC's initial design.
        python: Interpreter of the environment that has SMAC3.
        options: Further arguments of SMAC's `Scenario`; `deterministic=True` tells it not to
            spend evaluations on repeats.

    Raises:
        DeepWeedsError: If there is no such interpreter, or SMAC3 is missing there.
    """

    def __init__(
        self,
        problem: Problem,
        *,
        seed: int,
        n_trials: int,
        python: str | None,
        options: Mapping[str, Any],
    ) -> None:
        if python is None:
            raise DeepWeedsError(
                "the sampler smac needs an environment of its own; install smac there and name "
                "its interpreter with --smac-python."
            )
        self._problem = problem
        self._python = python
        self._cpu_seconds = 0.0
        self._parameters = {p.name: p for p in problem.space.parameters}
        try:
            self._process = subprocess.Popen(
                # Isolated: our own smac.py and statistics.py lie beside the script.
                [python, "-I", str(_SERVER)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
        except OSError as error:
            raise DeepWeedsError(
                f"--smac-python must be an interpreter, got {python}: {error}"
            ) from error
        try:
            self._request(
                op="start",
                parameters=[self._describe(p) for p in problem.space.parameters],
                seed=seed,
                n_trials=n_trials,
                options=dict(options),
            )
        except BaseException:
            self.close()
            raise

    def ask(self) -> dict[str, Any]:
        """The next configuration."""
        raw = self._request(op="ask")["params"]
        return {
            name: self._decode(parameter, raw[name])
            for name, parameter in self._parameters.items()
            if name in raw
        }

    def tell(self, value: float) -> None:
        """The value of the configuration asked for last."""
        self._request(op="tell", value=self._problem.sign * value)

    def clock(self) -> float:
        """CPU seconds of the server so far."""
        return self._cpu_seconds

    def close(self) -> None:
        """End the server."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                # A server that died leaves a request in the buffer.
                with suppress(BrokenPipeError):
                    pipe.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _request(self, **request: Any) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise DeepWeedsError(
                f"the SMAC process ended; does `{self._python} -c 'import smac'` work?"
            )
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise DeepWeedsError(f"SMAC failed: {answer['error']}")
        self._cpu_seconds = answer["cpu"]
        return answer

    def _describe(self, parameter: Parameter) -> dict[str, Any]:
        distribution = parameter.distribution
        described: dict[str, Any] = {"name": parameter.name}
        if isinstance(distribution, CategoricalDistribution):
            described |= {"kind": "categorical", "n_choices": len(distribution.choices)}
        else:
            assert isinstance(distribution, (FloatDistribution, IntDistribution))
            if _is_stepped(distribution):
                assert distribution.step is not None
                n_steps = round((distribution.high - distribution.low) / distribution.step)
                described |= {"kind": "int", "low": 0, "high": n_steps, "log": False}
            else:
                described |= {
                    "kind": "int" if isinstance(distribution, IntDistribution) else "float",
                    "low": distribution.low,
                    "high": distribution.high,
                    "log": distribution.log,
                }
        condition = parameter.condition
        if condition is not None:
            parent = self._parameters[condition.parent].distribution
            described["condition"] = {"parent": condition.parent}
            if condition.values is None:
                described["condition"]["at_least"] = condition.at_least
            elif isinstance(parent, CategoricalDistribution):
                described["condition"]["values"] = [
                    parent.choices.index(value) for value in condition.values
                ]
            else:
                described["condition"]["values"] = list(condition.values)
        return described

    def _decode(self, parameter: Parameter, raw: Any) -> Any:
        distribution = parameter.distribution
        if isinstance(distribution, CategoricalDistribution):
            return distribution.choices[int(raw)]
        assert isinstance(distribution, (FloatDistribution, IntDistribution))
        if _is_stepped(distribution):
            assert distribution.step is not None
            raw = distribution.low + int(raw) * distribution.step
        return int(raw) if isinstance(distribution, IntDistribution) else float(raw)


def _is_stepped(distribution: FloatDistribution | IntDistribution) -> bool:
    if isinstance(distribution, IntDistribution):
        return distribution.step != 1
    return distribution.step is not None
