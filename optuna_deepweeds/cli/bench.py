"""`bench`: measurements that anyone can repeat."""

from __future__ import annotations

import click

from optuna_deepweeds.cli._lazy import LazyGroup

_ROOM = "optuna_deepweeds.cli"


@click.group(
    cls=LazyGroup,
    lazy={
        "samplers": (f"{_ROOM}.bench_samplers:samplers", "Samplers on tabular problems."),
        "cost": (f"{_ROOM}.bench_samplers:cost", "Time and memory of a suggestion."),
        "fcnet": (f"{_ROOM}.bench_samplers:fcnet", "Random, forest and DNGO on the FCNet tables."),
        "pruners": (f"{_ROOM}.bench_pruners:pruners", "Pruners on recorded learning curves."),
        "accuracy": (f"{_ROOM}.bench_accuracy:accuracy", "Configurations picked by hand."),
        "training": (f"{_ROOM}.bench_training:training", "Training speed against a usual loader."),
        "storage": (f"{_ROOM}.bench_storage:storage", "Overhead, and commands on a big study."),
    },
)
def bench() -> None:
    """Measure samplers, pruners, training and storage."""
