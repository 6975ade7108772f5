"""One HTML file that opens offline: styles, tables, charts and Plotly's script inside it.

Every text that comes from a study passes `html.escape`; the page may load nothing.
"""

from __future__ import annotations

import contextlib
import html
import os
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna

from optuna_deepweeds import __version__
from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.report.chart import Chart
from optuna_deepweeds.report.draw_plotly import FONT, to_plotly
from optuna_deepweeds.report.tables import Table

_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "img-src data: blob:"
)

_STYLE = """
:root { color-scheme: light dark; --ground: #fbfaf8; --sheet: #ffffff; --ink: #1d2126;
  --soft: #5b636e; --rule: #e2e0da; --accent: #2b6cb8; }
@media (prefers-color-scheme: dark) { :root { --ground: #14171a; --sheet: #1b1f24;
  --ink: #e6e8ea; --soft: #a2abb6; --rule: #30363d; --accent: #7fb2ea; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink);
  font: 15px/1.5 FONT; font-variant-numeric: tabular-nums; }
main { max-width: 1120px; margin: 0 auto; padding: 36px 28px 72px; }
h1 { font-size: 27px; line-height: 1.2; margin: 0 0 6px; font-weight: 650;
  overflow-wrap: anywhere; letter-spacing: -.01em; }
h2 { font-size: 18px; margin: 0 0 10px; font-weight: 620; }
h3 { font-size: 14px; margin: 18px 0 6px; font-weight: 600; }
p { margin: 0 0 10px; max-width: 76ch; }
.lead { font-size: 16.5px; } .soft { color: var(--soft); } .small { font-size: 13px; }
nav { margin: 16px 0 0; font-size: 13.5px; } nav a { margin-right: 14px; white-space: nowrap; }
a { color: var(--accent); text-decoration: none; } a:hover { text-decoration: underline; }
section { background: var(--sheet); border: 1px solid var(--rule); border-radius: 10px;
  padding: 20px 22px; margin: 20px 0 0; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px;
  margin: 20px 0 0; }
.card { background: var(--sheet); border: 1px solid var(--rule); border-radius: 10px;
  padding: 12px 16px; }
.card b { display: block; font-size: 23px; font-weight: 620; line-height: 1.25; }
.card span { color: var(--soft); font-size: 13px; }
.scroll { overflow-x: auto; margin: 0 0 8px; }
table { border-collapse: collapse; font-size: 13.5px; }
th { text-align: left; font-weight: 600; color: var(--soft); white-space: nowrap; }
th, td { padding: 4px 14px 4px 0; border-bottom: 1px solid var(--rule); vertical-align: top; }
td.n, th.n { text-align: right; white-space: nowrap; } tr:last-child td { border-bottom: 0; }
code { font: 13px/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace;
  background: color-mix(in srgb, var(--rule) 55%, transparent); border-radius: 4px;
  padding: 2px 6px; overflow-wrap: anywhere; }
.chart { width: 100%; } noscript p { color: var(--soft); }
footer { margin-top: 28px; color: var(--soft); font-size: 12.5px; }
@media (max-width: 760px) { main { padding: 20px 10px 40px; } section { padding: 14px 12px; } }
@media print { section { break-inside: avoid; } nav { display: none; } }
""".replace("FONT", FONT)

_SCRIPT = """
(function () {
  var charts = document.querySelectorAll('.chart');
  function ink() { return getComputedStyle(document.documentElement).getPropertyValue('--soft'); }
  charts.forEach(function (node) {
    var figure = JSON.parse(document.getElementById(node.dataset.figure).textContent);
    figure.layout.font.color = ink().trim();
    Plotly.newPlot(node, figure.data, figure.layout,
      {responsive: true, displaylogo: false, modeBarButtonsToRemove: ['lasso2d', 'select2d'],
       displayModeBar: innerWidth < 760 ? false : 'hover'});
  });
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', function () {
    charts.forEach(function (node) { Plotly.relayout(node, {'font.color': ink().trim()}); });
  });
})();
"""


