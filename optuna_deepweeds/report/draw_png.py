"""Charts drawn by matplotlib into PNG files, without a browser."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from optuna_deepweeds.report.chart import Chart, Mark, Panel, colour

_DPI = 150
_WIDTH = 8.0
_INK = "#333940"
_SYMBOLS = {"circle": "o", "x": "x", "diamond": "D", "star": "*"}


def write_png(chart: Chart, path: Path) -> None:
    """Draw `chart` on white into `path`; the file appears whole or not at all."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(
        figsize=(_WIDTH, 0.5 + chart.n_rows * chart.height / 105), layout="constrained"
    )
    FigureCanvasAgg(figure)
    figure.suptitle(_plain(chart.title), fontsize=12, color=_INK)
    handles: dict[str, Any] = {}
    for i, panel in enumerate(chart.panels):
        axes = figure.add_subplot(chart.n_rows, chart.n_columns, i + 1)
        for mark in panel.marks:
            handle = _draw(axes, mark)
            if mark.name and handle is not None:
                handles.setdefault(mark.name, handle)
        _axes(axes, panel)
    if handles:
        figure.legend(
            list(handles.values()), [_plain(name) for name in handles],
            loc="outside lower center", ncols=min(len(handles), 4), frameon=False, fontsize=8,
        )  # fmt: skip
    part = path.with_name(path.name + ".part")
    figure.savefig(part, format="png", dpi=_DPI, facecolor="white")
    os.replace(part, path)


def _axes(axes: Any, panel: Panel) -> None:
    axes.set_title(_plain(panel.title), fontsize=9, color=_INK)
    axes.set_xlabel(_plain(panel.x_label), fontsize=8, color=_INK)
    axes.set_ylabel(_plain(panel.y_label), fontsize=8, color=_INK)
    if panel.log_x:
        axes.set_xscale("log")
        if panel.x_ticks:
            axes.minorticks_off()  # Their labels would lie on those of the given ticks.
    elif panel.is_whole:
        axes.xaxis.get_major_locator().set_params(integer=True)
    if panel.x_ticks:
        axes.set_xticks([p for p, _ in panel.x_ticks], [_plain(t) for _, t in panel.x_ticks])
    if panel.has_slanted_ticks:
        for label in axes.get_xticklabels():
            label.set(rotation=35, ha="right", rotation_mode="anchor")
    if panel.y_ticks:
        axes.set_yticks([p for p, _ in panel.y_ticks], [_plain(t) for _, t in panel.y_ticks])
    if panel.x_range:
        axes.set_xlim(*panel.x_range)
    if panel.y_range:
        axes.set_ylim(*panel.y_range)
    if any(mark.kind == "bars" for mark in panel.marks):
        axes.invert_yaxis()
    for x, y, text in panel.notes:
        axes.text(x, y, _plain(text), fontsize=6.5, ha="center", va="center", color=_INK)
    axes.tick_params(labelsize=7, colors=_INK, length=2)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _draw(axes: Any, mark: Mark) -> Any:
    ink = colour(mark.colour)
    if mark.kind == "bars":
        names = [_plain(str(name)) for name in mark.y]
        return axes.barh(
            names, mark.x, color=list(mark.colours) or ink, xerr=list(mark.error) or None,
            alpha=mark.opacity, ecolor=_INK, capsize=2,
        )  # fmt: skip
    x, y = _floats(mark.x), _floats(mark.y)
    if mark.kind == "band":
        return axes.fill_between(
            x, y, _floats(mark.upper), color=ink, alpha=mark.opacity, linewidth=0
        )
    if mark.kind == "points":
        face = list(mark.colours) or ink
        return axes.scatter(
            x, y, s=(mark.size * 0.75) ** 2, c=face, marker=_SYMBOLS[mark.symbol],
            alpha=mark.opacity, linewidths=1.0 if mark.symbol == "x" else 0.0,
        )  # fmt: skip
    (line,) = axes.plot(
        x, y, color=ink, alpha=mark.opacity, linewidth=mark.width * 0.8,
        linestyle="--" if mark.dash else "-",
        drawstyle="steps-post" if mark.kind == "step" else "default",
    )  # fmt: skip
    return line


def _floats(values: Any) -> Any:
    return np.array([np.nan if v is None else v for v in values], dtype=float)


def _plain(text: str) -> str:
    """`text` without its dollar signs read as formulas."""
    return text.replace("$", r"\$")
