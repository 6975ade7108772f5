"""Charts as plain data, so that one description is drawn interactively and as a PNG.

A `Chart` has one or several `Panel`s; a panel has marks. Colours are names of `COLOURS`, numbers
of a method (see `method_colour`) or `#rrggbb`, and read on light and dark ground.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

COLOURS = {
    "finished": "#3f7fd4",
    "continued": "#1f9e77",
    "stopped": "#d08a2e",
    "running": "#8a919c",
    "waiting": "#8a919c",
    "failed": "#d1495b",
    "prior": "#9468c4",
    "best": "#d1495b",
    "grid": "#8a919c",
}
_METHODS = (
    "#3f7fd4", "#d08a2e", "#1f9e77", "#c2477f", "#9468c4", "#7f8c3a", "#2fa4b8", "#a9604a",
)  # fmt: skip
# Viridis without its darkest and lightest fifth, which vanish on dark or light ground.
_SCALE = ("#46518e", "#3a6d92", "#2f8a92", "#2fa884", "#5cc065", "#a3c93a")


def colour(name: str) -> str:
    """The `#rrggbb` of a colour's name."""
    return COLOURS.get(name, name)


def method_colour(index: int) -> str:
    """The colour of the method with this index."""
    return _METHODS[index % len(_METHODS)]


def scale_colour(share: float) -> str:
    """The colour of a value on the scale from 0 (worst) to 1 (best)."""
    position = min(max(share, 0.0), 1.0) * (len(_SCALE) - 1)
    low = min(int(position), len(_SCALE) - 2)
    weight = position - low
    ends = zip(_channels(_SCALE[low]), _channels(_SCALE[low + 1]), strict=True)
    return "#" + "".join(f"{round((1 - weight) * a + weight * b):02x}" for a, b in ends)


def _channels(text: str) -> tuple[int, ...]:
    return tuple(int(text[k : k + 2], 16) for k in (1, 3, 5))


@dataclass(frozen=True)
class Mark:
    """One set of lines, points, bars, or one band.

    Attributes:
        kind: "line" joins the points (None starts anew), "step" keeps a value until the next,
            "points" draws symbols, "bars" horizontal bars of length x at the names y, "band"
            fills between y and `upper`.
        x: Positions.
        y: Values, None for a gap.
        name: Text in the legend; empty for none.
        colour: See the module.
        upper: Upper edge of a band.
        error: Half length of the error bar of each bar.
        dash: Whether a line is dashed.
        width: Of a line, in points.
        size: Of a symbol, in points.
        opacity: From 0 to 1.
        symbol: Shape of the points.
        texts: What hovering shows at each point.
        colours: One colour a point, in place of `colour`.
    """

    kind: Literal["line", "step", "points", "bars", "band"]
    x: Sequence[float | None]
    y: Sequence[float | str | None]
    name: str = ""
    colour: str = "finished"
    upper: Sequence[float | None] = ()
    error: Sequence[float] = ()
    dash: bool = False
    width: float = 1.5
    size: float = 6.0
    opacity: float = 1.0
    symbol: Literal["circle", "x", "diamond", "star"] = "circle"
    texts: Sequence[str] = ()
    colours: Sequence[str] = ()


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Attributes:
        marks: Drawn in order.
        x_label, y_label: Titles of the axes.
        title: Above the panel; empty for none.
        log_x: Whether x is logarithmic.
        is_whole: Whether x counts something, so that ticks between whole numbers make no sense.
        x_ticks: (position, label) in place of automatic ticks.
        y_ticks: Likewise.
        notes: (x, y, text) written into the panel.
        x_range, y_range: Limits; automatic if None.
    """

    marks: tuple[Mark, ...]
    x_label: str = ""
    y_label: str = ""
    title: str = ""
    log_x: bool = False
    is_whole: bool = False
    x_ticks: tuple[tuple[float, str], ...] = ()
    y_ticks: tuple[tuple[float, str], ...] = ()
    notes: tuple[tuple[float, float, str], ...] = ()
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None

    @property
    def width_of_x(self) -> float:
        """Distance of the first and the last position of the lines and points; 0 without any."""
        x = [v for mark in self.marks if mark.kind != "bars" for v in mark.x if v is not None]
        return max(x) - min(x) if x else 0.0

    @property
    def has_slanted_ticks(self) -> bool:
        """Whether the labels under the axis are too long to stand side by side."""
        return sum(len(label) + 2 for _, label in self.x_ticks) > 100


@dataclass(frozen=True)
class Chart:
    """A figure of the report.

    Attributes:
        key: File name of the PNG and anchor in the page.
        title: Heading.
        panels: Laid out row by row.
        caption: What the reader should know to read it.
        n_columns: Panels a row.
        height: Of one row of panels, in pixels.
    """

    key: str
    title: str
    panels: tuple[Panel, ...]
    caption: str = ""
    n_columns: int = 1
    height: int = 380

    @property
    def min_width(self) -> int:
        """Pixels below which labels would run into one another; narrower screens scroll."""
        n_ticks = max((len(panel.x_ticks) for panel in self.panels), default=0)
        return max(self.n_columns * 210 if self.n_columns > 1 else 0, 78 * n_ticks, 300)

    @property
    def n_rows(self) -> int:
        """Rows of panels."""
        return -(-len(self.panels) // self.n_columns)
