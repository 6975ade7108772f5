"""`bench accuracy`, `training` and `storage`: what networks reach and what everything costs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click

from optuna_deepweeds.bench import accuracy as hand_picked
from optuna_deepweeds.bench import training as speed
from optuna_deepweeds.cli._bench import option, seeds_option
from optuna_deepweeds.cli._output import emit, format_option, info
from optuna_deepweeds.errors import InvalidInputError

_ACCURACY_COLUMNS = ("config", "mean", "sd", "macro_f1", "seeds", "seconds")


def _config(configs: Iterable[str], default: str) -> Callable[[Any], Any]:
    named = f"One of {', '.join(configs)}; may be given several times. {default}"
    return click.option("--config", "names", multiple=True, metavar="NAME", help=named)


_device = click.option(
    "--device", metavar="DEVICE", help="cpu, cuda or cuda:N; by default the best there is."
)


@click.command()
@_config(hand_picked.CONFIGS, "[default: course, modern; on a GPU modern-wide too]")
@option("--dataset", default="deepweeds-balanced", help="Images.")
@option("--fold", default=0, help="Official fold of deepweeds, 0 to 4.")
@seeds_option(default="3")
@option("--epochs", default=20, type=click.IntRange(1, 20))
@_device
@click.option(
    "--change",
    "changes",
    multiple=True,
    metavar="KEY=VALUE",
    help="Train the one --config with this change as well, and compare on the validation images, "
    "the test images unread; several changes at once are joined by commas. May be given again.",
)
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
    changes: tuple[str, ...],
    output: Path | None,
    fmt: str,
) -> None:
    """Train configurations picked by hand and report their accuracy on the test images."""
    from optuna_deepweeds.datasets import NOTES, load
    from optuna_deepweeds.training.runtime import choose_device

    if not names:
        names = ("course", "modern")
        if choose_device(device).type == "cuda":
            names = (*names, "modern-wide")
    if output is not None and len(names) != 1:
        raise InvalidInputError(f"--output must go with one --config, but got {', '.join(names)}.")
    if changes and len(names) != 1:
        raise InvalidInputError(f"--change must go with one --config, but got {', '.join(names)}.")
    images = load(dataset, fold=fold)
    if changes:
        gains = hand_picked.compare(
            names[0],
            changes,
            images,
            seeds,
            epochs=epochs,
            device=device,
            on_value=lambda change, seed, value: info(f"seed {seed}, {change}: {value:.4f}"),
        )
        emit(gains, fmt=fmt)
        return
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
    if dataset in NOTES:
        info(NOTES[dataset])


@click.command()
@_config(speed.CONFIGS, "All by default.")
@_device
@option("--epochs", default=20, help="Epochs of our training.")
@option(
    "--usual-epochs",
    default=2,
    help="Epochs of the usual pipeline, whose time an epoch is compared; 0 leaves it out.",
)
@option(
    "--workers",
    default=1,
    help="Trainings at the same time on the device, to see how many it is worth to share it.",
)
@click.option("--quick", is_flag=True, help="Small configuration, 512 images, 1 epoch: a look.")
@format_option
def training(
    names: tuple[str, ...], epochs: int, usual_epochs: int, quick: bool, fmt: str, **options: Any
) -> None:
    """Time a training of named configurations against the usual pipeline.

    The usual pipeline reads JPEG files through ImageFolder, Resize, ToTensor and a DataLoader
    with 4 workers, and trains in float32. RATIO is its time for an epoch over ours, CPU RATIO the
    same of processor time, which other programs disturb less; LIMIT SHARE is the share of the
    device's arithmetic limit, found by a large matrix product.
    """
    if quick:
        names, epochs, usual_epochs = names or ("small",), 1, 1
        options |= {"n_train": 512, "n_valid": 128}
    records = []
    for record in speed.measure(
        names or tuple(speed.CONFIGS), epochs=epochs, usual_epochs=usual_epochs, **options
    ):
        info(f"{record['config']}: {record['seconds']:.1f} s")
        records.append(record)
    emit(records, fmt=fmt)


@click.command()
@click.option("--storage", "url", metavar="URL", help="An empty database; SQLite by default.")
@option(
    "--trials",
    "n_trials",
    default=10_000,
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

    emit(measure(url, n_trials=n_trials), fmt=fmt)
