"""`bench accuracy`, `training` and `storage`: what networks reach and what everything costs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from optuna_deepweeds.bench import accuracy as hand_picked
from optuna_deepweeds.bench import training as speed
from optuna_deepweeds.cli._output import emit, format_option, info
from optuna_deepweeds.cli.bench_methods import seeds_option
from optuna_deepweeds.errors import InvalidInputError

_ACCURACY_COLUMNS = ("config", "mean", "sd", "macro_f1", "seeds", "seconds")
_STORAGE_COLUMNS = ("what", "seconds", "stock_seconds", "difference_ms")

_device = click.option(
    "--device", metavar="DEVICE", help="cpu, cuda or cuda:N; by default the best there is."
)


@click.command()
@click.option(
    "--config",
    "names",
    multiple=True,
    metavar="NAME",
    help=f"One of {', '.join(hand_picked.CONFIGS)}; may be given several times. "
    "[default: course, modern; on a GPU modern-wide too]",
)
@click.option("--dataset", default="deepweeds-balanced", show_default=True, help="Images.")
@click.option("--fold", default=0, show_default=True, help="Official fold of deepweeds, 0 to 4.")
@seeds_option("3")
@click.option("--epochs", default=20, show_default=True, type=click.IntRange(1, 20))
@_device
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
    seeds: range,
    epochs: int,
    device: str | None,
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
    images = load(dataset, fold=fold)
    rows = []
    for name in names:
        result = hand_picked.measure(
            name,
            images,
            seeds,
            epochs=epochs,
            device=device,
            on_score=lambda score: info(
                f"seed {score.seed}: accuracy {score.accuracy:.4f} ({score.seconds:.0f} s)"
            ),
        )
        for failure in result.failures:
            info(f"Failed: {failure}")
        seconds = sum(score.seconds for score in result.scores)
        rows.append({"config": name, **result.row(), "seconds": seconds})
        if output is not None and result.network is not None:
            result.network.save(output)
    emit(rows, columns=_ACCURACY_COLUMNS, fmt=fmt)


@click.command()
@click.option(
    "--config",
    "names",
    multiple=True,
    metavar="NAME",
    help=f"One of {', '.join(speed.CONFIGS)}; may be given several times. All by default.",
)
@_device
@click.option("--epochs", default=20, show_default=True, help="Epochs of our training.")
@click.option(
    "--usual-epochs",
    default=2,
    show_default=True,
    help="Epochs of the usual pipeline, whose time an epoch is compared; 0 leaves it out.",
)
@click.option(
    "--workers",
    default=1,
    show_default=True,
    help="Trainings at the same time on the device, to see how many it is worth to share it.",
)
@click.option("--quick", is_flag=True, help="Small configuration, 512 images, 1 epoch: a look.")
@format_option
def training(
    names: tuple[str, ...],
    device: str | None,
    epochs: int,
    usual_epochs: int,
    workers: int,
    quick: bool,
    fmt: str,
) -> None:
    """Time a training of named configurations against the usual pipeline.

    The usual pipeline reads JPEG files through ImageFolder, Resize, ToTensor and a DataLoader
    with 4 workers, and trains in float32. RATIO is its time for an epoch over ours, CPU RATIO the
    same of processor time, which other programs disturb less; LIMIT SHARE is the share of the
    device's arithmetic limit, found by a large matrix product.
    """
    n_train, n_valid = speed.N_TRAIN, speed.N_VALID
    if quick:
        names, epochs, usual_epochs, n_train, n_valid = names or ("small",), 1, 1, 512, 128
    results = speed.measure(
        names or tuple(speed.CONFIGS),
        device=device,
        epochs=epochs,
        usual_epochs=usual_epochs,
        workers=workers,
        n_train=n_train,
        n_valid=n_valid,
        on_result=lambda result: info(f"{result.config}: {result.seconds:.1f} s"),
    )
    emit([asdict(result) for result in results], columns=speed.COLUMNS, fmt=fmt)


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

    emit(measure(url, n_trials=n_trials), columns=_STORAGE_COLUMNS, fmt=fmt)
