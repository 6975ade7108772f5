"""The grid of the pruner benchmark: which runs to replay, and one CSV row for each.

A run is a *cell* (see `pruner_rows`): curves, length of training, pruner, workers, order,
disturbance, seed, and what the pruner is given beforehand. Cells already in the output file are
not run again, so a grid can be interrupted, resumed and extended. Rows carry the whole course of
a run; `pruner_summary` needs nothing else.
"""

from __future__ import annotations

import csv
import functools
import hashlib
import json
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage

from optuna_deepweeds.bench import warm_start
from optuna_deepweeds.bench.curves import Curves, load
from optuna_deepweeds.bench.peers import OWN, make_peer, parse, takes_prior_curves
from optuna_deepweeds.bench.pruner_rows import COLUMNS, Cell, dump, key, prepare, read_rows
from optuna_deepweeds.bench.replay import generator, replay
from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.samplers import SAMPLERS, make_sampler
from optuna_deepweeds.studies.storage import open_storage


def grid(
    curves: Sequence[str],
    pruners: Sequence[str],
    *,
    max_resources: Sequence[int],
    workers: Sequence[int],
    orders: Sequence[str],
    noises: Sequence[float],
    misleads: Sequence[float],
    prior_curves: Sequence[str] = ("none",),
    storage: str = "memory",
    budget: int,
    seeds: Sequence[int],
) -> list[Cell]:
    """Every combination as a cell; an empty `max_resources` means the curves' own length.

    Seeds vary slowest, so that an interrupted grid has all tasks and pruners of its first seeds.
    Pruners that cannot be given prior curves run without, and so does every other one as a
    control. Where there are prior curves at all, every run leaves the same configurations out.

    Raises:
        InvalidInputError: If a pruner, an order or a kind of prior curves is unknown, curves are
            too short, two sources have the same task name, no pruner can be given prior curves,
            or there is no other task for related ones.
    """
    if not pruners:
        raise InvalidInputError("at least one pruner must be named, but got none.")
    for pruner in pruners:
        parse(pruner)
    known = ("random", *SAMPLERS)
    for order in orders:
        if order not in known:
            raise InvalidInputError(f"order must be one of {', '.join(known)}, but got {order!r}.")
    kinds = _kinds(prior_curves, pruners)
    names: dict[str, str] = {}
    cells = []
    for source in curves:
        table = _table(source)
        if names.setdefault(table.name, source) != source:
            raise InvalidInputError(
                f"every source of curves must have a name of its own, but {source} and "
                f"{names[table.name]} are both {table.name!r}."
            )
        others = tuple(other for other in curves if other != source)
        if "related" in kinds and not others:
            raise InvalidInputError(
                f"related prior curves need curves of at least two tasks, but got {source} alone."
            )
        for n_epochs in max_resources or (table.n_epochs,):
            for needed in (source, *(others if "related" in kinds else ())):
                _table(needed).cut(n_epochs)
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
                    warm_start.n_held_out(table) if len(kinds) > 1 else 0,
                    kind,
                    others if kind == "related" else (),
                )
                for n_workers in workers
                for order in orders
                for noise in noises
                for mislead in misleads
                for seed in seeds
                for pruner in pruners
                for kind in (kinds if takes_prior_curves(pruner) else ("none",))
            ]
    return sorted(cells, key=lambda cell: cell.seed)


def _kinds(prior_curves: Sequence[str], pruners: Sequence[str]) -> list[str]:
    """The kinds of prior curves to run, the control first."""
    warm_start.check_kinds(prior_curves)
    kinds = list(dict.fromkeys(("none", *prior_curves)))
    if len(kinds) > 1 and not any(takes_prior_curves(pruner) for pruner in pruners):
        raise InvalidInputError(
            f"prior curves need one of the pruners {', '.join(OWN)}, but got {', '.join(pruners)}."
        )
    return kinds


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
    done = {key(row) for row in read_rows(output)} if output.exists() else set()
    missing = [cell for cell in cells if _cell_key(cell) not in done]
    n_done = len(cells) - len(missing)
    prepare(output)
    with output.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        for row in _results(missing, processes):
            writer.writerow(row)
            file.flush()
            n_done += 1
            if progress is not None:
                progress(n_done, len(cells))


def run_cell(cell: Cell) -> dict[str, Any]:
    """Replay one cell and return its row."""
    whole = _table(cell.curves).cut(cell.max_resource)
    started = time.perf_counter()
    table, held_out = warm_start.hold_out(whole, cell.held_out, seed=cell.seed)
    prior = warm_start.pruner_options(
        cell.prior_curves, held_out, _prior_tables(cell), seed=cell.seed
    )
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
            make_peer(cell.pruner, max_resource=cell.max_resource, seed=cell.seed, prior=prior),
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
        **_digests(cell),
        "epochs": outcome.epochs,
        "trials": outcome.trials,
        "continuations": outcome.continuations,
        "outside_top_tenth": 1.0 - float(outcome.paid[is_top].sum()) / outcome.epochs,
        "top_started": int((outcome.paid[is_top] > 0).sum()),
        "top_stopped": int(outcome.stopped[is_top].sum()),
        "decisions": len(outcome.decision_times),
        "decision_ms": 1e3 * outcome.decision_seconds / max(1, len(outcome.decision_times)),
        "seconds": time.perf_counter() - started,
        "finished": dump(outcome.finished),
        "seen": dump(outcome.seen),
    }
    return {**_fields(cell), **results}


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


def _fields(cell: Cell) -> dict[str, Any]:
    return {**asdict(cell), "prior_sources": json.dumps(cell.prior_sources)}


def _cell_key(cell: Cell) -> tuple[Any, ...]:
    return key({**_fields(cell), **_digests(cell)})


def _digests(cell: Cell) -> dict[str, str]:
    """Eight hexadecimal digits for the curves, and for those of the other tasks if any."""
    related = "".join(table.digest for table in _prior_tables(cell))
    return {
        "digest": _table(cell.curves).cut(cell.max_resource).digest,
        "prior_digest": hashlib.sha256(related.encode()).hexdigest()[:8] if related else "",
    }


def _prior_tables(cell: Cell) -> list[Curves]:
    return [_table(source).cut(cell.max_resource) for source in cell.prior_sources]
