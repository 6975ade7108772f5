"""CSV files of trials as people have them, one row a trial; a `Format` says what columns mean.

A defect of the whole file is an error that names the line; a defect of a row makes that row a
prior with a problem, which is counted and listed like any other that cannot be used.
"""

from __future__ import annotations

import ast
import csv
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.priors.record import (
    STOPPED_EARLY,
    WAYS,
    Direction,
    PriorTrial,
    canonical_metric,
    parse_cell,
)


@dataclass(frozen=True)
class Format:
    """Which columns mean what; one that is empty is one that the format does not have.

    Attributes:
        required: Columns that must exist, by which the format is recognised.
        param: Prefix of a parameter's column; empty where any other column may be one.
        marks: Whether a column with `param` tells the format too.
        value: The column of the final value; where it is missing, the metric's name finds one.
        measured: Prefix of the columns among which it is found.
        curve: Prefix of the column of an epoch's value.
        trial: Column by which rows of one trial, one an epoch, are told.
        epochs, seconds, dataset, state: Columns.
        states: What a state (in small letters) makes of a row: "" for a whole training, else its
            problem; other states are problems of their own.
        metric: The column that names the metric, or the metric of all.
        direction: The column that names the direction; empty where the metric tells.
    """

    required: tuple[str, ...]
    param: str
    marks: bool = False
    value: str = ""
    measured: str = ""
    epochs: str = ""
    seconds: str = ""
    dataset: str = ""
    state: str = ""
    states: Mapping[str, str] = field(default_factory=dict)
    metric: str = ""
    direction: str = ""
    curve: str = ""
    trial: str = ""


_OPTUNA_STATES = {"complete": "", "pruned": STOPPED_EARLY}
OURS = Format(
    required=("state", "value", "metric", "direction"),
    param="param:",
    marks=True,
    value="value",
    epochs="epochs",
    seconds="seconds",
    dataset="dataset",
    state="state",
    states=_OPTUNA_STATES,
    metric="metric",
    direction="direction",
    curve="epoch_",
)
# Final project of the AutoML lecture SS 2023, Freiburg and Hannover, as SMAC3 means its words.
LECTURE = Format(
    required=("cost", "budget", "status"),
    param="config:",
    marks=True,
    value="cost",
    epochs="budget",
    seconds="time",
    dataset="config:dataset",
    state="status",
    states={"success": "", "donotadvance": ""},
    metric="error",
)
# `Study.trials_dataframe().to_csv()`; a study that names its metric has "value_NAME".
OPTUNA = Format(
    required=("number", "state"),
    param="params_",
    value="value",
    measured="value_",
    state="state",
    states=_OPTUNA_STATES,
)
# "Download CSV" of optuna-dashboard.
DASHBOARD = Format(
    required=("Number", "State"),
    param="Param ",
    value="Value",
    state="State",
    states=_OPTUNA_STATES,
)
# `mlflow.search_runs().to_csv()`, and what MLflow's page of runs downloads.
MLFLOW = Format(
    required=("run_id", "status"),
    param="params.",
    measured="metrics.",
    epochs="params.epochs",
    state="status",
    states={"finished": ""},
)
MLFLOW_PAGE = Format(
    required=("Run ID", "Status"),
    param="",
    epochs="epochs",
    state="Status",
    states={"finished": ""},
)
# `ResultGrid.get_dataframe()`, `Result.metrics_dataframe` and `progress.csv` of Ray Tune. The last
# row of a function that came to its end is not "done", so that the column tells nothing.
RAY = Format(
    required=("training_iteration", "trial_id"),
    param="config/",
    epochs="training_iteration",
    seconds="time_total_s",
    trial="trial_id",
)
# The table of runs that the page of Weights & Biases exports, and the columns config, summary and
# name of its guide to `wandb.Api().runs()`, whose cells are dictionaries.
WANDB = Format(
    required=("Name", "State"),
    param="",
    epochs="epochs",
    seconds="Runtime",
    state="State",
    states={"finished": ""},
)
WANDB_API = Format(
    required=(),
    param="config.",
    marks=True,
    measured="summary.",
    epochs="config.epochs",
    seconds="summary._runtime",
    state="state",
    states={"finished": ""},
)
WANDB_SUMMARY = Format(required=("_step", "_runtime"), param="", seconds="_runtime")
FORMATS = (
    OURS,
    LECTURE,
    OPTUNA,
    DASHBOARD,
    MLFLOW,
    MLFLOW_PAGE,
    RAY,
    WANDB,
    WANDB_API,
    WANDB_SUMMARY,
)


class _Defect(Exception):
    """Why a row cannot be used."""


