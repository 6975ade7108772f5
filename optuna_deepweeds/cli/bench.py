"""`bench`: measurements that anyone can repeat."""

from __future__ import annotations

import click

from optuna_deepweeds.cli._lazy import LazyGroup

_METHODS = "optuna_deepweeds.cli.bench_methods"
_CURVES = "optuna_deepweeds.cli.bench_curves"
_MACHINE = "optuna_deepweeds.cli.bench_machine"


@click.group(
    cls=LazyGroup,
    lazy={
        "samplers": (f"{_METHODS}:samplers", "Samplers on tabular problems."),
        "cost": (f"{_METHODS}:cost", "Time and memory of a suggestion."),
        "fcnet": (f"{_METHODS}:fcnet", "Random, forest and DNGO on the FCNet tables."),
        "pruners": (f"{_CURVES}:pruners", "Samplers and pruners on learning curves."),
        "ending": (f"{_CURVES}:ending", "What `--stop-when flat` loses and saves."),
        "record-curves": (f"{_CURVES}:record_curves", "Learning curves of small trainings."),
        "accuracy": (f"{_MACHINE}:accuracy", "Configurations picked by hand."),
        "training": (f"{_MACHINE}:training", "Training speed against a usual loader."),
        "storage": (f"{_MACHINE}:storage", "Overhead, and commands on a big study."),
    },
)
def bench() -> None:
    """Measure samplers, pruners, training and storage."""
