"""Figures of Plotly drawn by matplotlib into PNG files, without a browser.

Knows what the report's own figures and Optuna's are made of: lines, symbols, shaded bands, bars,
ticks, notes at an axis, several axes in one figure.
"""

from __future__ import annotations

import html
import logging
import re
import warnings
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from optuna_deepweeds.files import whole
from optuna_deepweeds.report.drawing import Drawing

logger = logging.getLogger(__name__)

INK = "#333940"
_DPI = 150
_PIXELS = 105  # Of the page on an inch.
_SYMBOLS = {"circle": "o", "x": "x", "diamond": "D"}


def write_png(drawing: Drawing, path: Path) -> None:
    """Draw it on white into `path`; the file appears whole or not at all."""
    layout = drawing.figure.layout
    width, height = max(8.0, drawing.min_width / _PIXELS), layout.height / _PIXELS
    figure = new_figure(width, height)
    figure.suptitle(plain(drawing.title), fontsize=12, color=INK, y=1 + 0.25 / height)
    panels: dict[str, Any] = {}
    handles: dict[str, Any] = {}
    last: Any = None
    for trace in drawing.figure.data:
        number = (trace.xaxis or "x")[1:]
        if number not in panels:
            panels[number] = _panel(figure, layout, number, panels.get(""))
        handle = _draw(panels[number], trace, last, layout[f"xaxis{number}"])
        last = trace
        if handle is not None and trace.name and trace.showlegend is not False:
            handles.setdefault(plain(trace.name), handle)
    for number, axes in panels.items():
        _set(axes, layout[f"xaxis{number}"], layout[f"yaxis{number}"])
    for note in layout.annotations:
        panels[""].text(note.x, note.y, plain(note.text), fontsize=6.5, ha="center", color=INK)
    for shape in layout.shapes:
        panels[""].axvline(shape.x0, color="#bbbbbb", linewidth=0.8, zorder=0)
    if layout.showlegend and handles:
        figure.legend(
            list(handles.values()), list(handles), loc="upper center", frameon=False, fontsize=8,
            bbox_to_anchor=(0.5, -0.36 / height), ncols=min(len(handles), 4),
        )  # fmt: skip
    save(figure, path)


