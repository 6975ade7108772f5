"""The FCNet report: random search, forest and DNGO on the protein structure table.

It asks what a published student report asked: how fast does each find good settings of a small
network in 50 evaluations, over 50 runs, and in 100 evaluations over 30. Every figure here is
drawn from the CSV file of the runs, which `run` completes and never repeats.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from optuna_deepweeds.bench.results import CellKey, Row, Trajectories, trajectories
from optuna_deepweeds.bench.tables import Table, load_table
from optuna_deepweeds.errors import DeepWeedsError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TASK = "protein_structure"
SAMPLERS: Mapping[str, str] = {
    "random": "random search",
    "rf_ei": "BO with random forest",
    "dngo": "BO with DNGO",
}
"""Samplers of the report and what the figures call them."""

_COLOURS = {"random": "#777777", "rf_ei": "#1b7837", "dngo": "#762a83"}


@dataclass(frozen=True)
class Published:
    """A row of the published table.

    Attributes:
        sampler: Ours that answers to it, or "best in table".
        mse: As published.
        configuration: As published.
    """

    sampler: str
    mse: float
    configuration: Mapping[str, Any]


def _configuration(
    batch_size: int, dropout: tuple[float, float], rate: float, units: tuple[int, int]
) -> dict[str, Any]:
    """All published winners have two ReLU layers and a cosine schedule."""
    return {
        "activation_fn_1": "relu",
        "activation_fn_2": "relu",
        "batch_size": batch_size,
        "dropout_1": dropout[0],
        "dropout_2": dropout[1],
        "init_lr": rate,
        "lr_schedule": "cosine",
        "n_units_1": units[0],
        "n_units_2": units[1],
    }


PUBLISHED = (
    Published("best in table", 0.221379, _configuration(8, (0.0, 0.3), 0.0005, (512, 512))),
    Published("random", 0.227006, _configuration(32, (0.0, 0.0), 0.001, (512, 128))),
    Published("rf_ei", 0.221573, _configuration(8, (0.0, 0.3), 0.0005, (256, 512))),
    Published("dngo", 0.221111, _configuration(64, (0.3, 0.0), 0.001, (512, 512))),
)
"""Source: N. Mallik 2019, DL Lab exercise 2 (Freiburg): FCNet protein structure, the best of all
runs, said to be test MSE."""


@dataclass(frozen=True)
class Plan:
    """How many runs of which length.

    Attributes:
        n_short: Runs of the first three figures, `short` evaluations each.
        n_long: Runs of the fourth figure, `long` evaluations each.
    """

    n_short: int = 50
    short: int = 50
    n_long: int = 30
    long: int = 100

    def cells(self, budget: int) -> list[CellKey]:
        """Cells to run with `budget` evaluations; the first runs serve both lengths."""
        seeds = range(self.n_long) if budget == self.long else range(self.n_long, self.n_short)
        return [CellKey(TASK, sampler, "none", seed) for seed in seeds for sampler in SAMPLERS]


QUICK = Plan(n_short=3, short=15, n_long=2, long=20)


def draw(rows: Sequence[Row], plan: Plan, directory: Path) -> list[Path]:
    """Draw the four figures and return their files.

    Raises:
        DeepWeedsError: If matplotlib is missing.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise DeepWeedsError(
            "figures need matplotlib; install it with: pip install 'optuna-deepweeds[plots]'"
        ) from error
    matplotlib.use("agg")
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    directory.mkdir(parents=True, exist_ok=True)
    best = float(load_table(TASK).means.min())
    figures: list[tuple[str, Mapping[str, str], int, int]] = [
        (f"{sampler}_{plan.short}.png", {sampler: title}, plan.short, plan.n_short)
        for sampler, title in SAMPLERS.items()
    ]
    figures.append((f"comparison_{plan.long}.png", SAMPLERS, plan.long, plan.n_long))
    paths = []
    for file_name, samplers, budget, n_runs in figures:
        curves = _curves(rows, samplers, budget, n_runs)
        figure = Figure(figsize=(7.2, 4.4), layout="constrained")
        axes = figure.subplots()
        for sampler, run in curves.items():
            _draw_curve(axes, run, SAMPLERS[sampler], _COLOURS[sampler])
        axes.axhline(best, color="black", linestyle=":", linewidth=1, label="best of the table")
        axes.set(
            xlabel="evaluations",
            ylabel="validation MSE of the incumbent (table mean)",
            title=f"FCNet protein structure, {n_runs} runs",
            xlim=(1, budget),
            ylim=(best - 0.01, 0.45),
        )
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(frameon=False)
        paths.append(directory / file_name)
        figure.savefig(paths[-1], dpi=150)
    return paths


