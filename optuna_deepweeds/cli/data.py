"""`data`: get DeepWeeds, and describe the data sets that are here."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from optuna_deepweeds import datasets
from optuna_deepweeds.cli._output import emit, format_option, info
from optuna_deepweeds.cli._progress import Steps
from optuna_deepweeds.cli._values import Output, data_dir_option, group_by_option, size_option
from optuna_deepweeds.errors import InvalidInputError, NotFoundError


@click.group()
def data() -> None:
    """Get and describe the image data sets."""


@data.command()
@data_dir_option
@click.option(
    "--images",
    type=click.Path(path_type=Path),
    metavar="DIR_OR_ZIP",
    help="The original photographs, instead of downloading images.zip (468 MiB).",
)
@click.option(
    "--labels",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The official label files, instead of downloading them.",
)
@click.option("--mirror", metavar="URL", help="Another address of images.zip, tried first.")
@click.option("--partial", is_flag=True, help="Leave out photographs that are absent.")
@click.option("--force", is_flag=True, help="Prepare again although the file is there.")
def prepare(
    data_dir: Path | None,
    images: Path | None,
    labels: Path | None,
    mirror: str | None,
    partial: bool,
    force: bool,
) -> None:
    """Download DeepWeeds, or take it from disk, and reduce it to 32x32.

    A download that breaks off is continued by the next call. The prepared file appears complete
    or not at all.
    """
    from optuna_deepweeds.datasets.prepare import OFFICIAL
    from optuna_deepweeds.datasets.prepare import prepare as prepare_files

    sources = OFFICIAL
    if mirror is not None:
        if not mirror.startswith(("http://", "https://")):
            raise InvalidInputError(
                f"--mirror must be an http or https address, but is {mirror!r}; for a file on "
                "disk use --images."
            )
        sources = replace(sources, images=(mirror, *sources.images))
    with closing(Steps()) as progress:
        outcome = prepare_files(
            datasets.resolve_data_dir(data_dir),
            images=images,
            labels=labels,
            partial=partial,
            force=force,
            sources=sources,
            progress=progress,
        )
    if outcome.existed:
        info(
            f"{outcome.path} is already there with {outcome.n_images:,} images; "
            "--force prepares it again."
        )
        return
    if outcome.n_absent:
        info(f"{outcome.n_absent:,} photographs that have a label are absent and were left out.")
    if outcome.disputed:
        info(
            f"{len(outcome.disputed)} photographs have another label in the subset files than in "
            f"labels.csv, which was followed: {', '.join(outcome.disputed[:3])}."
        )
    info(f"{outcome.n_images:,} images prepared.")
    click.echo(outcome.path)


@data.command(name="info")
@click.argument("name", required=False)
@data_dir_option
@click.option("--fold", type=int, default=0, help="Official fold, 0 to 4.")
@size_option
@group_by_option
@click.option("--png", type=Output(), metavar="FILE", help="Draw some images of each class.")
@format_option
def describe(
    name: str | None,
    data_dir: Path | None,
    fold: int,
    size: int,
    group_by: str,
    png: Path | None,
    fmt: str,
) -> None:
    """List the data sets, or count the images of NAME by class and split.

    NAME is one of the data sets, or a folder that holds a folder for each class, or such folders
    in train, valid and test.
    """
    if name is None:
        if png is not None:
            raise click.UsageError("--png needs NAME, a data set or a folder.")
        rows = [_summary(known, data_dir) for known in datasets.DATASETS]
        emit(rows, columns=list(rows[0]), fmt=fmt)
        if not all(row["ready"] for row in rows):
            info(
                "Get DeepWeeds with `optuna-deepweeds data prepare`, or point to a directory that "
                "has it with `DEEPWEEDS_DATA=DIR`."
            )
        return
    if png is not None:
        from optuna_deepweeds.cli.report import require_plots

        require_plots()
    with closing(Steps()) as progress:
        loaded = datasets.load(
            name, data_dir=data_dir, fold=fold, size=size, group_by=group_by, progress=progress
        )
    counts = {
        split: [*np.bincount(loaded.labels[at], minlength=len(loaded.classes)).tolist(), len(at)]
        for split, at in loaded.splits.items()
    }
    place = datasets.place(name, data_dir)
    height, width = loaded.images.shape[1:3]
    rows = [
        {"class": label, **dict(zip(counts, row, strict=True)), "total": sum(row)}
        for label, *row in zip([*loaded.classes, "all"], *counts.values(), strict=True)
    ]
    columns = ["class", *counts, "total"]
    about = {
        "data_set": loaded.name,
        "fold": fold,
        "image_size": f"{width}x{height}",
        "file": str(place) if place is not None else "generated",
        "fingerprint": loaded.fingerprint,
    }
    if fmt == "table":
        emit(rows, columns=columns, fmt=fmt)
        click.echo()
        for key, value in about.items():
            click.echo(f"{key.replace('_', ' '):<12} {value}")
    else:
        # Every row says what it belongs to, so that the output of several calls can be joined.
        emit([{**about, **row} for row in rows], columns=[*about, *columns], fmt=fmt)
    for line in [*loaded.lines(), *filter(None, [datasets.NOTES.get(name)])]:
        info(line)
    if png is not None:
        from optuna_deepweeds.report.contact_sheet import write_contact_sheet

        write_contact_sheet(loaded, png)
        info(f"Wrote {png}.")


def _summary(name: str, data_dir: Path | None) -> dict[str, Any]:
    """One row of the list: is the data set here, and how large is it?"""
    place = datasets.place(name, data_dir)
    row: dict[str, Any] = dict.fromkeys(("name", "ready", "train", "valid", "test", "file"))
    row |= {"name": name, "ready": False, "file": str(place), "about": datasets.DATASETS[name]}
    if place is None:
        # Known without painting thousands of pictures.
        return row | {"ready": True, "file": "generated"} | datasets.DEMO_SIZES
    try:
        loaded = datasets.load(name, data_dir=data_dir)
    except NotFoundError:
        row["file"] = f"missing: {place}"
    except InvalidInputError as error:
        row["file"] = f"unusable: {place}"
        info(str(error))
    else:
        row["ready"] = True
        for split in ("train", "valid", "test"):
            row[split] = len(getattr(loaded, split))
    return row
