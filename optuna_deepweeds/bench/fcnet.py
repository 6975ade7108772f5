"""The FCNet report: random search, forest and DNGO on the protein structure table.

It asks what a published student report asked: how fast does each find good settings of a small
network in 50 evaluations, over 50 runs, and in 100 evaluations over 30. Every figure here is
drawn from the results file, which running completes and never repeats.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from optuna_deepweeds.bench.results import Cell, Run
from optuna_deepweeds.bench.samplers import grid
from optuna_deepweeds.bench.summary import sampler_runs
from optuna_deepweeds.bench.tables import Table, load_table
from optuna_deepweeds.errors import DeepWeedsError

TASK = "protein_structure"
SAMPLERS: Mapping[str, str] = {
    "random": "random search",
    "rf_ei": "BO with random forest",
    "dngo": "BO with DNGO",
}
"""Samplers of the report and what the figures call them."""

_COLOURS = {"random": "#777777", "rf_ei": "#1b7837", "dngo": "#762a83"}


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


PUBLISHED: Mapping[str, tuple[float, Mapping[str, Any]]] = {
    "best in table": (0.221379, _configuration(8, (0.0, 0.3), 0.0005, (512, 512))),
    "random": (0.227006, _configuration(32, (0.0, 0.0), 0.001, (512, 128))),
    "rf_ei": (0.221573, _configuration(8, (0.0, 0.3), 0.0005, (256, 512))),
    "dngo": (0.221111, _configuration(64, (0.3, 0.0), 0.001, (512, 512))),
}
"""Ours that answers to it, or the table's best: published MSE and configuration.

Source: N. Mallik 2019, DL Lab exercise 2 (Freiburg): FCNet protein structure, the best of all
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

    def cells(self, budget: int) -> list[Cell]:
        """Cells to run with `budget` evaluations; the first runs serve both lengths."""
        seeds = range(self.n_long) if budget == self.long else range(self.n_long, self.n_short)
        return grid([TASK], tuple(SAMPLERS), seeds, budget=budget)


QUICK = Plan(n_short=3, short=15, n_long=2, long=20)


def draw(runs: Sequence[Run], plan: Plan, directory: Path) -> list[Path]:
    """Draw the four figures and return their files.

    A figure has the mean over runs, and a band of one standard deviation on both sides.

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
    figures = [(f"{name}_{plan.short}.png", [name], plan.short, plan.n_short) for name in SAMPLERS]
    figures.append((f"comparison_{plan.long}.png", [*SAMPLERS], plan.long, plan.n_long))
    for file_name, samplers, budget, n_runs in figures:
        found = sampler_runs([run for run in runs if run.seed < n_runs], budget)
        figure = Figure(figsize=(7.2, 4.4), layout="constrained")
        axes = figure.subplots()
        x = np.arange(1, budget + 1)
        for name in (name for name in samplers if name in found):
            score, colour = found[name][TASK].score, _COLOURS[name]
            mean, spread = score.mean(axis=0), score.std(axis=0, ddof=1)
            label = f"{SAMPLERS[name]}: mean ± standard deviation"
            axes.plot(x, mean, color=colour, label=label)
            axes.fill_between(
                x, mean - spread, mean + spread, color=colour, alpha=0.2, linewidth=0
            )
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
        figure.savefig(directory / file_name, dpi=150)
    return [directory / file_name for file_name, *_ in figures]


def best_configurations(runs: Sequence[Run], plan: Plan) -> list[dict[str, Any]]:
    """Our best configurations beside the published ones, a record a sampler and budget.

    The best of all runs is the incumbent that was told the lowest value, as the report chose
    its own; `valid_mse` is the table's mean for it.
    """
    table = load_table(TASK)
    best = int(table.means.argmin())
    records = [_record("best in table", None, table, table.configuration(best))]
    for sampler in SAMPLERS:
        for budget, n_runs in ((plan.short, plan.n_short), (plan.long, plan.n_long)):
            ends = _incumbents(runs, sampler, budget, n_runs)
            if ends:
                record = _record(sampler, budget, table, min(ends, key=lambda e: e[0])[2])
                scores = np.array([score for _, score, _ in ends])
                record["runs"] = len(ends)
                record["mean_valid_mse"] = float(scores.mean())
                record["sd_valid_mse"] = float(scores.std(ddof=1)) if len(scores) > 1 else None
                records.append(record)
    return records


def _incumbents(
    runs: Sequence[Run], sampler: str, budget: int, n_runs: int
) -> list[tuple[float, float, dict[str, Any]]]:
    """Told value, score and configuration of each run's incumbent after `budget` evaluations."""
    table, found = load_table(TASK), []
    for run in sorted(runs, key=lambda run: run.seed):
        is_chosen = run.method["sampler"] == sampler and run.seed < n_runs
        if is_chosen and run.budget >= budget:
            course = run.results["course"]
            i = int(np.searchsorted(course["evaluations"], budget, side="right")) - 1
            # Numbers are searched as indices.
            config = {
                name: value if isinstance(value, str) else table.choices[name][value]
                for name, value in course["params"][i].items()
            }
            found.append((course["value"][i], course["score"][i], config))
    return found


def _record(
    sampler: str, budget: int | None, table: Table, ours: Mapping[str, Any]
) -> dict[str, Any]:
    mse, theirs = PUBLISHED[sampler]
    valid_mse, its_valid_mse = (
        float(table.means[table.row({k: table.choices[k].index(v) for k, v in config.items()})])
        for config in (ours, theirs)
    )
    return {
        "sampler": sampler,
        "evaluations": budget,
        "runs": None,
        "valid_mse": valid_mse,
        "configuration": describe(ours),
        "mean_valid_mse": None,
        "sd_valid_mse": None,
        "published_mse": mse,
        "published_configuration": describe(theirs),
        "its_valid_mse": its_valid_mse,
    }


def describe(configuration: Mapping[str, Any]) -> str:
    """A configuration in the words of the published table."""
    c = configuration
    return (
        f"{c['activation_fn_1']} {c['activation_fn_2']} batch {c['batch_size']} "
        f"dropout {c['dropout_1']} {c['dropout_2']} lr {c['init_lr']:g} {c['lr_schedule']} "
        f"units {c['n_units_1']} {c['n_units_2']}"
    )