def read_csv(path: str, source: str, text: str, metric: str | None = None) -> list[PriorTrial]:
    """Read the text of a CSV file of one of `FORMATS`; the trials name `source`.

    Where a table has many columns of values, `metric` names the one, or the only column of an
    accuracy or error is it.

    Raises:
        InvalidInputError: It is of no format, a column is missing or occurs twice, its quoting is
            broken, or which column holds the values is not told.
    """
    reader = csv.reader(io.StringIO(text), strict=True)
    try:
        header = next(reader, [])
        rows = [
            (f"line {reader.line_num}", cells)
            for cells in reader
            if any(cell.strip() for cell in cells)  # Excel ends a file with rows of commas.
        ]
    except csv.Error as error:
        where = f"{path}, line {reader.line_num}"
        raise InvalidInputError(f"{where}: must be CSV, but {error}.") from None
    if header.count("params") > 1 and rows:  # `trials_dataframe(multi_index=True)`.
        header = [
            "_".join(filter(None, pair)) for pair in zip(header, rows.pop(0)[1], strict=False)
        ]
    header, rows = _spread(header, rows)
    form = _with_value(path, _format_of(path, header), header, metric)
    read = [_read_row(form, header, cells, source, where) for where, cells in rows]
    if not form.trial:
        return read
    keys = [dict(zip(header, cells, strict=False)).get(form.trial, "") for _, cells in rows]
    return _joined(read, keys)


def _spread(
    header: list[str], rows: list[tuple[str, list[str]]]
) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """The table with a column "config.KEY" or "summary.KEY" for each key of their dictionaries."""
    if not {"config", "summary"} <= set(header):
        return header, rows
    spread = []
    for where, cells in rows:
        row = dict(zip(header, cells, strict=False))
        for column in ("config", "summary"):
            text = re.sub(r"(?<=: )(nan|-?inf)\b", r"'\1'", row.pop(column, ""))
            try:
                found = ast.literal_eval(text)
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                continue
            if isinstance(found, dict):
                row |= {f"{column}.{k}": "" if v is None else str(v) for k, v in found.items()}
        spread.append((where, row))
    names = dict.fromkeys(column for _, row in spread for column in row)
    return [*names], [(where, [row.get(n, "") for n in names]) for where, row in spread]


def _format_of(path: str, header: Sequence[str]) -> Format:
    whole = [f for f in FORMATS if f.required and set(f.required) <= set(header)]
    marked = [f for f in FORMATS if f.marks and any(c.startswith(f.param) for c in header)]
    if not (whole or marked):
        raise InvalidInputError(
            f"{path} must be trials as this program, Optuna, MLflow, Ray Tune, Weights & Biases "
            "or SMAC3 write them (see priors/README.md), but its first line is none of their "
            "headers."
        )
    form = (whole or marked)[0]
    missing = [column for column in form.required if column not in header]
    if missing:
        raise InvalidInputError(
            f"{path}, line 1: the columns {', '.join(form.required)} must exist, "
            f"but {', '.join(missing)} is missing."
        )
    twice = sorted({column for column in header if column and header.count(column) > 1})
    if twice:
        raise InvalidInputError(
            f"{path}, line 1: each column must occur once, but {', '.join(twice)} occurs twice."
        )
    for column in header:
        epoch = column.removeprefix(form.curve)
        if form.curve and epoch != column and not (epoch.isdecimal() and int(epoch) >= 1):
            raise InvalidInputError(
                f"{path}, line 1: a column must be {form.curve}K with a whole K >= 1, "
                f"but is {column}."
            )
    return form


def _with_value(path: str, form: Format, header: Sequence[str], metric: str | None) -> Format:
    """`form` with the column of the values in this file, and the metric that they are."""
    if form.value and form.value in header:
        return form
    if form is OPTUNA and any(column.startswith("values_") for column in header):
        raise InvalidInputError(f"{path}: a prior study must have one objective, but has several.")
    columns = [c for c in header if c and c.startswith(form.measured) and c not in form.required]
    names = {c: c.removeprefix(form.measured) for c in columns}
    wanted = WAYS if metric is None else {canonical_metric(metric)}
    found = [c for c in columns if metric in (c, names[c])]
    found = found or [c for c in columns if canonical_metric(names[c]) in wanted]
    validated = [c for c in found if re.search("val|dev", c.lower())]
    if len(found) > 1 and len(validated) == 1:
        found = validated
    if len(found) != 1:
        there = ", ".join(names[c] for c in (found or columns))
        raise InvalidInputError(
            f"{path}: `priors import FILE --study NAME --metric COLUMN` must name the column of "
            f"the values, one of {there:.300}" + (f", but got {metric!r}." if metric else ".")
        )
    return replace(form, value=found[0], metric=canonical_metric(names[found[0]]))