class Page:
    """Collects the sections of a page and writes it.

    Args:
        title: Heading and title of the page.
        lead: The first sentence.
    """

    def __init__(self, title: str, lead: str) -> None:
        self._title = title
        self._head = f'<h1>{html.escape(title)}</h1>\n<p class="lead">{html.escape(lead)}</p>'
        self._sections: list[tuple[str, str, str]] = []
        self._cards = ""
        self._has_charts = False

    def cards(self, figures: Iterable[tuple[str, str]]) -> None:
        """Show (label, figure) pairs under the heading."""
        cells = "".join(
            f'<div class="card"><b>{html.escape(figure)}</b>'
            f"<span>{html.escape(label)}</span></div>"
            for label, figure in figures
        )
        self._cards = f'<div class="cards">{cells}</div>'

    def section(self, key: str, title: str, *parts: str) -> None:
        """Add a section of HTML parts made by the functions of this module."""
        self._sections.append((key, title, "\n".join(part for part in parts if part)))

    def chart(self, chart: Chart) -> str:
        """A chart with its caption."""
        self._has_charts = True
        figure = to_plotly(chart)
        # "</" would end the script element that carries the figure.
        data = figure.to_json().replace("<", "\\u003c")
        key = html.escape(chart.key)
        return (
            f'<div class="scroll"><div class="chart" data-figure="figure-{key}" '
            f'style="height:{figure.layout.height}px;min-width:{chart.min_width}px"></div></div>\n'
            f'<script type="application/json" id="figure-{key}">{data}</script>\n'
            + (paragraph(chart.caption, soft=True) if chart.caption else "")
        )

    def write(self, path: Path, *, footer: str) -> None:
        """Write the page; it appears whole or not at all.

        Raises:
            InvalidInputError: The file cannot be written.
        """
        write_whole(path, self._render(footer))

    def _render(self, footer: str) -> str:
        nav = " ".join(
            f'<a href="#{html.escape(key)}">{html.escape(title)}</a>'
            for key, title, _ in self._sections
        )
        body = "\n".join(
            f'<section id="{html.escape(key)}">\n<h2>{html.escape(title)}</h2>\n{content}\n'
            "</section>"
            for key, title, content in self._sections
        )
        scripts = ""
        if self._has_charts:
            from plotly.offline import get_plotlyjs

            scripts = f"<script>{get_plotlyjs()}</script>\n<script>{_SCRIPT}</script>"
        return (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{html.escape(self._title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
            f"<body>\n<main>\n<header>{self._head}\n<nav>{nav}</nav></header>\n{self._cards}\n"
            f"{body}\n<footer>{html.escape(footer)}</footer>\n</main>\n{scripts}\n</body>\n</html>\n"
        )


def paragraph(text: str, *, soft: bool = False) -> str:
    """A paragraph of plain text."""
    return f'<p class="{"soft small" if soft else ""}">{html.escape(text)}</p>'


def heading(text: str) -> str:
    """A small heading within a section."""
    return f"<h3>{html.escape(text)}</h3>" if text else ""


def code(text: str) -> str:
    """A line to be typed."""
    return f"<p><code>{html.escape(text)}</code></p>"


def footer() -> str:
    """When and by what the page was written."""
    now = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    return f"Written {now} by optuna-deepweeds {__version__} with Optuna {optuna.__version__}."


def table(content: Table) -> str:
    """A table that scrolls sideways when it is too wide; columns of numbers are right-aligned."""
    numeric = [
        2 * sum(_is_number(row[i]) for row in content.rows)
        > sum(row[i] is not None for row in content.rows)
        for i in range(len(content.columns))
    ]
    head = _row("th", content.columns, numeric)
    rows = "\n".join(_row("td", row, numeric) for row in content.rows)
    body = f"<thead>{head}</thead>\n<tbody>{rows}</tbody>"
    return f'<div class="scroll"><table>\n{body}\n</table></div>'


def _row(tag: str, cells: Sequence[Any], numeric: Sequence[bool]) -> str:
    inner = "".join(
        f"<{tag}{' class=n' if right else ''}>{html.escape(cell(value))}</{tag}>"
        for value, right in zip(cells, numeric, strict=True)
    )
    return f"<tr>{inner}</tr>"


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def cell(value: Any) -> str:
    """A value as a cell's text."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def write_whole(path: Path, text: str) -> None:
    """Write `text` to `path` so that the file appears whole or not at all.

    Raises:
        InvalidInputError: The file cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise InvalidInputError(f"{path} cannot be written: {error.strerror or error}.") from None
