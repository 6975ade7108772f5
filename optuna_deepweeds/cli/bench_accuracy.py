"""`bench accuracy`: how far configurations picked by hand get on the test images."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from optuna_deepweeds.bench.accuracy import CONFIGS, measure
from optuna_deepweeds.cli._output import emit, format_option, info
from optuna_deepweeds.errors import InvalidInputError

if TYPE_CHECKING:
    from optuna_deepweeds.tasks.evaluation import Score

_COLUMNS = ("config", "mean", "sd", "macro_f1", "seeds", "seconds")


@click.command()
@click.option(
    "--config",
    "names",
    multiple=True,
    metavar="NAME",
    help=f"One of {', '.join(CONFIGS)}; may be given several times. [default: course, modern; on "
    "a GPU modern-wide too]",
)
@click.option("--dataset", default="deepweeds-balanced", show_default=True, help="Images.")
@click.option("--fold", default=0, show_default=True, help="Official fold of deepweeds, 0 to 4.")
@click.option("--seeds", "n_seeds", default=3, show_default=True, help="Trainings of each.")
@click.option(
    "--first-seed",
    default=0,
    show_default=True,
    help="Number of the first training: 3 times `--seeds 1` with 0, 1, 2 are `--seeds 3`.",
)
@click.option("--epochs", default=20, show_default=True, type=click.IntRange(1, 20))
@click.option(
    "--device", metavar="DEVICE", help="cpu, cuda or cuda:N; by default the best there is."
)
@click.option("--data-dir", type=click.Path(path_type=Path), help="Where the images lie.")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the first network of a single configuration to this file, for `predict`.",
)
@format_option
def accuracy(
    names: tuple[str, ...],
    dataset: str,
    fold: int,
    n_seeds: int,
    first_seed: int,
    epochs: int,
    device: str | None,
    data_dir: Path | None,
    output: Path | None,
    fmt: str,
) -> None:
    """Train configurations picked by hand and report their accuracy on the test images."""
    from optuna_deepweeds.datasets import load
    from optuna_deepweeds.training.runtime import choose_device

    if not names:
        names = ("course", "modern")
        if choose_device(device).type == "cuda":
            names = (*names, "modern-wide")
    if output is not None and len(names) != 1:
        raise InvalidInputError(f"--output must go with one --config, but got {', '.join(names)}.")
    images = load(dataset, data_dir=data_dir, fold=fold)
    rows = []
    for name in names:
        result, network = measure(
            name,
            images,
            first_seed=first_seed,
            n_seeds=n_seeds,
            epochs=epochs,
            device=device,
            on_score=_show,
        )
        for failure in result.failures:
            info(f"Failed: {failure}")
        values = {
            "mean": result.mean,
            "sd": result.standard_deviation,
            "macro_f1": result.macro_f1,
        }
        rows.append(
            {"config": name, "seeds": result.accuracies}
            | {key: None if math.isnan(value) else value for key, value in values.items()}
            | {"seconds": sum(score.seconds for score in result.scores)}
        )
        if output is not None and network is not None:
            network.save(output)
    emit(rows, columns=_COLUMNS, fmt=fmt)


def _show(score: Score) -> None:
    info(f"seed {score.seed}: accuracy {score.accuracy:.4f} ({score.seconds:.0f} s)")
