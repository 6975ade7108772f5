"""`bench training`: speed of training against the usual pipeline."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from optuna_deepweeds.bench import training as bench
from optuna_deepweeds.cli._output import emit, format_option, info
from optuna_deepweeds.report.standing import counted


@click.command()
@click.option(
    "--config",
    "names",
    multiple=True,
    metavar="NAME",
    help=f"One of {', '.join(bench.CONFIGS)}; may be given several times. All by default.",
)
@click.option(
    "--device", metavar="DEVICE", help="cpu, cuda or cuda:N; by default the best there is."
)
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
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), help="CSV file to write."
)
@click.option("--quick", is_flag=True, help="Small configuration, 512 images, 1 epoch: a look.")
@format_option
def training(
    names: tuple[str, ...],
    device: str | None,
    epochs: int,
    usual_epochs: int,
    workers: int,
    output: Path | None,
    quick: bool,
    fmt: str,
) -> None:
    """Time a training of named configurations against the usual pipeline.

    The usual pipeline reads JPEG files through ImageFolder, Resize, ToTensor and a DataLoader
    with 4 workers, and trains in float32. RATIO is its time for an epoch over ours, CPU RATIO the
    same of processor time, which other programs disturb less; LIMIT SHARE is the share of the
    device's arithmetic limit, found by a large matrix product.
    """
    n_train, n_valid = bench.N_TRAIN, bench.N_VALID
    if quick:
        names, epochs, usual_epochs, n_train, n_valid = names or ("small",), 1, 1, 512, 128
    results = bench.measure(
        names or tuple(bench.CONFIGS),
        device=device,
        epochs=epochs,
        usual_epochs=usual_epochs,
        workers=workers,
        n_train=n_train,
        n_valid=n_valid,
        on_result=_show,
    )
    if output is not None:
        bench.write_csv(results, output)
    emit([asdict(result) for result in results], columns=bench.COLUMNS, fmt=fmt)


def _show(result: bench.Measurement) -> None:
    line = f"{result.config}: {result.seconds:.1f} s for {counted(result.epochs, 'epoch')}"
    if result.epochs != 20:
        line += f", which scales to {result.seconds_of_20:.0f} s for 20"
    if result.usual_seconds is not None:
        line += f"; usual pipeline {result.usual_seconds:.1f} s for {result.usual_epochs}"
    if result.ratio is not None and result.cpu_ratio is not None:
        line += f"; ratio {result.ratio:.2f}, of processor time {result.cpu_ratio:.2f}"
    info(f"{line}.")
