"""Own figures as plain data, so that one description is drawn interactively and as a PNG.

A `Chart` has one or several `Panel`s; a panel has marks. Colours are names of `COLOURS`, else
`#rrggbb` (see `method_colour`), and read on light and dark ground.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

COLOURS = {
    "finished": "#3f7fd4",
    "continued": "#1f9e77",
    "stopped": "#d08a2e",
    "running": "#8a919c",
    "failed": "#d1495b",
    "best": "#d1495b",
    "grid": "#8a919c",
}
_METHODS = (
    "#3f7fd4", "#d08a2e", "#1f9e77", "#c2477f", "#9468c4", "#7f8c3a", "#2fa4b8", "#a9604a",
)  # fmt: skip


class Figure(Protocol):
    """What a page shows and `--png` writes: a `Chart`, or one of Optuna's plots.

    Attributes:
        key: File name of the PNG and anchor in the page.
        title: Heading.
        caption: What the reader should know to read it.
        min_width: Pixels below which labels would run into one another; narrower screens scroll.
    """

    @property
    def key(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def caption(self) -> str: ...
    @property
    def min_width(self) -> int: ...

    def to_plotly(self) -> Any:
        """A `plotly.graph_objects.Figure` without a title, on transparent ground."""

    def write_png(self, path: Path) -> None:
        """Draw it on white; the file appears whole or not at all."""


def colour(name: str) -> str:
    """The `#rrggbb` of a colour's name."""
    return COLOURS.get(name, name)


def method_colour(index: int) -> str:
    """The colour of the method with this index."""
    return _METHODS[index % len(_METHODS)]


def limits(values: Sequence[float]) -> tuple[float, float] | None:
    """A narrow range around a single value, where plotting libraries take one of -1 to 1.

    None if `values` differ.
    """
    if not values or min(values) < max(values):
        return None
    margin = 0.1 * abs(values[0]) or 1.0
    return values[0] - margin, values[0] + margin


@dataclass(frozen=True)
class Mark:
    """One set of lines or points, or one band.

    Attributes:
        kind: "line" joins the points (None starts anew), "step" keeps a value until the next,
            "points" draws symbols, "band" fills between y and `upper`.
        x: Positions.
        y: Values, None for a gap.
        name: Text in the legend; empty for none.
        colour: See the module.
        upper: Upper edge of a band.
        dash: Whether a line is dashed.
        width: Of a line, in points.
        size: Of a symbol, in points.
        opacity: From 0 to 1.
        symbol: Shape of the points.
        texts: What hovering shows at each point.
    """

    kind: Literal["line", "step", "points", "band"]
    x: Sequence[float | None]
    y: Sequence[float | None]
    name: str = ""
    colour: str = "finished"
    upper: Sequence[float | None] = ()
    dash: bool = False
    width: float = 1.5
    size: float = 6.0
    opacity: float = 1.0
    symbol: Literal["circle", "x", "diamond"] = "circle"
    texts: Sequence[str] = ()

    @property
    def has_dots(self) -> bool:
        """Whether a stretch of a line has no length, so that only a symbol shows it."""
        stretch: set[tuple[float, float]] = set()
        for x, y in (*zip(self.x, self.y, strict=True), (None, None)):
            if x is not None and y is not None:
                stretch.add((x, y))
            elif len(stretch) == 1:
                return True
            else:
                stretch.clear()
        return False


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Attributes:
        marks: Drawn in order.
        x_label, y_label: Titles of the axes.
        log_x: Whether x is logarithmic.
        is_whole: Whether x counts something, so that ticks between whole numbers make no sense.
        x_ticks: (position, label) in place of automatic ticks.
        x_range, y_range: Limits; automatic if None.
    """

    marks: tuple[Mark, ...]
    x_label: str = ""
    y_label: str = ""
    log_x: bool = False
    is_whole: bool = False
    x_ticks: tuple[tuple[float, str], ...] = ()
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None

    @property
    def width_of_x(self) -> float:
        """Distance of the first and the last position; 0 without any."""
        x = [v for mark in self.marks for v in mark.x if v is not None]
        return max(x) - min(x) if x else 0.0

    @property
    def limits_of_y(self) -> tuple[float, float] | None:
        """The range of y; None leaves it to the library."""
        y = [v for mark in self.marks for v in (*mark.y, *mark.upper) if v is not None]
        return self.y_range or limits(y)

    @property
    def has_slanted_ticks(self) -> bool:
        """Whether the labels under the axis are too long to stand side by side."""
        return sum(len(label) + 2 for _, label in self.x_ticks) > 100


@dataclass(frozen=True)
class Chart:
    """A figure of this package; see `Figure`.

    Attributes:
        panels: Side by side.
        height: In pixels.
    """

    key: str
    title: str
    panels: tuple[Panel, ...]
    caption: str = ""
    height: int = 380

    @property
    def min_width(self) -> int:
        n_ticks = max((len(panel.x_ticks) for panel in self.panels), default=0)
        return max(210 * len(self.panels), 78 * n_ticks, 300)

    def to_plotly(self) -> Any:
        from optuna_deepweeds.report.draw_plotly import to_plotly

        return to_plotly(self)

    def write_png(self, path: Path) -> None:
        from optuna_deepweeds.report.draw_png import write_png

        write_png(self, path)
