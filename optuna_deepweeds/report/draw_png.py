"""Charts drawn by matplotlib into PNG files, without a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from optuna_deepweeds.files import whole
from optuna_deepweeds.report.chart import Chart, Mark, Panel, colour

DPI = 150
INK = "#333940"
_WIDTH = 8.0
_SYMBOLS = {"circle": "o", "x": "x", "diamond": "D"}


def write_png(chart: Chart, path: Path) -> None:
    """Draw `chart` on white into `path`; the file appears whole or not at all."""
    figure = new_figure(_WIDTH, 0.5 + chart.height / 105)
    figure.suptitle(plain(chart.title), fontsize=12, color=INK)
    handles: dict[str, Any] = {}
    for i, panel in enumerate(chart.panels, 1):
        axes = figure.add_subplot(1, len(chart.panels), i)
        for mark in panel.marks:
            handle = _draw(axes, mark)
            if mark.name:
                handles.setdefault(mark.name, handle)
        _axes(axes, panel)
    if handles:
        figure.legend(
            list(handles.values()), [plain(name) for name in handles],
            loc="outside lower center", ncols=min(len(handles), 4), frameon=False, fontsize=8,
        )  # fmt: skip
    save(figure, path)


def new_figure(width: float, height: float) -> Any:
    """An empty `matplotlib.figure.Figure` of so many inches that no window knows of."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Any, path: Path, **settings: Any) -> None:
    """Write a figure of matplotlib to `path`; the file appears whole or not at all."""
    with whole(path) as part:
        figure.savefig(part, format="png", dpi=DPI, facecolor="white", **settings)


def plain(text: str) -> str:
    """`text` without its dollar signs read as formulas."""
    return text.replace("$", r"\$")


def _axes(axes: Any, panel: Panel) -> None:
    axes.set_xlabel(plain(panel.x_label), fontsize=8, color=INK)
    axes.set_ylabel(plain(panel.y_label), fontsize=8, color=INK)
    if panel.log_x:
        axes.set_xscale("log")
        if panel.x_ticks:
            axes.minorticks_off()  # Their labels would lie on those of the given ticks.
    elif panel.is_whole:
        axes.xaxis.get_major_locator().set_params(integer=True)
    if panel.x_ticks:
        axes.set_xticks([p for p, _ in panel.x_ticks], [plain(t) for _, t in panel.x_ticks])
    if panel.has_slanted_ticks:
        for label in axes.get_xticklabels():
            label.set(rotation=35, ha="right", rotation_mode="anchor")
    if panel.x_range:
        axes.set_xlim(*panel.x_range)
    if limits := panel.limits_of_y:
        axes.set_ylim(*limits)
    axes.tick_params(labelsize=7, colors=INK, length=2)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _draw(axes: Any, mark: Mark) -> Any:
    ink = colour(mark.colour)
    x, y = np.array(mark.x, dtype=float), np.array(mark.y, dtype=float)  # None becomes NaN
    if mark.kind == "band":
        upper = np.array(mark.upper, dtype=float)
        return axes.fill_between(x, y, upper, color=ink, alpha=mark.opacity, linewidth=0)
    if mark.kind == "points":
        return axes.scatter(
            x, y, s=(mark.size * 0.75) ** 2, c=ink, marker=_SYMBOLS[mark.symbol],
            alpha=mark.opacity, linewidths=1.0 if mark.symbol == "x" else 0.0,
        )  # fmt: skip
    (line,) = axes.plot(
        x, y, color=ink, alpha=mark.opacity, linewidth=mark.width * 0.8,
        linestyle="--" if mark.dash else "-", marker="." if mark.has_dots else None,
        drawstyle="steps-post" if mark.kind == "step" else "default",
    )  # fmt: skip
    return line
