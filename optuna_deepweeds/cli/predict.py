"""`predict`: classify photographs with a saved network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from optuna_deepweeds.cli._output import emit, format_option, info
from optuna_deepweeds.errors import InvalidInputError


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument(
    "images", metavar="IMAGE...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option(
    "--top",
    "n_top",
    default=3,
    show_default=True,
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
    """Tell which weed is on photographs, with the network in the file MODEL.

    IMAGE is a photograph of any common format and size, or a folder of them. MODEL is what
    `study evaluate --output` wrote.
    """
    from optuna_deepweeds.training.predict import (
        Prediction,
        find_photographs,
        predict_photographs,
    )
    from optuna_deepweeds.training.trained import TrainedNetwork

    network = TrainedNetwork.load(model)
    results = list(
        predict_photographs(network, find_photographs(images), n_top=n_top, device=device)
    )
    predictions = [result for result in results if isinstance(result, Prediction)]
    n_top = min(n_top, len(network.classes))
    rows = [_row(prediction, fmt) for prediction in predictions]
    emit(rows, columns=_columns(n_top, fmt), fmt=fmt)
    for result in results:
        if not isinstance(result, Prediction):
            info(result.reason)
    if len(predictions) < len(results):
        raise InvalidInputError(
            f"every IMAGE must be a photograph, but {len(results) - len(predictions)} of "
            f"{len(results)} could not be read."
        )


def _columns(n_top: int, fmt: str) -> list[str]:
    if fmt == "json":
        return ["image", "top"]
    ranks = range(1, n_top + 1)
    return ["image", *(f"{what}_{rank}" for rank in ranks for what in ("class", "probability"))]


def _row(prediction: Any, fmt: str) -> dict[str, Any]:
    row: dict[str, Any] = {"image": str(prediction.path)}
    if fmt == "json":
        row["top"] = [{"class": name, "probability": share} for name, share in prediction.top]
        return row
    for rank, (name, share) in enumerate(prediction.top, start=1):
        row[f"class_{rank}"] = name
        row[f"probability_{rank}"] = share if fmt == "csv" else round(share, 3)
    return row
