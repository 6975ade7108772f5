"""`study report` and `study compare`: pages and figures about studies."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from optuna_deepweeds.cli._complete import complete_study, study_name
from optuna_deepweeds.cli._output import emit, format_option, info, storage_option
from optuna_deepweeds.cli._values import Output, page_option, png_option
from optuna_deepweeds.errors import InvalidInputError

if TYPE_CHECKING:
    from optuna_deepweeds.report.compare import Comparison
    from optuna_deepweeds.report.drawing import Drawing
    from optuna_deepweeds.report.tables import Table
    from optuna_deepweeds.report.view import StudyView

_MAX_BYTES = 200  # Of a file's name most systems allow 255.


@click.command()
@study_name
@page_option
@png_option
@storage_option
def report(
    name: str, output: Path | None, png_folder: Path | None, storage_url: str | None
) -> None:
    """Write everything about study NAME as one HTML file that opens offline."""
    require_plots()
    from optuna_deepweeds.report.pages import write_study

    view = _views([name], storage_url)[0]
    path = output or Path("reports") / f"{file_name(name)}.html"
    write_study(view, path)
    info(f"Report written to {path}.")
    if png_folder is not None:
        from optuna_deepweeds.report.figures import study_figures

        _draw_pngs(study_figures(view), png_folder)


@click.command()
@click.argument("names", nargs=-1, required=True, shell_complete=complete_study)
@click.option(
    "--baseline",
    metavar="METHOD",
    help="Method the others are tested against, as 'random + none'.",
)
@click.option("--pairs", is_flag=True, help="Print the paired tests in place of the methods.")
@click.option(
    "--html", "html_file", type=Output(), help="Also write the comparison as one HTML file."
)
@png_option
@format_option
@storage_option
def compare(
    names: tuple[str, ...],
    baseline: str | None,
    pairs: bool,
    html_file: Path | None,
    png_folder: Path | None,
    fmt: str,
    storage_url: str | None,
) -> None:
    """Compare studies; those that differ in their seed alone are one method.

    Prints a row a method on stdout, and on stderr what the numbers say and whether they are enough
    to say it.
    """
    from optuna_deepweeds.report import compare as comparing

    comparison = comparing.compare(_views(names, storage_url, params=False), baseline=baseline)
    content = comparison.test_table() if pairs else comparison.method_table()
    present(comparison, content, fmt)
    if html_file is not None or png_folder is not None:
        require_plots()
        draw(comparison, html_file, png_folder, "Comparison")


def present(comparison: Comparison, content: Table, fmt: str) -> None:
    """Print a table of `comparison`, and on stderr what it says."""
    emit(content.records, columns=content.columns, fmt=fmt)
    for sentence in comparison.sentences():
        info(sentence)


def draw(
    comparison: Comparison, html_file: Path | None, png_folder: Path | None, title: str
) -> None:
    """Write what is asked for: the comparison's page, and its figures as PNGs."""
    from optuna_deepweeds.report.compare_figures import compare_figures
    from optuna_deepweeds.report.pages import write_comparison

    if html_file is not None:
        write_comparison(comparison, html_file, title=title)
        info(f"Comparison written to {html_file}.")
    if png_folder is not None:
        _draw_pngs(compare_figures(comparison), png_folder)


def _draw_pngs(figures: Mapping[str, Drawing], folder: Path) -> None:
    from optuna_deepweeds.report.pages import write_pngs

    info(f"{len(write_pngs(figures, folder))} figures written to {folder}/.")


def _views(
    names: Iterable[str], storage_url: str | None, *, params: bool = True
) -> list[StudyView]:
    from optuna_deepweeds.report.view import StudyView
    from optuna_deepweeds.studies.storage.engine import redact
    from optuna_deepweeds.studies.storage.reading import open_reader

    storage = redact(storage_url) if storage_url else None
    with open_reader(storage_url) as reader:
        return [
            StudyView.read(name, reader, storage=storage, params=params)
            for name in dict.fromkeys(names)
        ]


def file_name(name: str) -> str:
    """A study's name as a file name, another one for each name.

    What no file's name may hold becomes an underscore, and then some digits tell `a/b` from `a:b`.
    """
    safe = "".join("_" if c in '/\\:*?"<>|' or not c.isprintable() else c for c in name)
    safe = f"_{safe[1:]}" if safe.startswith(".") else safe
    if len(safe.encode()) > _MAX_BYTES:
        safe = safe.encode()[:_MAX_BYTES].decode(errors="ignore")
    return safe if safe == name else f"{safe}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def require_plots() -> None:
    """Refuse to begin where the libraries that draw are missing."""
    for package in ("matplotlib", "plotly"):  # Importing takes a tenth of a second and more.
        if find_spec(package) is None:
            raise InvalidInputError(
                f"figures need the extra 'plots', but {package} is not installed: "
                "pip install 'optuna-deepweeds[plots]'."
            )
