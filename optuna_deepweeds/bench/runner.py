"""Running the cells of a benchmark: those that the results file lacks, over several processes.

A cell is reproducible by itself: the order and the number of processes change nothing.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import optuna

from optuna_deepweeds.bench import results
from optuna_deepweeds.bench.results import Cell, Run
from optuna_deepweeds.errors import DeepWeedsError

Execute = Callable[[Cell], Mapping[str, Any]]
"""Runs a cell and returns its results; the function of a module, so that it can be sent."""

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_LOG = logging.getLogger(__name__)


def run(
    cells: Sequence[Cell],
    execute: Execute,
    output: Path,
    *,
    processes: int = 1,
    on_run: Callable[[Cell, int, int], None] = lambda cell, n, total: None,
) -> int:
    """Run the cells that `output` lacks, append each as it ends, and return how many.

    A cell that fails is logged and left out; the others go on.

    Args:
        cells: The cells wanted, in the order to run them.
        execute: Runs one.
        output: The results file; made if there is none.
        processes: How many cells run at the same time.
        on_run: Called after each cell with it, the number done and the number to do.

    Raises:
        InvalidInputError: `output` is not the file of a benchmark.
        DeepWeedsError: Cells failed; all others were run before.
    """
    done = {r.key: r.budget for r in results.read(output)} if output.exists() else {}
    todo = [cell for cell in cells if done.get(cell.key, 0) < cell.budget]
    failures: list[str] = []
    for n, (cell, found) in enumerate(_outcomes(todo, execute, processes), start=1):
        if isinstance(found, str):
            _LOG.error("%s: %s", cell, found)
            failures.append(f"{cell}: {found}")
        else:
            results.append(output, Run(**vars(cell), results=found))
        on_run(cell, n, len(todo))
    if failures:
        raise DeepWeedsError(f"{len(failures)} of {len(todo)} runs failed; first: {failures[0]}")
    return len(todo)


def _outcomes(
    todo: Sequence[Cell], execute: Execute, processes: int
) -> Iterator[tuple[Cell, Mapping[str, Any] | str]]:
    if processes == 1 or len(todo) <= 1:
        for cell in todo:
            yield cell, _attempt(execute, cell)
        return
    with single_threaded_processes(processes) as executor:
        futures = {executor.submit(_attempt, execute, cell): cell for cell in todo}
        for future in as_completed(futures):
            yield futures[future], future.result()


def _attempt(execute: Execute, cell: Cell) -> Mapping[str, Any] | str:
    """The results of a cell, or why there are none."""
    try:
        with quiet():
            return execute(cell)
    except DeepWeedsError as error:
        return str(error)
    except Exception as error:
        _LOG.debug("cell failed", exc_info=True)
        return f"{type(error).__name__}: {error}"


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


@contextmanager
def single_threaded_processes(n: int) -> Iterator[ProcessPoolExecutor]:
    """A pool of processes that use one thread each, or they would fight for the cores."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    # Spawned, not forked: a fork would copy the locks of numerical thread pools.
    executor = ProcessPoolExecutor(n, mp_context=get_context("spawn"))
    try:
        yield executor
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