def _read_row(
    form: Format, header: Sequence[str], cells: Sequence[str], source: str, where: str
) -> PriorTrial:
    row = {c: cell.strip() for c, cell in zip(header, cells, strict=False) if c}
    meant = {form.value, form.epochs, form.seconds, form.state, *form.required}
    params = {
        column.removeprefix(form.param): value
        for column, cell in row.items()
        if column.startswith(form.param)
        and column not in meant
        and (value := parse_cell(cell)) is not None
    }
    empty = PriorTrial(params, math.nan, None, "", source, where)
    try:
        if len(cells) != len(header):
            raise _Defect(f"has {len(cells)} cells, the header {len(header)}")
        return _read_cells(form, row, empty)
    except _Defect as defect:
        return replace(empty, problem=str(defect))


def _read_cells(form: Format, row: Mapping[str, str], empty: PriorTrial) -> PriorTrial:
    metric = canonical_metric(row[form.metric] if form.metric in row else form.metric)
    way: Direction | None = WAYS.get(metric)
    if form.direction:
        direction = row[form.direction].lower()
        if direction not in ("maximize", "minimize"):
            raise _Defect(f"{form.direction} is {direction or 'empty'}")
        way = "maximize" if direction == "maximize" else "minimize"
    problem = ""
    if form.state in row:
        state = row[form.state].rpartition(".")[2]  # As in "StatusType.SUCCESS".
        problem = form.states.get(state.lower(), f"{form.state} is {state or 'empty'}")
    curve = {}
    for column, cell in row.items():
        if form.curve and column.startswith(form.curve) and cell:
            curve[int(column.removeprefix(form.curve))] = _number(row, column)
    epochs = _number(row, form.epochs) if row.get(form.epochs) else max(curve, default=0)
    if epochs < 0 or not float(epochs).is_integer():
        raise _Defect(f"{form.epochs} is {epochs:g}, no whole number of epochs")
    return PriorTrial(
        params=empty.params,
        value=math.nan if problem and not row[form.value] else _number(row, form.value),
        direction=way,
        metric=metric,
        source=empty.source,
        where=empty.where,
        curve=dict(sorted(curve.items())),
        epochs=int(epochs) or None,
        seconds=_number(row, form.seconds) if row.get(form.seconds) else None,
        dataset=row.get(form.dataset) or None,
        problem=problem,
    )


def _joined(rows: Sequence[PriorTrial], keys: Sequence[str]) -> list[PriorTrial]:
    """One prior a key: the row of its last epoch, with the others as its curve."""
    joined: dict[str, PriorTrial] = {}
    curves: dict[str, dict[int, float]] = {}
    for row, key in zip(rows, keys, strict=True):
        key = key or row.where
        if row.epochs and not row.problem:
            curves.setdefault(key, {})[row.epochs] = row.value
        if key not in joined or (row.epochs or 0) >= (joined[key].epochs or 0):
            joined[key] = row
    return [replace(p, curve=dict(sorted(curves.get(k, {}).items()))) for k, p in joined.items()]


def _number(row: Mapping[str, str], column: str) -> float:
    """The cell as a float; NaN and infinities pass."""
    try:
        return float(row[column])
    except ValueError:
        raise _Defect(f"{column} is {row[column]!r}, no number") from None


def write_csv(
    priors: Sequence[PriorTrial], *, param_names: Iterable[str], digits: int | None = None
) -> str:
    """Our own CSV of `priors` as text, parameters in the order of `param_names`.

    Floats have as many significant `digits`; without, reading gives the same numbers again.
    """

    def text(cell: Any) -> Any:
        if type(cell) is not float:
            return "" if cell is None else cell
        return repr(cell) if digits is None else f"{cell:.{digits}g}"

    names = list(param_names)
    steps = range(1, max((max(prior.curve, default=0) for prior in priors), default=0) + 1)
    fixed = ("trial", *OURS.required, OURS.epochs, OURS.seconds, OURS.dataset)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        [*fixed, *(OURS.param + name for name in names), *(f"{OURS.curve}{k}" for k in steps)]
    )
    for prior in priors:
        seconds = None if prior.seconds is None else f"{prior.seconds:.3f}"
        row = [
            prior.where.removeprefix("trial "), "pruned" if prior.problem else "complete",
            float(prior.value), prior.metric, prior.direction, prior.epochs, seconds,
            prior.dataset, *(prior.params.get(name) for name in names),
            *(prior.curve.get(k) for k in steps),
        ]  # fmt: skip
        writer.writerow(map(text, row))
    return out.getvalue()
