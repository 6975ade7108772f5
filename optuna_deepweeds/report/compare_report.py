"""`study compare`: several methods on one page."""

from __future__ import annotations

from pathlib import Path

from optuna_deepweeds.report import tables
from optuna_deepweeds.report.chart import Chart
from optuna_deepweeds.report.compare import Comparison
from optuna_deepweeds.report.compare_figures import compare_charts
from optuna_deepweeds.report.draw_png import write_png
from optuna_deepweeds.report.page import Page, footer, heading, paragraph, table
from optuna_deepweeds.report.published import split_sentence
from optuna_deepweeds.report.standing import counted

_METHOD = (
    "This is what the figures rest on: the best network trained to its end; an epoch counts once, "
    "in the trial that trained it, and imported trials never. Differences are paired over seeds; "
    "intervals are 95 % percentile bootstrap; p is an exact two-sided sign-flip test, corrected "
    "for all comparisons of the page by Holm's procedure. 'Times fewer epochs' is taken where "
    "both have what the worse of the two ends with. With fewer than six seeds no difference can "
    "be significant at the 5 % level, however large."
)


def write_html(comparison: Comparison, path: Path, *, title: str = "Comparison") -> None:
    """Write the comparison as one HTML file that opens offline.

    Raises:
        InvalidInputError: The file cannot be written.
    """
    charts = compare_charts(comparison)
    n_studies = sum(len(m.views) for m in comparison.methods)
    lead = (
        f"{counted(len(comparison.methods), 'method')} in "
        f"{counted(n_studies, 'study', 'studies')}."
    )
    page = Page(title, lead)

    def chart(key: str) -> str:
        if key in charts:
            return page.chart(charts[key])
        return paragraph("Too little data for this figure.", soft=True)

    page.section("result", "Result", *(paragraph(s) for s in comparison.sentences()))
    page.section("methods", "Methods", table(_spaced(comparison.method_table())))
    page.section(
        "cost",
        "Best network against what it cost",
        heading("Over epochs"),
        chart("incumbent-epochs"),
        heading("Over time"),
        chart("incumbent-seconds"),
    )
    page.section("ranking", "Anytime ranking", chart("ranking"))
    page.section("finals", "Where each seed ended", chart("finals"))
    page.section("cumulative", "Cumulative best over trials", chart("cumulative"))
    page.section("test", "Test accuracy", *_test_parts(comparison, charts, page))
    if comparison.tests:
        page.section(
            "tests",
            "Paired statistics",
            table(_spaced(comparison.test_table())),
            paragraph(_METHOD, soft=True),
        )
    page.write(path, footer=footer())


def _test_parts(comparison: Comparison, charts: dict[str, Chart], page: Page) -> list[str]:
    if "test-accuracy" in charts:
        parts = [page.chart(charts["test-accuracy"])]
    else:
        parts = [
            paragraph(
                "No study's best network was tested yet; `study evaluate` does, and `experiment "
                "run` does where the grid has a table `evaluate`.",
                soft=True,
            )
        ]
    if comparison.published:
        parts += [
            heading("Ours and the published values"),
            table(_spaced(comparison.published_table())),
            paragraph(split_sentence(), soft=True),
        ]
    return parts


def write_pngs(comparison: Comparison, folder: Path) -> list[Path]:
    """Draw every chart of the comparison into `folder` as KEY.png and return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for key, chart in compare_charts(comparison).items():
        path = folder / f"{key}.png"
        write_png(chart, path)
        paths.append(path)
    return paths


def _spaced(content: tables.Table) -> tables.Table:
    """The same table with column names for people."""
    return tables.Table(tuple(c.replace("_", " ") for c in content.columns), content.rows)
