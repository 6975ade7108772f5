"""The pages: HTML files that open offline, and the dashboard's note, made from templates.

Every text that comes from a study is escaped as it enters a template; a page may load nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import optuna
from markupsafe import Markup

from optuna_deepweeds import __version__
from optuna_deepweeds.files import write_whole
from optuna_deepweeds.report import tables
from optuna_deepweeds.report.drawing import FONT, Drawing
from optuna_deepweeds.report.published import split_sentence
from optuna_deepweeds.report.standing import command, counted, flatness, standing
from optuna_deepweeds.report.view import StudyView

if TYPE_CHECKING:  # It imports scipy.stats, which takes longer than a worker's note.
    from optuna_deepweeds.report.compare import Comparison

_N_NOTED = 5
"""Reasons for failures, and best trials, that a note tells."""


def write_study(view: StudyView, path: Path) -> None:
    """Write the report of a study as one HTML file that opens offline.

    Raises:
        InvalidInputError: The file cannot be written.
    """
    from optuna_deepweeds.report.figures import study_figures

    content = _study(view) | {
        "cards": tables.cards(view),
        "best": tables.best_table(view),
        "evaluation": tables.evaluation_tables(view),
        "priors": tables.prior_table(view),
        "trials": tables.trial_table(view),
        "spec": tables.spec_table(view),
    }
    write_whole(path, _page("study.html", view.name, study_figures(view), **content))


def write_comparison(comparison: Comparison, path: Path, *, title: str = "Comparison") -> None:
    """Write the comparison of several methods as one HTML file that opens offline.

    Raises:
        InvalidInputError: The file cannot be written.
    """
    from optuna_deepweeds.report.compare_figures import compare_figures

    methods = counted(len(comparison.methods), "method")
    page = _page(
        "compare.html",
        title,
        compare_figures(comparison),
        lead=f"{methods} in {counted(len(comparison.views), 'study', 'studies')}.",
        sentences=comparison.sentences(),
        measure=comparison.measure,
        methods=comparison.method_table(),
        published=comparison.published_table(),
        split=split_sentence(),
        tests=comparison.test_table(),
    )
    write_whole(path, page)


def write_pngs(figures: Mapping[str, Drawing], folder: Path) -> list[Path]:
    """Draw every figure into `folder` as KEY.png and return the files."""
    from optuna_deepweeds.report.draw_png import write_png

    paths = [folder / f"{key}.png" for key in figures]
    for figure, path in zip(figures.values(), paths, strict=True):
        write_png(figure, path)
    return paths


def note(view: StudyView, pictures: Mapping[str, str]) -> str:
    """The study in Markdown, with `pictures` by kind as `artifacts.pictures` finds them."""
    content = _study(view)
    failures = content["failures"]
    content["failures"] = replace(failures, rows=failures.rows[:_N_NOTED])
    content |= {"best": tables.best_table(view, _N_NOTED), "tested": tables.tested_table(view)}
    return _markdown().get_template("note.md").render(content, pictures=pictures)


def _study(view: StudyView) -> dict[str, Any]:
    """What page and note of a study tell."""
    said = (standing(view.progress, view.metric), flatness(view.user_attrs))
    return {
        "view": view,
        "standing": " ".join(filter(None, said)),
        "resume": command("resume", view.name, view.storage),
        "anticipation": tables.anticipation_sentence(view),
        "failures": tables.failure_table(view),
    }


def _page(name: str, title: str, figures: Mapping[str, Drawing], **content: Any) -> str:
    now = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    footer = f"Written {now} by optuna-deepweeds {__version__} with Optuna {optuna.__version__}."
    template = _html().get_template(name)
    return template.render(content, title=title, figures=figures, footer=footer, font=FONT)


@cache
def _html() -> jinja2.Environment:
    made = _environment(autoescape=True)
    made.filters["figure_json"] = _figure_json
    made.globals["plotly_script"] = _plotly_script
    return made


@cache
def _markdown() -> jinja2.Environment:
    made = _environment(autoescape=False, finalize=_escaped)
    made.filters |= {"code": _code, "raw": Markup}
    return made


def _environment(**settings: Any) -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("optuna_deepweeds.report"), undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, **settings,
    )  # fmt: skip
    made.filters["cell"] = tables.cell
    made.tests["command"] = lambda text: text.startswith("optuna-deepweeds ")
    return made


def _figure_json(figure: Any) -> Markup:
    """A Plotly figure as JSON; "</" would end the script element that carries it."""
    return Markup(figure.to_json().replace("<", "\\u003c"))


def _plotly_script() -> Markup:
    from plotly.offline import get_plotlyjs

    return Markup(get_plotlyjs())


def _escaped(value: Any) -> Any:
    """Text without what Markdown or HTML would take for its own."""
    if isinstance(value, Markup):
        return value
    line = str(value).replace("\n", " ")
    return "".join(f"&#{ord(c)};" if c in "\\`*_[]<>|&#" else c for c in line)


def _code(text: str) -> Markup:
    """`text` as it is, between more backticks than stand in a row within it."""
    ticks = "`"
    while ticks in text:
        ticks += "`"
    pad = " " if len(ticks) > 1 else ""
    line = text.replace("\n", " ")
    return Markup(f"{ticks}{pad}{line}{pad}{ticks}")
