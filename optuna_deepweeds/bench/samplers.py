"""Running samplers on problems: cells, their seeds, and many of them over processes.

A cell's optimiser is asked and told like any user's; what it is told, the noise of a table
included, depends on (seed, task, number of the evaluation) alone, so all samplers meet the same
luck. A cell is reproducible by itself: the order and number of processes change nothing.
"""

from __future__ import annotations

import ast
import json
import logging
import math
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol

import optuna

from optuna_deepweeds.bench import results
from optuna_deepweeds.bench.problems import Problem, load_problem, stream
from optuna_deepweeds.bench.results import CellKey, Row
from optuna_deepweeds.errors import DeepWeedsError, InvalidInputError

BUDGETS = (5, 10, 25, 50, 75, 100)
"""Numbers of evaluations at which every run leaves a row."""

PEERS: dict[str, Callable[..., optuna.samplers.BaseSampler]] = {
    "random": optuna.samplers.RandomSampler,
    "tpe": optuna.samplers.TPESampler,
    "gp": optuna.samplers.GPSampler,
}
"""Optuna's samplers with Optuna's defaults: what a user would otherwise pick."""

_LOG = logging.getLogger(__name__)


class Optimiser(Protocol):
    """What a cell talks to."""

    def ask(self) -> dict[str, Any]:
        """The next configuration, constants of the space left out."""
        ...

    def tell(self, value: float) -> None:
        """The value of the configuration that was asked for last."""
        ...

    def clock(self) -> float:
        """CPU seconds its process has used; wall time would measure the machine's load."""
        ...

    def close(self) -> None:
        """Free processes and files."""
        ...


@dataclass(frozen=True)
class SamplerSpec:
    """A sampler and its options, written `name:key=value:key=value`.

    `space=False` hides the conditions of a space from a sampler that could use them.
    """

    name: str
    options: Mapping[str, Any]
    use_space: bool = True

    @classmethod
    def parse(cls, text: str) -> SamplerSpec:
        """Read `rf_ei` or `rf_ei:n_trees=30:space=False`; values are Python literals or words.

        Raises:
            InvalidInputError: If an option has no value.
        """
        name, *parts = text.split(":")
        options: dict[str, Any] = {}
        for part in parts:
            key, equals, value = part.partition("=")
            if not equals or not key:
                raise InvalidInputError(
                    f"a sampler is written name:key=value:key=value, but got {text!r}."
                )
            try:
                options[key] = ast.literal_eval(value)
            except (ValueError, SyntaxError):
                options[key] = value
        use_space = bool(options.pop("space", True))
        return cls(name, options, use_space)


@dataclass(frozen=True)
class Setting:
    """What all cells of a benchmark share.

    Attributes:
        budget: Evaluations of a run.
        smac_python: The interpreter that has SMAC3 installed.
    """

    budget: int = 100
    smac_python: str | None = None


