"""`bench storage`: overhead beside stock Optuna, and commands on a big study."""

from __future__ import annotations

import click

from optuna_deepweeds.cli._output import emit, format_option

_COLUMNS = ("what", "seconds", "stock_seconds", "difference_ms")


@click.command()
@click.option(
    "--storage",
    "url",
    metavar="URL",
    help="An empty database; SQLite files by default.",
)
@click.option(
    "--trials",
    "n_trials",
    default=10_000,
    show_default=True,
    type=click.IntRange(min=0),
    help="Trials of the study whose commands are timed; 0: overhead alone.",
)
@format_option
def storage(url: str | None, n_trials: int, fmt: str) -> None:
    """Measure what a trial and an epoch report cost beside stock Optuna, and whole commands.

    Durations are seconds of wall time, medians of several. That nothing is lost when workers are
    killed or a server restarts is checked by `pytest -m slow tests/faults`.
    """
    from optuna_deepweeds.bench.storage import measure

    rows = []
    for speed in measure(url, n_trials=n_trials):
        row = {**vars(speed), "difference_ms": None}
        if speed.stock_seconds is not None:
            row["difference_ms"] = round(1000 * (speed.seconds - speed.stock_seconds), 2)
        rows.append({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()})
    emit(rows, columns=_COLUMNS, fmt=fmt)
