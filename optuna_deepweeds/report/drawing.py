"""Figures of Plotly in the style of the page, and what the page needs to know of each.

A figure of Plotly is the one description: the page and the dashboard show it, `draw_png` draws it.
Colours read on light and dark ground.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

COLOURS = {
    "complete": "#3f7fd4", "paused": "#d9a13b", "stopped": "#a9604a", "failed": "#9468c4",
    "interrupted": "#8a919c", "running": "#2fa4b8", "waiting": "#8a919c", "best": "#d1495b",
    "grid": "#8a919c",
}  # fmt: skip
"""Of the states in `standing.STATES`, told apart by lightness too."""
SCALE = [[0.0, "#d9a13b"], [0.5, "#8a919c"], [1.0, "#3f7fd4"]]
"""Colours of a quantity from low to high."""
_METHODS = (
    "#3f7fd4", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8a919c", "#7f8c3a",
)  # fmt: skip
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
_GRID = "rgba(138,145,156,0.25)"
_PLAIN = "#7a818c"  # Axis text.

MAX_POINTS = 1000
"""More in one plot cost seconds and show no more."""
T = TypeVar("T")

Values = Sequence[float | None]
"""Positions; None is a gap."""


@dataclass(frozen=True)
class Drawing:
    """A figure of a page, which `--png` writes too.

    Attributes:
        key: File name of the PNG and anchor in the page.
        title: Heading.
        figure: A `plotly.graph_objects.Figure` without a title.
        caption: What the reader should know to read it.
        min_width: Pixels below which labels would run into one another; narrower screens scroll.
    """

    key: str
    title: str
    figure: Any
    caption: str = ""
    min_width: int = 300


def thinned(items: Sequence[T], keep: Iterable[int] = (), n: int | None = None) -> list[T]:
    """About `n` of `items`, evenly spread, with the first, the last and those at `keep`."""
    n = n or MAX_POINTS
    if len(items) <= n:
        return list(items)
    spread = {i * (len(items) - 1) // (n - 1) for i in range(n)}
    return [items[i] for i in sorted(spread.union(keep))]


def some_of(shown: Sequence[Any], n: int, noun: str = "trials") -> str:
    """What a caption says of `n` that were `thinned`; empty where nothing was left out."""
    if len(shown) == n:
        return ""
    return f" {len(shown):,} of {n:,} {noun}, evenly spread, the best and the last among them."


def method_colour(index: int) -> str:
    """The colour of the method with this index."""
    return _METHODS[index % len(_METHODS)]


def line(x: Values, y: Values, name: str = "", texts: Iterable[str] = (), **style: Any) -> Any:
    """A trace that joins points in a `style` of Plotly's lines; lone points become dots."""
    style = {"color": COLOURS["complete"], "width": 1.5} | style
    mode = "lines+markers" if _has_dots(x, y) else "lines"
    opacity = style.pop("opacity", 1.0)
    shown = _shown(name, texts) | {"opacity": opacity, "marker": {"size": 4}}
    return _scatter(x=list(x), y=list(y), mode=mode, line=style, **shown)


def points(x: Values, y: Values, name: str = "", texts: Iterable[str] = (), **style: Any) -> Any:
    """A trace of symbols in a `style` of Plotly's markers."""
    style = {"color": COLOURS["complete"], "size": 6} | style
    shown = _shown(name, texts) | {"opacity": style.pop("opacity", 1.0)}
    return _scatter(x=list(x), y=list(y), mode="markers", marker=style, **shown)


def band(x: Values, low: Values, high: Values, colour: str) -> list[Any]:
    """Two traces that shade what lies between them."""
    edge = {
        "mode": "lines",
        "line": {"width": 0, "shape": "hv"},
        "hoverinfo": "skip",
        "showlegend": False,
    }
    red, green, blue = (int(colour[k : k + 2], 16) for k in (1, 3, 5))
    fill = {"fill": "tonexty", "fillcolor": f"rgba({red},{green},{blue},0.16)"}
    return [_scatter(x=x, y=list(low), **edge), _scatter(x=x, y=list(high), **edge, **fill)]


def axes(
    traces: Iterable[Any],
    x_label: str,
    y_label: str,
    height: int = 380,
    within: tuple[float, float] | None = None,
    **x_axis: Any,
) -> Any:
    """A figure of one pair of axes, its values `within` bounds; `x_axis` are Plotly's own."""
    import plotly.graph_objects as go

    figure = go.Figure(list(traces))
    figure.update_xaxes(title_text=html.escape(x_label), **x_axis)
    figure.update_yaxes(title_text=html.escape(y_label), **reach(figure.data, within))
    return styled(figure, height)


def reach(traces: Iterable[Any], within: tuple[float, float] | None) -> dict[str, Any]:
    """Properties of an axis that shows the traces' values, and nothing outside of bounds."""
    low, high = within or (-math.inf, math.inf)
    return {"range": limits(traces), "minallowed": finite(low), "maxallowed": finite(high)}


def finite(value: float | None) -> float | None:
    """`value` if it can be drawn."""
    return value if value is not None and math.isfinite(value) else None


def styled(figure: Any, height: int) -> Any:
    """`figure`, Optuna's or ours, without title, on transparent ground, its legend on top."""
    has_legend = any(trace.name and trace.showlegend is not False for trace in figure.data)
    figure.update_layout(
        template="none",
        height=height,
        width=None,
        title=None,
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": FONT, "size": 12, "color": _PLAIN},
        margin={"l": 62, "r": 16, "t": 36 if has_legend else 14, "b": 44},
        hovermode="closest",
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": _GRID, "activecolor": _PLAIN},
        showlegend=has_legend,
        legend={
            "orientation": "h", "x": 0, "xanchor": "left", "y": 1.01, "yanchor": "bottom",
            "traceorder": "normal",  # Shaded bands would turn it round.
        },
    )  # fmt: skip
    axis = {"gridcolor": _GRID, "zeroline": False, "linecolor": _GRID, "ticks": ""}
    figure.update_xaxes(automargin=True, title_standoff=6, **axis)
    figure.update_yaxes(automargin=True, title_standoff=6, **axis)
    return figure


def limits(traces: Iterable[Any]) -> tuple[float, float] | None:
    """A narrow range around a single value, where Plotly takes one of -1 to 1.

    None if the traces' values differ.
    """
    values = {v for trace in traces for v in trace.y if v is not None}
    if len(values) != 1:
        return None
    (value,) = values
    margin = 0.1 * abs(value) or 1.0
    return value - margin, value + margin


def _scatter(**properties: Any) -> Any:
    import plotly.graph_objects as go

    return go.Scatter(**properties)


def _shown(name: str, texts: Iterable[str]) -> dict[str, Any]:
    escaped = [html.escape(text) for text in texts]
    hover = {"text": escaped, "hovertemplate": "%{text}<extra></extra>"} if escaped else {}
    return {"name": html.escape(name), "showlegend": bool(name), **hover}


def _has_dots(x: Values, y: Values) -> bool:
    """Whether a stretch of a line has no length, so that only a symbol shows it."""
    stretch: set[tuple[float, float]] = set()
    for a, b in (*zip(x, y, strict=True), (None, None)):
        if a is not None and b is not None:
            stretch.add((a, b))
        elif len(stretch) == 1:
            return True
        else:
            stretch.clear()
    return False
