"""Any Optuna objective as a task."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna

from optuna_deepweeds.errors import InvalidInputError, NotFoundError
from optuna_deepweeds.schema import did_you_mean
from optuna_deepweeds.spaces import SearchSpace
from optuna_deepweeds.tasks.run import Run


class FunctionTask:
    """Calls `objective(trial)` as it is, or `objective(trial, run)`; a `Task`.

    The second form reports by `run.report(value, step, save=…)` instead of `trial.report` and
    `trial.should_prune`, and so goes on from its checkpoint; the first begins anew when its trial
    was put back.

    Args:
        objective: The function, or where it is: `file.py:function`.
        space: Its parameters, then found in `run.config`; None if it suggests for itself.
        max_resource: The last step that it reports.
        metric: What it returns, in words.
        direction: "maximize" or "minimize".

    Raises:
        NotFoundError: If there is no such file.
        InvalidInputError: If the file cannot be imported or has no such function.
    """

    def __init__(
        self,
        objective: str | Callable[..., Any],
        *,
        space: SearchSpace | None = None,
        max_resource: int = 20,
        metric: str = "value",
        direction: str = "maximize",
    ) -> None:
        self.space = space
        self.max_resource = max_resource
        self.metric = metric
        self.direction = direction
        if isinstance(objective, str):
            self.name = objective
            self._function, self.fingerprint = _imported(objective)
        else:
            self.name = getattr(objective, "__qualname__", type(objective).__qualname__)
            self._function, self.fingerprint = objective, ""
        self._takes_run = _takes_run(self._function)

    def __call__(self, trial: optuna.Trial, run: Run) -> float:
        """Call the objective; what it raises passes through."""
        if self._takes_run:
            return float(self._function(trial, run))
        return float(self._function(_OwnedTrial(trial, run)))


class _OwnedTrial(optuna.Trial):
    """The trial of an objective that knows of no `Run`, and yet ends where its run does."""

    def __init__(self, trial: optuna.Trial, run: Run) -> None:
        self.__dict__.update(trial.__dict__)
        self._run = run

    def report(self, value: float, step: int) -> None:
        """As Optuna's; raises what ends the trial but for the pruner."""
        self._run.note(float(value), step)

    def should_prune(self) -> bool:
        """As Optuna's, but for a trial that must finish."""
        return super().should_prune() and not self._run.allowance.must_finish


def _imported(place: str) -> tuple[Callable[..., Any], str]:
    """The function at `file.py:function`, and the digest of its file."""
    file, _, name = place.rpartition(":")
    path = Path(file).resolve()
    if not file.endswith(".py") or not name:
        raise InvalidInputError(f"an objective is named `file.py:function`, but got {place!r}.")
    if not path.is_file():
        raise NotFoundError(f"no file {file}.")
    # Under a name of its own, so that it replaces no other module.
    spec = importlib.util.spec_from_file_location(f"objective_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # Where dataclasses and pickle look for it.
    sys.path.insert(0, str(path.parent))  # It may import its neighbours.
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise InvalidInputError(
            f"{file} must be a module that can be imported, but: {type(error).__name__}: {error}"
        ) from error
    function = getattr(module, name, None)
    if not callable(function):
        known = [key for key, value in vars(module).items() if inspect.isfunction(value)]
        raise InvalidInputError(f"{file} has no function {name!r}.{did_you_mean(name, known)}")
    return function, hashlib.sha256(path.read_bytes()).hexdigest()


def _takes_run(function: Callable[..., Any]) -> bool:
    """Whether a second argument is called `run` or must be given."""
    positional = [
        p
        for p in inspect.signature(function).parameters.values()
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    if len(positional) < 2:
        return False
    return positional[1].name == "run" or positional[1].default is inspect.Parameter.empty
