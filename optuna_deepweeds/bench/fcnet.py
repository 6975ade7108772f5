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
from numpy.typing import NDArray

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


_PARAMETERS = ("batch_size", "dropout_1", "dropout_2", "init_lr", "n_units_1", "n_units_2")
# All published winners have two ReLU layers and a cosine schedule.
_SHARED = {"activation_fn_1": "relu", "activation_fn_2": "relu", "lr_schedule": "cosine"}

PUBLISHED: Mapping[str, tuple[float, Mapping[str, Any]]] = {
    name: (mse, {**_SHARED, **dict(zip(_PARAMETERS, values, strict=True))})
    for name, mse, values in (
        ("best in table", 0.221379, (8, 0.0, 0.3, 0.0005, 512, 512)),
        ("random", 0.227006, (32, 0.0, 0.0, 0.001, 512, 128)),
        ("rf_ei", 0.221573, (8, 0.0, 0.3, 0.0005, 256, 512)),
        ("dngo", 0.221111, (64, 0.3, 0.0, 0.001, 512, 512)),
    )
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
    records = [
        _record("best in table", None, table, table.configuration(int(table.means.argmin())))
    ]
    for sampler in SAMPLERS:
        for budget, n_runs in ((plan.short, plan.n_short), (plan.long, plan.n_long)):
            ends = [
                _incumbent(run, budget)
                for run in sorted(runs, key=lambda run: run.seed)
                if run.method["sampler"] == sampler and run.seed < n_runs and run.budget >= budget
            ]
            if ends:
                _, _, params = min(ends, key=lambda end: end[0])
                # Numbers are searched as indices.
                config = {
                    name: value if isinstance(value, str) else table.choices[name][value]
                    for name, value in params.items()
                }
                scores = np.array([score for _, score, _ in ends])
                records.append(_record(sampler, budget, table, config, scores))
    return records


def _incumbent(run: Run, budget: int) -> tuple[float, float, dict[str, Any]]:
    """Told value, score and params of the incumbent after `budget` evaluations."""
    course = run.results["course"]
    i = int(np.searchsorted(course["evaluations"], budget, side="right")) - 1
    return course["value"][i], course["score"][i], course["params"][i]


def _record(
    sampler: str,
    budget: int | None,
    table: Table,
    ours: Mapping[str, Any],
    scores: NDArray[np.float64] | None = None,
) -> dict[str, Any]:
    mse, theirs = PUBLISHED[sampler]
    valid_mse, its_valid_mse = (
        float(table.means[table.row({k: table.choices[k].index(v) for k, v in config.items()})])
        for config in (ours, theirs)
    )
    return {
        "sampler": sampler,
        "evaluations": budget,
        "runs": None if scores is None else len(scores),
        "valid_mse": valid_mse,
        "configuration": _described(ours),
        "mean_valid_mse": None if scores is None else float(scores.mean()),
        "sd_valid_mse": None if scores is None or len(scores) < 2 else float(scores.std(ddof=1)),
        "published_mse": mse,
        "published_configuration": _described(theirs),
        "its_valid_mse": its_valid_mse,
    }


def _described(configuration: Mapping[str, Any]) -> str:
    """A configuration in the words of the published table."""
    return (
        "{activation_fn_1} {activation_fn_2} batch {batch_size} dropout {dropout_1} {dropout_2} "
        "lr {init_lr:g} {lr_schedule} units {n_units_1} {n_units_2}"
    ).format(**configuration)
