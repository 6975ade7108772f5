"""`predict`: classify photographs with a saved network."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Any

import click

from optuna_deepweeds.cli._output import emit, format_option, info
from optuna_deepweeds.errors import DeepWeedsError


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument(
    "images", metavar="IMAGE...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option(
    "--top",
    "n_top",
    default=3,
    type=click.IntRange(min=1),
    help="How many classes to print for each photograph.",
)
@click.option(
    "--device", metavar="DEVICE", help="cpu, cuda or cuda:N; by default the best there is."
)
@format_option
def predict(
    model: Path, images: tuple[Path, ...], n_top: int, device: str | None, fmt: str
) -> None:
    """Tell the class of photographs, with the network in the file MODEL.

    IMAGE is a photograph of any common format and size, a folder of them, or a pattern in quotes
    such as 'new/**/*.jpg'. MODEL is what `study evaluate --output` or `study best --save` wrote.
    """
    import numpy as np

    from optuna_deepweeds.datasets.photographs import decode_all, find_photographs
    from optuna_deepweeds.training import TrainedNetwork

    network = TrainedNetwork.load(model)
    paths = find_photographs(images)
    pixels, damaged = decode_all(paths.__getitem__, len(paths), side=network.image_size)
    sound = [i for i in range(len(paths)) if i not in damaged]
    shares = network.predict_proba(pixels[sound], device=device)
    n_top = min(n_top, len(network.classes))
    rows: list[dict[str, Any]] = []
    columns = [f"{what}_{k}" for k in range(1, n_top + 1) for what in ("class", "probability")]
    for i, row in zip(sound, shares, strict=True):
        best = np.argsort(-row, kind="stable")[:n_top]
        told = row.astype(float).round(3) if fmt == "table" else row.astype(float)
        top = [(network.classes[k], float(told[k])) for k in best]
        rows.append({"image": str(paths[i]), **dict(zip(columns, chain(*top), strict=True))})
        rows[-1]["top"] = [{"class": name, "probability": share} for name, share in top]
    if rows or fmt != "table":
        emit(rows, columns=["image", *(["top"] if fmt == "json" else columns)], fmt=fmt)
    for i, reason in sorted(damaged.items()):
        info(f"{paths[i]} must be a photograph, but: {reason}.")
    if damaged:
        raise DeepWeedsError(
            f"every IMAGE must be a photograph, but {len(damaged)} of {len(paths)} could not be "
            "read."
        )
