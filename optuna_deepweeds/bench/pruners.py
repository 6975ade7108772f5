"""The grid of the pruner benchmark: which runs to replay, and one CSV row for each.

A run is a *cell*: curves, length of training, pruner, workers, order, disturbance, seed. Cells
already in the output file are not run again, so a grid can be interrupted, resumed and extended.
Rows carry the whole course of a run; `pruner_summary` needs nothing else.
"""

from __future__ import annotations

import csv
import functools
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage

from optuna_deepweeds.bench.curves import Curves, load
from optuna_deepweeds.bench.peers import make_peer, parse
from optuna_deepweeds.bench.replay import generator, replay
from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.samplers import SAMPLERS, make_sampler
from optuna_deepweeds.studies.storage import open_storage


@dataclass(frozen=True)
class Cell:
    """One run of the grid.

    Attributes:
        curves: Source of the curves (see `curves.load`).
        max_resource: Epochs of a full training.
        pruner: Name in `peers.PEERS`, with options if any.
        workers: Simulated workers.
        order: "random" or the name of one of our samplers.
        noise: Standard deviation of the noise on reports.
        mislead: Share of the first epochs in which the configurations' order is reversed.
        storage: Where the study lives: "memory" or "sqlite", a file of its own.
        budget: Full trainings to pay for.
        seed: Of the order, the noise, the sampler and the pruner.
    """

    curves: str
    max_resource: int
    pruner: str
    workers: int
    order: str
    noise: float
    mislead: float
    storage: str
    budget: int
    seed: int


RESULTS = (
    "task",
    "digest",
    "epochs",
    "trials",
    "continuations",
    "outside_top_tenth",
    "top_started",
    "top_stopped",
    "decisions",
    "decision_ms",
    "seconds",
    "finished",
    "seen",
)
COLUMNS = tuple(field.name for field in fields(Cell)) + RESULTS

_KEY = ("digest", *(field.name for field in fields(Cell) if field.name != "curves"))


def grid(
    curves: Sequence[str],
    pruners: Sequence[str],
    *,
    max_resources: Sequence[int],
    workers: Sequence[int],
    orders: Sequence[str],
    noises: Sequence[float],
    misleads: Sequence[float],
    storage: str = "memory",
    budget: int,
    seeds: Sequence[int],
) -> list[Cell]:
    """Every combination as a cell; an empty `max_resources` means the curves' own length.

    Seeds vary slowest, so that an interrupted grid has all tasks and pruners of its first seeds.

    Raises:
        InvalidInputError: If a pruner or an order is unknown, curves are too short, or two
            sources have the same task name.
    """
    if not pruners:
        raise InvalidInputError("at least one pruner must be named, but got none.")
    for pruner in pruners:
        parse(pruner)
    known = ("random", *SAMPLERS)
    for order in orders:
        if order not in known:
            raise InvalidInputError(f"order must be one of {', '.join(known)}, but got {order!r}.")
    names: dict[str, str] = {}
    cells = []
    for source in curves:
        table = _table(source)
        if names.setdefault(table.name, source) != source:
            raise InvalidInputError(
                f"every source of curves must have a name of its own, but {source} and "
                f"{names[table.name]} are both {table.name!r}."
            )
        for n_epochs in max_resources or (table.n_epochs,):
            table.cut(n_epochs)
            cells += [
                Cell(
                    source,
                    n_epochs,
                    pruner,
                    n_workers,
                    order,
                    noise,
                    mislead,
                    storage,
                    budget,
                    seed,
                )
                for n_workers in workers
                for order in orders
                for noise in noises
                for mislead in misleads
                for seed in seeds
                for pruner in pruners
            ]
    return sorted(cells, key=lambda cell: cell.seed)


