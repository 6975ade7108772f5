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
from optuna_deepweeds.bench.samplers import Optimiser
from optuna_deepweeds.errors import DeepWeedsError
from optuna_deepweeds.spaces import Parameter

_SERVER = Path(__file__).with_name("smac_server.py")


class SmacOptimiser(Optimiser):
    """SMAC3's HyperparameterOptimizationFacade with its defaults.

    Args:
        problem: What is searched; larger-is-better problems are negated.
        seed: Of the scenario.
        n_trials: Budget, which sizes SMAC's initial design.
        python: Interpreter of the environment that has SMAC3.
        options: Further arguments of SMAC's `Scenario`; `deterministic=True` tells it not to
            spend evaluations on repeats.

    Raises:
        DeepWeedsError: There is no such interpreter, or SMAC3 is missing there.
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
                # Isolated: our own smac.py lies beside the script.
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
                scenario={"deterministic": False, **options, "seed": seed, "n_trials": n_trials},
            )
        except BaseException:
            self.close()
            raise

    def ask(self) -> dict[str, Any]:
        raw = self._request(op="ask")["params"]
        return {
            name: _decoded(parameter, raw[name])
            for name, parameter in self._parameters.items()
            if name in raw
        }

    def tell(self, value: float) -> None:
        self._request(op="tell", value=self._problem.sign * value)

    def clock(self) -> float:
        return self._cpu_seconds

    def close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):  # a server that died leaves a request in the buffer
                pipe.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _request(self, **request: Any) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        line = ""
        with suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
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
        """The parameter as the server reads it.

        Categories travel as their index and stepped numbers as the number of the step, so that
        any choice and any grid survives JSON and ConfigSpace.
        """
        distribution, condition = parameter.distribution, parameter.condition
        described: dict[str, Any] = {"name": parameter.name}
        if isinstance(distribution, CategoricalDistribution):
            described["choices"] = list(range(len(distribution.choices)))
        else:
            assert isinstance(distribution, (FloatDistribution, IntDistribution))
            is_whole = isinstance(distribution, IntDistribution)
            bounds = (distribution.low, distribution.high)
            if (step := _step(distribution)) is not None:
                is_whole, bounds = True, (0, round((bounds[1] - bounds[0]) / step))
            described |= {"is_whole": is_whole, "bounds": bounds, "log": distribution.log}
        if condition is not None:
            parent = self._parameters[condition.parent].distribution
            values: Any = condition.values
            if values is not None and isinstance(parent, CategoricalDistribution):
                values = [parent.choices.index(value) for value in values]
            described |= {"parent": condition.parent, "values": values}
            described["at_least"] = condition.at_least
        return described


def _decoded(parameter: Parameter, raw: Any) -> Any:
    distribution = parameter.distribution
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[int(raw)]
    assert isinstance(distribution, (FloatDistribution, IntDistribution))
    if (step := _step(distribution)) is not None:
        raw = distribution.low + int(raw) * step
    return int(raw) if isinstance(distribution, IntDistribution) else float(raw)


def _step(distribution: FloatDistribution | IntDistribution) -> float | None:
    """The distance of the grid's points; None for all floats and all whole numbers."""
    is_plain = isinstance(distribution, IntDistribution) and distribution.step == 1
    return None if is_plain else distribution.step