def new_figure(width: float, height: float) -> Any:
    """An empty `matplotlib.figure.Figure` of so many inches that no window knows of."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def save(figure: Any, path: Path) -> None:
    """Write a figure of matplotlib to `path`; the file appears whole or not at all."""
    with whole(path) as part, warnings.catch_warnings(record=True) as caught:
        warnings.filterwarnings("always", "Glyph")  # One for each letter.
        figure.savefig(part, format="png", dpi=_DPI, facecolor="white", bbox_inches="tight")
    if any("Glyph" in str(warning.message) for warning in caught):
        logger.warning("%s: no font here has all of its letters; some are boxes.", path.name)


def plain(text: str) -> str:
    """`text` without tags, and without dollar signs read as formulas."""
    return html.unescape(re.sub(r"<[^>]*>", "", str(text))).replace("$", r"\$")


def _panel(figure: Any, layout: Any, number: str, first: Any) -> Any:
    (left, right), (bottom, top) = (
        layout[f"{kind}axis{number}"].domain or (0.0, 1.0) for kind in "xy"
    )
    shared = first if layout[f"yaxis{number}"].matches == "y" else None
    return figure.add_axes((left, bottom, right - left, top - bottom), sharey=shared)


def _draw(axes: Any, trace: Any, last: Any, x_axis: Any) -> Any:
    """Draw one trace; a shaded band reaches to the `last`."""
    if trace.type == "bar":
        return _bars(axes, trace, x_axis)
    x, y = _positions(trace.x, x_axis), np.array(trace.y, dtype=float)
    if not np.isfinite(y).any():
        return None
    opacity, style, mark = trace.opacity or 1.0, trace.line, trace.marker
    if trace.fill == "tonexty":
        low = np.array(last.y, dtype=float)
        step = "post" if style.shape == "hv" else None
        return axes.fill_between(x, low, y, step=step, color=_ink(trace.fillcolor), linewidth=0)
    if trace.mode == "markers":
        symbol = mark.symbol if isinstance(mark.symbol, str) else "circle"
        is_given = isinstance(mark.color, (str, type(None)))
        return axes.scatter(
            x, y, s=(0.75 * (mark.size or 6)) ** 2, marker=_SYMBOLS.get(symbol, "o"),
            c=mark.color if is_given else list(mark.color), cmap=None if is_given else "Blues",
            alpha=opacity, linewidths=1.0 if symbol == "x" else 0.0,
        )  # fmt: skip
    width = 2 if style.width is None else style.width
    (drawn,) = axes.plot(
        x, y, color=_ink(style.color), alpha=opacity, linewidth=0.8 * width,
        linestyle="--" if style.dash == "dash" else "-",
        marker="." if "markers" in (trace.mode or "") else None,
        drawstyle="steps-post" if style.shape == "hv" else "default",
    )  # fmt: skip
    return drawn


def _ink(colour: str | None) -> Any:
    """A colour of Plotly's as one of matplotlib's."""
    if not colour or not colour.startswith("rgb"):
        return colour or "#3f7fd4"
    red, green, blue, *rest = (float(v) for v in re.findall(r"[\d.]+", colour))
    return (red / 255, green / 255, blue / 255, *rest)


def _bars(axes: Any, trace: Any, x_axis: Any) -> Any:
    from matplotlib.dates import date2num

    width, start = np.array(trace.x, dtype=float), 0.0
    if x_axis.type == "date":  # Plotly's are milliseconds, matplotlib's days.
        axes.xaxis_date()
        width = width / 86_400_000
        start = date2num([datetime.fromisoformat(text) for text in trace.base])
    return axes.barh(list(trace.y), width, left=start, color=_ink(trace.marker.color))


def _positions(x: Any, axis: Any) -> Any:
    """Positions as numbers; of a category its place."""
    if axis.type != "category":
        return np.array(x, dtype=float)
    names = list(axis.categoryarray)
    return np.array([names.index(name) for name in x])


def _set(axes: Any, x_axis: Any, y_axis: Any) -> None:
    axes.set_xlabel(plain(x_axis.title.text or ""), fontsize=8, color=INK)
    axes.set_ylabel(plain(y_axis.title.text or ""), fontsize=8, color=INK)
    if x_axis.type == "log":
        axes.set_xscale("log")
    if x_axis.type == "category":
        axes.set_xticks(range(len(x_axis.categoryarray)), list(map(plain, x_axis.categoryarray)))
    elif x_axis.type is None and all(
        (np.nan_to_num(line.get_xdata()) % 1 == 0).all() for line in axes.lines
    ):
        axes.xaxis.get_major_locator().set_params(integer=True)
    if x_axis.tickvals is not None:
        axes.set_xticks(list(x_axis.tickvals), [plain(text) for text in x_axis.ticktext])
        axes.minorticks_off()  # Their labels would lie on those of the given ticks.
    if x_axis.tickangle:
        for label in axes.get_xticklabels():
            label.set(rotation=-x_axis.tickangle, ha="right", rotation_mode="anchor")
    if x_axis.range is not None:
        is_log = x_axis.type == "log"
        axes.set_xlim(*(10**end if is_log else end for end in x_axis.range))
    if y_axis.range is not None:
        axes.set_ylim(*y_axis.range)
    ends = zip(axes.get_ylim(), (y_axis.minallowed, y_axis.maxallowed), (max, min), strict=True)
    axes.set_ylim(*(end if at is None else inner(end, at) for end, at, inner in ends))
    if y_axis.visible is False or y_axis.showticklabels is False:
        axes.tick_params(labelleft=False)
    axes.tick_params(labelsize=7, colors=INK, length=2)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
