"""`bench storage`: claims, crashes, outages, first starts, overhead and big studies."""

from __future__ import annotations

import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click

from optuna_deepweeds.bench import storage as bench
from optuna_deepweeds.bench.postgres import find_programs, local_postgres
from optuna_deepweeds.cli._output import emit, format_option, info

_COLUMNS = ("case", "backend", "workers", "events", "again", "seconds", "problems")
_SPEED_CASES = ("overhead", "scale")
_SPEED_COLUMNS = ("case", "backend", "what", "seconds", "stock_seconds", "difference_ms")


@click.command()
@click.option(
    "--case",
    "cases",
    multiple=True,
    type=click.Choice(tuple(bench.CASES)),
    help="May be given several times; all by default.",
)
@click.option(
    "--backend",
    "backends",
    multiple=True,
    type=click.Choice(("sqlite", "postgresql")),
    help="May be given several times; by default both, PostgreSQL where it is installed.",
)
@click.option(
    "--workers",
    multiple=True,
    type=click.IntRange(min=1),
    help="Processes at a time; may be given several times. By default 4 and 8 for claims, 8 for "
    "starts, 4 otherwise.",
)
@click.option(
    "--repetitions", default=1, show_default=True, type=click.IntRange(min=1), help="Of each case."
)
@click.option(
    "--kills",
    "n_kills",
    default=100,
    show_default=True,
    type=click.IntRange(min=1),
    help="Of the case kills.",
)
@click.option(
    "--outages",
    "n_outages",
    default=5,
    show_default=True,
    type=click.IntRange(min=1),
    help="Of the case outages.",
)
@click.option(
    "--seed",
    default=0,
    show_default=True,
    help="Seed of the moments of the kills; odd ones kill a study with thaw.",
)
@click.option(
    "--networks", is_flag=True, help="Train small networks instead of letting time pass."
)
@format_option
def storage(
    cases: tuple[str, ...],
    backends: tuple[str, ...],
    workers: tuple[int, ...],
    repetitions: int,
    n_kills: int,
    n_outages: int,
    seed: int,
    networks: bool,
    fmt: str,
) -> int:
    """Check that studies lose nothing, on storages made for the purpose.

    PostgreSQL runs as a server of its own in a temporary folder. Exits with 1 if any repetition
    had a problem. `again` counts epochs that were trained again because their worker was killed
    before it saved. Durations are seconds of wall time.

    \b
    claims    60 trials, 20 of them enqueued: each run once, exactly 60 finished
    kills     workers killed at random moments: nothing lost, nothing trained twice
    outages   server restarted, or file locked for 10 s, five times: no worker dies
    starts    all workers begin one study on an empty storage at once
    overhead  time of a trial and an epoch report beside stock Optuna
    scale     import, counts and listing with 10,000 trials
    """
    if not backends:
        backends = ("sqlite", "postgresql") if find_programs() else ("sqlite",)
    rows: list[dict[str, Any]] = []
    speeds: list[dict[str, Any]] = []
    for backend in backends:
        with local_postgres() if backend == "postgresql" else nullcontext() as server:
            places = bench.Places(backend, server, with_networks=networks)
            for case in cases or tuple(bench.CASES):
                if case not in _SPEED_CASES:
                    for n in workers or _default_workers(case):
                        for i in range(repetitions):
                            rows.append(
                                _row(_repetition(case, places, n, n_kills, n_outages, seed + i))
                            )
                            info(
                                f"{case} {backend} {n} workers {i + 1}/{repetitions}: "
                                f"{rows[-1]['problems'] or 'ok'}"
                            )
                else:
                    speeds += _speeds(case, places)
    if rows:
        emit(rows, columns=_COLUMNS, fmt=fmt)
    if speeds:
        emit(speeds, columns=_SPEED_COLUMNS, fmt=fmt)
    return 1 if any(row["problems"] for row in rows) else 0


def _repetition(
    case: str, places: bench.Places, workers: int, n_kills: int, n_outages: int, seed: int
) -> bench.Outcome:
    if case == "claims":
        return bench.claims(places, workers=workers)
    if case == "kills":
        return bench.kills(places, workers=workers, n_kills=n_kills, seed=seed)
    if case == "outages":
        return bench.outages(places, workers=workers, n_outages=n_outages)
    return bench.starts(places, workers=workers)


def _default_workers(case: str) -> tuple[int, ...]:
    return {"claims": (4, 8), "starts": (8,)}.get(case, (4,))


def _row(outcome: bench.Outcome) -> dict[str, Any]:
    return {
        **vars(outcome),
        "seconds": round(outcome.seconds, 1),
        "problems": "; ".join(outcome.problems),
    }


def _speeds(case: str, places: bench.Places) -> list[dict[str, Any]]:
    from optuna_deepweeds.bench.storage_scale import scale
    from optuna_deepweeds.bench.storage_speed import overhead

    with places.new() as one, places.new() as other, tempfile.TemporaryDirectory() as folder:
        if case == "overhead":
            measured = overhead(one, other.url)
        else:
            measured = scale(one.url, other.url, Path(folder))
    return [
        {
            "case": case,
            "backend": places.backend,
            "what": speed.what,
            "seconds": round(speed.seconds, 4),
            "stock_seconds": speed.stock_seconds and round(speed.stock_seconds, 4),
            "difference_ms": None
            if speed.stock_seconds is None
            else round(1000 * (speed.seconds - speed.stock_seconds), 2),
        }
        for speed in measured
    ]
