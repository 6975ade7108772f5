"""Charts drawn by Plotly, for the HTML report and the dashboard."""

from __future__ import annotations

import html
import math
from typing import Any

from optuna_deepweeds.report.chart import Chart, Mark, Panel, colour

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
_GRID = "rgba(138,145,156,0.25)"
_PLAIN = "#7a818c"  # Axis text that reads on light and dark ground.
_AXIS = {
    "gridcolor": _GRID, "zeroline": False, "linecolor": _GRID, "ticks": "", "automargin": True,
    "title_standoff": 8,
}  # fmt: skip


def to_plotly(chart: Chart) -> Any:
    """`chart` as a `plotly.graph_objects.Figure` in the page's style."""
    from plotly.subplots import make_subplots

    n = len(chart.panels)
    figure = make_subplots(rows=1, cols=n, horizontal_spacing=0.22 / n if n > 1 else 0.0)
    named = {""}
    for column, panel in enumerate(chart.panels, 1):
        for mark in panel.marks:
            for trace in _traces(mark, is_first=mark.name not in named):
                figure.add_trace(trace, row=1, col=column)
            named.add(mark.name)
        _axes(figure, panel, column)
    return styled(figure, chart.height, has_legend=len(named) > 1)


def styled(figure: Any, height: int, *, has_legend: bool) -> Any:
    """`figure`, Optuna's or ours, without title, on transparent ground, its legend on top."""
    top = 36 if has_legend else 14
    figure.update_layout(
        template="none",
        height=height,
        width=None,
        title=None,
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": FONT, "size": 12, "color": _PLAIN},
        margin={"l": 62, "r": 16, "t": top, "b": 48},
        hovermode="closest",
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": _GRID, "activecolor": _PLAIN},
        showlegend=has_legend,
        legend={"orientation": "h", "x": 0, "xanchor": "left", "y": 1.01, "yanchor": "bottom"},
    )
    figure.update_xaxes(**_AXIS)
    figure.update_yaxes(**_AXIS)
    return figure


def titled(figure: Any, title: str) -> Any:
    """`figure` with its title, for where nothing else says it."""
    layout = figure.layout
    figure.update_layout(
        title={
            "text": html.escape(title), "x": 0.0, "xref": "paper", "xanchor": "left", "y": 1.0,
            "yref": "container", "yanchor": "top", "pad": {"t": 8}, "font": {"size": 15},
        },
        margin={"t": layout.margin.t + 30},
        height=layout.height + 30,
    )  # fmt: skip
    return figure


def _axes(figure: Any, panel: Panel, column: int) -> None:
    x: dict[str, Any] = {"title_text": html.escape(panel.x_label)}
    if panel.log_x:
        x |= {"type": "log", "dtick": 1, "exponentformat": "power"}
    elif panel.is_whole and panel.width_of_x < 8:
        x["dtick"] = 1
    if panel.x_ticks:
        x["tickvals"] = [position for position, _ in panel.x_ticks]
        x["ticktext"] = [html.escape(label) for _, label in panel.x_ticks]
    if panel.has_slanted_ticks:
        x["tickangle"] = -35
    if panel.x_range:
        x["range"] = [math.log10(v) if panel.log_x else v for v in panel.x_range]
    figure.update_xaxes(row=1, col=column, **x)
    figure.update_yaxes(
        row=1, col=column, title_text=html.escape(panel.y_label), range=panel.limits_of_y
    )


def _traces(mark: Mark, *, is_first: bool) -> list[Any]:
    import plotly.graph_objects as go

    shown: dict[str, Any] = {
        "name": html.escape(mark.name),
        "legendgroup": mark.name,
        "showlegend": is_first,
        "opacity": mark.opacity,
    }
    ink = colour(mark.colour)
    x, y = list(mark.x), list(mark.y)
    if mark.kind == "band":
        edge = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
        fill = f"rgba({int(ink[1:3], 16)},{int(ink[3:5], 16)},{int(ink[5:7], 16)},{mark.opacity})"
        return [
            go.Scatter(x=x, y=y, **edge),
            go.Scatter(x=x, y=list(mark.upper), fill="tonexty", fillcolor=fill, **edge),
        ]
    if mark.texts:
        shown["text"] = [html.escape(text) for text in mark.texts]
        shown["hovertemplate"] = "%{text}<extra></extra>"
    if mark.kind == "points":
        marker = {"size": mark.size, "color": ink, "symbol": mark.symbol}
        return [go.Scatter(x=x, y=y, mode="markers", marker=marker, **shown)]
    line = {
        "color": ink, "width": mark.width, "dash": "dash" if mark.dash else "solid",
        "shape": "hv" if mark.kind == "step" else "linear",
    }  # fmt: skip
    mode = "lines+markers" if mark.has_dots else "lines"
    return [go.Scatter(x=x, y=y, mode=mode, line=line, marker={"size": 4}, **shown)]