class OptunaOptimiser:
    """An in-memory Optuna study used through ask and tell."""

    def __init__(
        self,
        problem: Problem,
        sampler: optuna.samplers.BaseSampler,
        enqueued: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self._problem = problem
        self.study = optuna.create_study(sampler=sampler, direction=problem.direction)
        for params in enqueued:
            self.study.enqueue_trial(dict(params))
        self._trial: optuna.Trial | None = None

    def ask(self) -> dict[str, Any]:
        self._trial = self.study.ask()
        config = self._problem.space.suggest(self._trial)
        return {k: v for k, v in config.items() if k not in self._problem.space.constants}

    def tell(self, value: float) -> None:
        assert self._trial is not None
        self.study.tell(self._trial, value)

    def clock(self) -> float:
        return time.process_time()

    def close(self) -> None:
        pass


def make_optimiser(key: CellKey, problem: Problem, setting: Setting) -> Optimiser:
    """The optimiser of a cell, seeded from its task and seed."""
    spec = SamplerSpec.parse(key.sampler)
    seed = int(stream(key.seed, "sampler", key.task).integers(2**31))
    if spec.name == "smac":
        from optuna_deepweeds.bench.smac import SmacOptimiser

        return SmacOptimiser(
            problem,
            seed=seed,
            n_trials=setting.budget,
            python=setting.smac_python,
            options=spec.options,
        )
    if spec.name in PEERS:
        if key.priors != "none":
            raise InvalidInputError(f"priors go to rf_ei and dngo, but got {key.sampler!r}.")
        return OptunaOptimiser(problem, PEERS[spec.name](seed=seed, **spec.options))
    from optuna_deepweeds.samplers import make_sampler

    options: dict[str, Any] = dict(spec.options)
    if problem.is_conditional and spec.use_space:
        options["space"] = problem.space
    enqueued: Sequence[Mapping[str, Any]] = ()
    if key.priors != "none":
        from optuna_deepweeds.bench.transfer import prior_sources

        kind, _, n_enqueued = key.priors.partition("/")
        priors = prior_sources(key.task, seed=key.seed, kind=kind)
        options["priors"] = priors.sources
        enqueued = priors.best(int(n_enqueued))
    return OptunaOptimiser(problem, make_sampler(spec.name, seed=seed, **options), enqueued)


def run_cell(key: CellKey, setting: Setting) -> list[Row]:
    """Run one cell and return its rows.

    Raises:
        DeepWeedsError: If a table or a sampler's package is missing.
    """
    problem = load_problem(key.task)
    noise = stream(key.seed, "noise", key.task).random(setting.budget)
    rows: list[Row] = []
    seconds = 0.0
    best_loss, best_params, best_value = math.inf, {}, math.nan
    with quiet():
        optimiser = make_optimiser(key, problem, setting)
        try:
            for n in range(1, setting.budget + 1):
                start = optimiser.clock()
                params = optimiser.ask()
                seconds += optimiser.clock() - start
                value = problem.evaluate(params, float(noise[n - 1]))
                start = optimiser.clock()
                optimiser.tell(value)
                seconds += optimiser.clock() - start
                improved = problem.sign * value < best_loss
                if improved:
                    best_loss, best_params, best_value = problem.sign * value, params, value
                if improved or n in BUDGETS or n == setting.budget:
                    score = problem.score(best_params)
                    rows.append(
                        Row(
                            family=problem.family,
                            task=key.task,
                            sampler=key.sampler,
                            priors=key.priors,
                            seed=key.seed,
                            budget=setting.budget,
                            evaluations=n,
                            value=best_value,
                            score=score,
                            fraction=problem.fraction_better(score),
                            regret=problem.regret(score),
                            milliseconds=round(1000 * seconds / n, 3),
                            params=json.dumps(best_params),
                        )
                    )
        finally:
            optimiser.close()
    return rows


@contextmanager
def quiet() -> Iterator[None]:
    """Optuna without a log line a trial and without warnings about experimental samplers."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)


def run(
    keys: Sequence[CellKey],
    setting: Setting,
    output: Path,
    *,
    processes: int = 1,
    on_cell: Callable[[CellKey, int, int], None] | None = None,
) -> int:
    """Run the cells that `output` lacks and append each as it finishes.

    A cell that fails is logged and left out; the others go on.

    Args:
        keys: The cells wanted, in the order to run them.
        setting: What they share.
        output: The CSV file.
        processes: How many cells run at the same time.
        on_cell: Called after each cell with it, the number done and the number to do.

    Returns:
        How many cells were run.

    Raises:
        DeepWeedsError: If cells failed, after all others were run.
    """
    done = results.finished(output, setting.budget)
    todo = [key for key in dict.fromkeys(keys) if key not in done]
    failures: list[str] = []
    for n, (key, rows, failure) in enumerate(_outcomes(todo, setting, processes), start=1):
        if failure is not None:
            _LOG.error("%s on %s, seed %d: %s", key.sampler, key.task, key.seed, failure)
            failures.append(f"{key.sampler} on {key.task}, seed {key.seed}: {failure}")
        else:
            results.append(output, rows)
        if on_cell is not None:
            on_cell(key, n, len(todo))
    if failures:
        raise DeepWeedsError(f"{len(failures)} of {len(todo)} runs failed; first: {failures[0]}")
    return len(todo)


def _outcomes(
    todo: Sequence[CellKey], setting: Setting, processes: int
) -> Iterator[tuple[CellKey, list[Row], str | None]]:
    if processes == 1 or len(todo) <= 1:
        for key in todo:
            yield key, *_attempt(key, setting)
        return
    # Spawned, not forked: a fork would copy the locks of numerical thread pools.
    with single_threaded_children():
        executor = ProcessPoolExecutor(processes, mp_context=get_context("spawn"))
        try:
            futures = {executor.submit(_attempt, key, setting): key for key in todo}
            for future in as_completed(futures):
                yield futures[future], *future.result()
        finally:
            executor.shutdown(wait=True, cancel_futures=True)


def _attempt(key: CellKey, setting: Setting) -> tuple[list[Row], str | None]:
    try:
        return run_cell(key, setting), None
    except DeepWeedsError as error:
        return [], str(error)
    except Exception as error:
        _LOG.debug("cell failed", exc_info=True)
        return [], f"{type(error).__name__}: {error}"


@contextmanager
def single_threaded_children() -> Iterator[None]:
    """Processes started inside use one thread each, or they would fight for the cores."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update({name: "1" for name in names})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