def _curves(
    rows: Sequence[Row], samplers: Mapping[str, str], budget: int, n_runs: int
) -> dict[str, Trajectories]:
    chosen = [row for row in rows if row.task == TASK and row.seed < n_runs]
    found = trajectories(chosen, budget)
    return {s: found[s][TASK] for s in samplers if s in found and TASK in found[s]}


def _draw_curve(axes: Axes, run: Trajectories, label: str, colour: str) -> None:
    """The mean over runs, and a band of one standard deviation on both sides."""
    x = np.arange(1, run.score.shape[1] + 1)
    mean, deviation = run.score.mean(axis=0), run.score.std(axis=0, ddof=1)
    axes.plot(x, mean, color=colour, label=f"{label}: mean ± standard deviation")
    axes.fill_between(x, mean - deviation, mean + deviation, color=colour, alpha=0.2, linewidth=0)


def best_configurations(rows: Sequence[Row], plan: Plan) -> list[dict[str, Any]]:
    """Our best configurations beside the published ones, a record a sampler and budget.

    The best of all runs is the incumbent that was told the lowest value, as the report chose
    its own; `valid_mse` is the table's mean for it.
    """
    table = load_table(TASK)
    published = {row.sampler: row for row in PUBLISHED}
    records = [_record("best in table", None, None, int(table.means.argmin()), table, published)]
    for sampler in SAMPLERS:
        for budget, n_runs in ((plan.short, plan.n_short), (plan.long, plan.n_long)):
            ends = _incumbents(rows, sampler, budget, n_runs)
            if ends:
                winner = min(ends, key=lambda row: row.value)
                record = _record(
                    sampler, budget, len(ends), _table_row(winner.params, table), table, published
                )
                scores = np.array([row.score for row in ends])
                record["mean_valid_mse"] = float(scores.mean())
                record["sd_valid_mse"] = float(scores.std(ddof=1)) if len(scores) > 1 else None
                records.append(record)
    return records


def _incumbents(rows: Sequence[Row], sampler: str, budget: int, n_runs: int) -> list[Row]:
    """The last row of each run up to `budget` evaluations."""
    latest: dict[int, Row] = {}
    for row in rows:
        if (row.task, row.sampler, row.priors) != (TASK, sampler, "none"):
            continue
        if row.seed < n_runs and row.budget >= budget and row.evaluations <= budget:
            known = latest.get(row.seed)
            if known is None or row.evaluations > known.evaluations:
                latest[row.seed] = row
    return [latest[seed] for seed in sorted(latest)]


def _table_row(params: str, table: Table) -> int:
    """Row of the table for an incumbent's parameters, which hold indices where numeric."""
    decoded: dict[str, Any] = json.loads(params)
    return table.row(
        {
            name: table.choices[name].index(value) if isinstance(value, str) else value
            for name, value in decoded.items()
        }
    )


def _record(
    sampler: str,
    budget: int | None,
    n_runs: int | None,
    row: int,
    table: Table,
    published: Mapping[str, Published],
) -> dict[str, Any]:
    theirs = published[sampler]
    their_row = table.row(
        {name: table.choices[name].index(v) for name, v in theirs.configuration.items()}
    )
    return {
        "sampler": sampler,
        "evaluations": budget,
        "runs": n_runs,
        "valid_mse": float(table.means[row]),
        "configuration": describe(table.configuration(row)),
        "mean_valid_mse": None,
        "sd_valid_mse": None,
        "published_mse": theirs.mse,
        "published_configuration": describe(theirs.configuration),
        "its_valid_mse": float(table.means[their_row]),
    }


def describe(configuration: Mapping[str, Any]) -> str:
    """A configuration in the words of the published table."""
    c = configuration
    return (
        f"{c['activation_fn_1']} {c['activation_fn_2']} batch {c['batch_size']} "
        f"dropout {c['dropout_1']} {c['dropout_2']} lr {c['init_lr']:g} {c['lr_schedule']} "
        f"units {c['n_units_1']} {c['n_units_2']}"
    )