def run_grid(
    cells: Sequence[Cell],
    output: Path,
    *,
    processes: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Run the cells that `output` lacks and append a row for each as it ends.

    Args:
        cells: What to run.
        output: CSV file, created if missing.
        processes: Processes to run cells in.
        progress: Called with (cells done, cells in all) after each.

    Raises:
        InvalidInputError: If `output` exists and is not a file of this benchmark.
    """
    done = {_key(row) for row in read_rows(output)} if output.exists() else set()
    missing = [cell for cell in cells if _cell_key(cell) not in done]
    n_done = len(cells) - len(missing)
    _prepare(output)
    with output.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        for row in _results(missing, processes):
            writer.writerow(row)
            file.flush()
            n_done += 1
            if progress is not None:
                progress(n_done, len(cells))


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of an output file, numbers and trajectories parsed.

    A last line cut short by an interruption is ignored.

    Raises:
        InvalidInputError: If the file is not one of this benchmark.
    """
    text = path.read_text()
    if text and not text.endswith("\n"):
        text = text[: text.rfind("\n") + 1]
    rows = []
    reader = csv.DictReader(text.splitlines())
    if reader.fieldnames is not None and tuple(reader.fieldnames) != COLUMNS:
        raise InvalidInputError(
            f"the columns must be those of `bench pruners`, but {path} has "
            f"{', '.join(reader.fieldnames)}."
        )
    for number, raw in enumerate(reader, start=2):
        try:
            rows.append({column: _PARSERS[column](raw[column]) for column in COLUMNS})
        except (ValueError, TypeError):
            raise InvalidInputError(
                f"every row must hold the benchmark's numbers, but {path}, line {number}, "
                f"does not."
            ) from None
    return rows


def run_cell(cell: Cell) -> dict[str, Any]:
    """Replay one cell and return its row."""
    table = _table(cell.curves).cut(cell.max_resource)
    started = time.perf_counter()
    reported = None
    if cell.noise or cell.mislead:
        rng = generator(cell.seed, table, 1)
        reported = table.reported(noise=cell.noise, mislead=cell.mislead, rng=rng)
    sampler = None
    if cell.order != "random":
        sampler = make_sampler(cell.order, seed=cell.seed)
    with _storage(cell.storage) as storage:
        outcome, _ = replay(
            table,
            make_peer(cell.pruner, max_resource=cell.max_resource, seed=cell.seed),
            max_epochs=cell.budget * cell.max_resource,
            workers=cell.workers,
            seed=cell.seed,
            sampler=sampler,
            reported=reported,
            storage=storage,
        )
    is_top = table.top_tenth()
    results = {
        "task": table.name,
        "digest": table.digest,
        "epochs": outcome.epochs,
        "trials": outcome.trials,
        "continuations": outcome.continuations,
        "outside_top_tenth": 1.0 - float(outcome.paid[is_top].sum()) / outcome.epochs,
        "top_started": int((outcome.paid[is_top] > 0).sum()),
        "top_stopped": int(outcome.stopped[is_top].sum()),
        "decisions": len(outcome.decision_times),
        "decision_ms": 1e3 * outcome.decision_seconds / max(1, len(outcome.decision_times)),
        "seconds": time.perf_counter() - started,
        "finished": _dump(outcome.finished),
        "seen": _dump(outcome.seen),
    }
    return {**asdict(cell), **results}


@contextmanager
def _storage(kind: str) -> Iterator[BaseStorage | None]:
    """A SQLite storage that is deleted afterwards; None, for Optuna's default, in memory."""
    if kind == "memory":
        yield None
        return
    with tempfile.TemporaryDirectory() as directory:
        storage = open_storage(f"sqlite:///{directory}/replay.db")
        try:
            yield storage
        finally:
            storage.remove_session()
            storage.engine.dispose()


@functools.cache
def _table(source: str) -> Curves:
    return load(source)


def _results(cells: Sequence[Cell], processes: int) -> Iterator[dict[str, Any]]:
    if processes <= 1 or len(cells) < 2:
        for cell in cells:
            yield run_cell(cell)
        return
    # Spawned, because storages and thread pools do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        processes, mp_context=context, initializer=_quiet, initargs=()
    ) as pool:
        futures = [pool.submit(run_cell, cell) for cell in cells]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def _prepare(output: Path) -> None:
    """Write the header of a new file, or cut off an unfinished last line."""
    if not output.exists() or output.stat().st_size == 0:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(",".join(COLUMNS) + "\n")
        return
    content = output.read_bytes()
    if not content.endswith(b"\n"):
        os.truncate(output, content.rfind(b"\n") + 1)


def _cell_key(cell: Cell) -> tuple[Any, ...]:
    digest = _table(cell.curves).cut(cell.max_resource).digest
    return _key({**asdict(cell), "digest": digest})


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[column] for column in _KEY)


def _dump(trajectory: Sequence[tuple[int, float]]) -> str:
    return json.dumps([[epochs, round(regret, 6)] for epochs, regret in trajectory])


_PARSERS: dict[str, Callable[[Any], Any]] = {
    **{column: str for column in ("curves", "pruner", "order", "storage", "task", "digest")},
    **{
        column: int
        for column in ("max_resource", "workers", "budget", "seed", "epochs", "trials")
        + ("continuations", "top_started", "top_stopped", "decisions")
    },
    **{
        column: float
        for column in ("noise", "mislead", "outside_top_tenth", "decision_ms", "seconds")
    },
    **{column: json.loads for column in ("finished", "seen")},
}
