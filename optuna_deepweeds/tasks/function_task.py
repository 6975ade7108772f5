"""Any Optuna objective as a task."""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution

from optuna_deepweeds.errors import InvalidInputError, TrainingError
from optuna_deepweeds.files import whole
from optuna_deepweeds.pyfile import load_from
from optuna_deepweeds.schema import did_you_mean
from optuna_deepweeds.spaces import SearchSpace, describe
from optuna_deepweeds.tasks.run import Run
from optuna_deepweeds.tasks.task import default_direction

logger = logging.getLogger(__name__)


class FunctionTask:
    """Calls `objective(trial)` as it is, or `objective(trial, run)`; a `Task`.

    The second form reports by `run.report(value, step, save=…)` instead of `trial.report` and
    `trial.should_prune`, and so goes on from its checkpoint; the first begins anew when its trial
    was put back. Steps that the first form counts from 0 are counted from 1.

    Args:
        objective: The function, or where it is: `file.py:function`.
        folder: What a relative file is relative to; None for the current one.
        space: Its parameters, then found in `run.config`; None if it suggests for itself.
        max_resource: The last step that it reports. Where this, `metric` or `direction` is None,
            the file's `MAX_RESOURCE`, `METRIC` or `DIRECTION` holds, else a default.
        metric: What it returns, in words.
        direction: "maximize" or "minimize".

    Attributes:
        saves: Whether it can save checkpoints.
        assumed: Which of "metric", "direction" and "epochs" nobody has said.

    Raises:
        NotFoundError: If there is no such file.
        InvalidInputError: If the file cannot be imported or has no such function.
    """

    def __init__(
        self,
        objective: str | Callable[..., Any],
        *,
        folder: Path | None = None,
        space: SearchSpace | None = None,
        max_resource: int | None = None,
        metric: str | None = None,
        direction: str | None = None,
    ) -> None:
        self.space = space
        said: dict[str, Any] = {}
        if isinstance(objective, str):
            found = load_from(objective, "an objective", folder=folder)
            self.name, self._function, self.fingerprint = objective, found.value, found.digest
            said = vars(found.module)
            for key in ("METRIC", "DIRECTION"):
                if not isinstance(said.get(key, ""), str):
                    raise InvalidInputError(f"{key} must be a text, but is {said[key]!r:.60}.")
        else:
            self.name = getattr(objective, "__qualname__", type(objective).__qualname__)
            self._function, self.fingerprint = objective, ""
        self.saves = _takes_run(self._function, self.name)
        self.metric: str = metric or said.get("METRIC", "value")
        self.direction: str = direction or said.get("DIRECTION") or default_direction(self.metric)
        self.max_resource: int = max_resource or said.get("MAX_RESOURCE", 20)
        given = {"metric": metric, "direction": direction, "max_resource": max_resource}
        unsaid = {k for k, v in given.items() if v is None and k.upper() not in said}
        self.assumed = {"epochs" if name == "max_resource" else name for name in unsaid}
        self._told = set[str]()

    def warn(self, rule: str) -> None:
        """Say once what this objective should do otherwise."""
        if rule not in self._told:
            self._told.add(rule)
            logger.warning("%s %s.", self.name, rule)

    def __call__(self, trial: optuna.Trial, run: Run) -> float:
        """Call the objective; what it raises passes through, but for an exit.

        Raises:
            TrainingError: If it returns no number.
            InvalidInputError: If it suggests what contradicts its space.
        """
        lent = _OwnRun(run, self)
        owned = _OwnedTrial(trial, lent, self.space)
        try:
            value = self._function(owned, lent) if self.saves else self._function(owned)
        except SystemExit as error:
            raise TrainingError(f"the objective left by sys.exit({error.code!r}).") from error
        try:
            number = float(value)
        except (TypeError, ValueError):
            kind = "nothing" if value is None else f"a {type(value).__name__}"
            raise TrainingError(f"an objective must return one number, but got {kind}.") from None
        if math.isnan(number):
            raise TrainingError("an objective must return a number, but got nan.")
        return number


class _OwnedTrial(optuna.Trial):
    """The trial of an objective that knows of no `Run`, and yet ends where its run does."""

    def __init__(self, trial: optuna.Trial, run: Run, space: SearchSpace | None) -> None:
        self.__dict__.update(trial.__dict__)
        self._run = run
        self._space = space
        self._shift: int | None = None

    def report(self, value: float, step: int) -> None:
        """As Optuna's; raises what ends the trial but for the pruner."""
        if self._shift is None:
            self._shift = 1 if step == 0 else 0
        self._run.note(float(value), step + self._shift)

    def should_prune(self) -> bool:
        """As Optuna's, but for a trial that must finish, or is cut off soon."""
        return self._run.is_stopped()

    def _suggest(self, name: str, distribution: BaseDistribution) -> Any:
        # The space has been suggested before the call: what it holds decides.
        space = self._space
        if space is not None and name not in space.distributions:
            hint = did_you_mean(name, space.distributions)
            where = f"which the space {space.name} does not have"
            raise InvalidInputError(f"the objective suggests {name!r}, {where}.{hint}")
        if space is not None and distribution != space[name].distribution:
            mine = describe(distribution, with_scale=True)
            declared = describe(space[name].distribution, with_scale=True)
            raise InvalidInputError(
                f"the objective and its space must agree, but {name} is {mine} in the objective "
                f"and {declared} in {space.name}."
            )
        if space is not None and name not in self.params:
            raise InvalidInputError(
                f"the objective suggests {name!r} where the space {space.name} has none: it has "
                f"one where {space[name].condition}."
            )
        return super()._suggest(name, distribution)


class _OwnRun(Run):
    """A run whose checkpoints are written whole or not at all, however the objective writes."""

    def __init__(self, run: Run, task: FunctionTask) -> None:
        self.__dict__ = run.__dict__  # It is the same run.
        self._task = task

    def report(
        self, value: float, step: int, save: Callable[[Path], object] | None = None
    ) -> None:
        """As `Run`'s; `save` is given a new file in a folder that is there."""

        def save_whole(path: Path) -> None:
            assert save is not None
            with whole(path) as part:
                save(part)

        if save is None:
            self._task.warn(
                "reports without save=...: its trials begin anew when they are interrupted, and "
                "are not continued"
            )
        self._check(step)
        super().report(float(value), step, None if save is None else save_whole)

    def note(self, value: float, step: int) -> None:
        """As `Run`'s."""
        self._check(step)
        super().note(value, step)

    def _check(self, step: int) -> None:
        if step > self.epochs:
            self._task.warn(
                f"reports steps beyond {self.epochs}: the pruner decides up to there; "
                "--max-resource, or `study fork NAME NEW --epochs N`, names the last one"
            )


def _takes_run(function: Any, name: str) -> bool:
    """Whether a second argument is called `run` or must be given.

    Raises:
        InvalidInputError: If it cannot be called by one argument or two.
    """
    if inspect.isclass(function) or not callable(function):
        kind = "a class; name an object of it" if inspect.isclass(function) else "no function"
        raise InvalidInputError(f"an objective must be a function, but {name} is {kind}.")
    signature = inspect.signature(function)
    for n_given in (2, 1):
        try:
            given = signature.bind(*[None] * n_given).arguments
        except TypeError:
            continue
        last = signature.parameters[list(given)[-1]]
        is_asked_for = last.name == "run" or last.default is last.empty
        if n_given == 1 or (len(given) == 2 and is_asked_for and last.kind != last.VAR_POSITIONAL):
            return n_given == 2
    raise InvalidInputError(
        f"an objective must take `(trial)` or `(trial, run)`, but {name} takes {signature}."
    )
