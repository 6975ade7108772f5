"""Charts drawn by Plotly, for the HTML report and the dashboard."""

from __future__ import annotations

import html
import math
from typing import Any

from optuna_deepweeds.report.chart import Chart, Mark, Panel, colour

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
_GRID = "rgba(138,145,156,0.25)"
_PLAIN = "#7a818c"  # Axis text that reads on light and dark ground.


def to_plotly(chart: Chart, *, with_title: bool = False) -> Any:
    """`chart` as a `plotly.graph_objects.Figure` on a transparent ground."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    figure = make_subplots(
        rows=chart.n_rows,
        cols=chart.n_columns,
        subplot_titles=[html.escape(p.title) for p in chart.panels],
        horizontal_spacing=0.22 / chart.n_columns if chart.n_columns > 1 else 0.0,
        vertical_spacing=min(90 / (chart.height * chart.n_rows), 0.9 / max(chart.n_rows - 1, 1)),
    )
    named: set[str] = set()
    for i, panel in enumerate(chart.panels):
        row, column = i // chart.n_columns + 1, i % chart.n_columns + 1
        for mark in panel.marks:
            for trace in _traces(go, mark, is_first=mark.name not in named):
                figure.add_trace(trace, row=row, col=column)
            named.add(mark.name)
        _axes(figure, panel, row, column)
        for x, y, text in panel.notes:
            figure.add_annotation(
                x=x, y=y, text=html.escape(text), showarrow=False, row=row, col=column,
                font={"size": 10},
            )  # fmt: skip
    # From the top: title, legend, titles of the panels; each has a line of its own.
    panel_line = 26 if any(p.title for p in chart.panels) else 0
    legend_line = 26 if named - {""} else 0
    title_line = 34 if with_title else 0
    top = max(14, title_line + legend_line + panel_line)
    inner = chart.height * chart.n_rows - 62
    figure.update_layout(
        template="none",
        height=inner + 48 + top,
        title={
            "text": html.escape(chart.title), "x": 0.0, "xref": "paper", "xanchor": "left",
            "y": 1.0, "yref": "container", "yanchor": "top", "pad": {"t": 8},
            "font": {"size": 15},
        } if with_title else None,
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": FONT, "size": 12, "color": _PLAIN},
        margin={"l": 62, "r": 16, "t": top, "b": 48},
        hovermode="closest",
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": _GRID, "activecolor": _PLAIN},
        showlegend=bool(named - {""}),
        legend={
            "orientation": "h", "x": 0, "xanchor": "left", "yanchor": "bottom",
            "y": 1.0 + (panel_line + 2) / inner,
        },
    )  # fmt: skip
    figure.update_annotations(font={"size": 12})
    return figure


def _axes(figure: Any, panel: Panel, row: int, column: int) -> None:
    common = {
        "gridcolor": _GRID, "zeroline": False, "linecolor": _GRID, "ticks": "", "automargin": True,
        "title_standoff": 8,
    }  # fmt: skip
    x: dict[str, Any] = {**common, "title_text": html.escape(panel.x_label)}
    y: dict[str, Any] = {**common, "title_text": html.escape(panel.y_label)}
    if panel.log_x:
        x |= {"type": "log", "dtick": 1, "exponentformat": "power"}
    elif panel.is_whole and panel.width_of_x < 8:
        x["dtick"] = 1
    for axis, ticks in ((x, panel.x_ticks), (y, panel.y_ticks)):
        if ticks:
            axis["tickvals"] = [position for position, _ in ticks]
            axis["ticktext"] = [html.escape(label) for _, label in ticks]
    if panel.has_slanted_ticks:
        x["tickangle"] = -35
    if panel.x_range:
        axis_range = [math.log10(v) for v in panel.x_range] if panel.log_x else panel.x_range
        x["range"] = list(axis_range)
    if panel.y_range:
        y["range"] = list(panel.y_range)
    if any(mark.kind == "bars" for mark in panel.marks):
        y |= {"autorange": "reversed", "showgrid": False}
    figure.update_xaxes(row=row, col=column, **x)
    figure.update_yaxes(row=row, col=column, **y)


def _traces(go: Any, mark: Mark, *, is_first: bool) -> list[Any]:
    shown: dict[str, Any] = {
        "name": html.escape(mark.name),
        "legendgroup": mark.name,
        "showlegend": bool(mark.name) and is_first,
        "opacity": mark.opacity,
    }
    ink = colour(mark.colour)
    x, y = list(mark.x), list(mark.y)
    if mark.kind == "band":
        edge = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip"}
        quiet = {**shown, "showlegend": False, "opacity": 1.0}
        fill = f"rgba({int(ink[1:3], 16)},{int(ink[3:5], 16)},{int(ink[5:7], 16)},{mark.opacity})"
        return [
            go.Scatter(x=x, y=y, **edge, **quiet),
            go.Scatter(x=x, y=list(mark.upper), fill="tonexty", fillcolor=fill, **edge, **quiet),
        ]
    if mark.kind == "bars":
        return [
            go.Bar(
                x=x, y=[html.escape(str(name)) for name in y], orientation="h",
                marker={"color": list(mark.colours) or ink},
                error_x={"array": list(mark.error), "thickness": 1.2, "color": _PLAIN}
                if mark.error else None,
                **shown,
            )
        ]  # fmt: skip
    hover: dict[str, Any] = {}
    if mark.texts:
        hover = {
            "text": [html.escape(text) for text in mark.texts],
            "hovertemplate": "%{text}<extra></extra>",
        }
    if mark.kind == "points":
        return [
            go.Scatter(
                x=x, y=y, mode="markers",
                marker={
                    "size": mark.size, "color": list(mark.colours) or ink, "symbol": mark.symbol,
                },
                **hover, **shown,
            )
        ]  # fmt: skip
    line = {
        "color": ink, "width": mark.width, "dash": "dash" if mark.dash else "solid",
        "shape": "hv" if mark.kind == "step" else "linear",
    }  # fmt: skip
    return [go.Scatter(x=x, y=y, mode="lines", line=line, **hover, **shown)]
