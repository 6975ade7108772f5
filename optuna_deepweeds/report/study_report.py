"""`study report`: everything about one study on one page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from optuna_deepweeds.report import figures, tables
from optuna_deepweeds.report.anticipation import (
    anticipation_chart,
    anticipation_sentence,
    anticipation_table,
)
from optuna_deepweeds.report.chart import Chart
from optuna_deepweeds.report.draw_png import write_png
from optuna_deepweeds.report.importance import MIN_TRIALS, importance
from optuna_deepweeds.report.incumbent import trajectory
from optuna_deepweeds.report.page import Page, code, footer, heading, paragraph, table
from optuna_deepweeds.report.standing import standing
from optuna_deepweeds.report.view import StudyView


def study_charts(view: StudyView) -> dict[str, Chart]:
    """Every chart of the study that there is something to draw for, by key."""
    found = importance(view)
    made = (
        figures.learning_curves(view),
        figures.optimisation_history(view),
        figures.spending(view, trajectory(view)),
        None if found is None else figures.importance_bars(found),
        figures.slices(view),
        figures.parallel_coordinates(view),
        anticipation_chart(view),
    )
    return {chart.key: chart for chart in made if chart is not None}


def write_html(view: StudyView, path: Path) -> None:
    """Write the report of a study as one HTML file that opens offline.

    Raises:
        InvalidInputError: The file cannot be written.
    """
    charts = study_charts(view)
    page = Page(view.name, standing(view.progress, view.metric))
    page.cards(tables.cards(view))

    def chart(key: str, otherwise: str) -> str:
        return page.chart(charts[key]) if key in charts else paragraph(otherwise, soft=True)

    page.section(
        "summary",
        "Summary",
        table(tables.spec_table(view)),
        heading("Go on with it") + code(tables.resume_command(view))
        if view.spec
        else paragraph("This study was made by another program.", soft=True),
    )
    page.section("curves", "Learning curves", chart("learning-curves", "No epoch reported yet."))
    page.section(
        "progress",
        "Progress",
        heading("Optimisation history"),
        chart("history", "No trial has finished yet."),
        heading("Best network against what it cost"),
        chart("spending", "No trial has been trained to the end yet."),
    )
    page.section("best", "Best trials", _best(view))
    page.section(
        "parameters",
        "Parameters",
        heading("Importance"),
        chart(
            "importance",
            f"Importance needs {MIN_TRIALS} finished or stopped trials of different outcome.",
        ),
        heading("Slices"),
        chart("slices", "No trial with an outcome yet."),
        heading("Parallel coordinates"),
        chart("parallel", "No trial with an outcome yet."),
    )
    page.section("anticipation", "Anticipation against outcome", *_anticipation(view, chart))
    page.section("priors", "Priors", _priors(view))
    page.section("failures", "Failures", _failures(view))
    page.section("test", "Test results", *_test_results(view))
    page.write(path, footer=footer())


def write_pngs(view: StudyView, folder: Path) -> list[Path]:
    """Draw every chart of the study into `folder` as KEY.png and return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for key, chart in study_charts(view).items():
        path = folder / f"{key}.png"
        write_png(chart, path)
        paths.append(path)
    return paths


def _best(view: StudyView) -> str:
    if not view.ranked:
        return paragraph("No trial has been trained to the end yet.", soft=True)
    return table(tables.transposed(tables.best_table(view)))


def _anticipation(view: StudyView, chart: Callable[[str, str], str]) -> list[str]:
    sentence, by_epoch = anticipation_sentence(view), anticipation_table(view)
    return [
        paragraph(sentence) if sentence else "",
        chart("anticipation", "No anticipation can be judged by a trial trained to its end."),
        "" if by_epoch is None else heading("By epoch") + table(by_epoch),
    ]


def _priors(view: StudyView) -> str:
    content = tables.prior_table(view)
    if content is None:
        return paragraph("No priors were imported.", soft=True)
    return table(content)


def _failures(view: StudyView) -> str:
    content = tables.failure_table(view)
    if not content.rows:
        return paragraph("No trial has failed.", soft=True)
    return table(content)


def _test_results(view: StudyView) -> list[str]:
    found = tables.evaluation_tables(view)
    if not found:
        return [paragraph("Not evaluated on the test split yet.", soft=True)]
    return [heading(title) + table(content) for title, content in found]
