"""CSV files of trials, one row a trial: our own (see priors/README.md) and the lecture's.

A defect of the whole file is an error that names the line; a defect of a row makes that row a
prior with a problem, which is counted and listed like any other that cannot be used.

Source of the lecture's: final project of the AutoML lecture SS 2023, Freiburg and Hannover; `cost`
is 1 - validation accuracy and `budget` counts epochs.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.priors.record import (
    WAYS,
    Direction,
    PriorTrial,
    canonical_metric,
    parse_cell,
)


@dataclass(frozen=True)
class Format:
    """Which columns mean what.

    Attributes:
        required: Columns that must exist, by which the format is recognised.
        param: Prefix of a parameter's column.
        curve: Prefix of the column of an epoch's value; empty without any.
        value, epochs, seconds, dataset, state: Columns.
        states: What a state (in small letters) makes of a row: "" for a whole training, else its
            problem; other states are problems of their own.
        metric: The column that names the metric, or the metric of all.
        direction: The column that names the direction; empty where the metric tells.
    """

    required: tuple[str, ...]
    param: str
    value: str
    epochs: str
    seconds: str
    dataset: str
    state: str
    states: Mapping[str, str]
    metric: str
    direction: str = ""
    curve: str = ""


OURS = Format(
    required=("state", "value", "metric", "direction"),
    param="param:",
    value="value",
    epochs="epochs",
    seconds="seconds",
    dataset="dataset",
    state="state",
    states={"complete": "", "pruned": "stopped early"},
    metric="metric",
    direction="direction",
    curve="epoch_",
)
LECTURE = Format(
    required=("cost", "budget", "status"),
    param="config:",
    value="cost",
    epochs="budget",
    seconds="time",
    dataset="config:dataset",
    state="status",
    states={"success": "", "donotadvance": ""},
    metric="error",
)
FORMATS = (OURS, LECTURE)


class _Defect(Exception):
    """Why a row cannot be used."""


def read_csv(path: str, source: str, text: str) -> list[PriorTrial]:
    """Read the text of a CSV file of one of `FORMATS`; the trials name `source`.

    Raises:
        InvalidInputError: It is of no format, a column is missing or occurs twice, or its quoting
            is broken.
    """
    reader = csv.reader(io.StringIO(text), strict=True)
    try:
        header = next(reader, [])
        form = _format_of(path, header)
        return [
            _read_row(form, header, cells, source, f"line {reader.line_num}")
            for cells in reader
            if any(cell.strip() for cell in cells)  # Excel ends a file with rows of commas.
        ]
    except csv.Error as error:
        where = f"{path}, line {reader.line_num}"
        raise InvalidInputError(f"{where}: must be CSV, but {error}.") from None


def _format_of(path: str, header: Sequence[str]) -> Format:
    marks = [set(form.required) <= set(header) for form in FORMATS]
    marks += [any(c.startswith(form.param) for c in header) for form in FORMATS]
    if not any(marks):
        raise InvalidInputError(
            f"{path} must be a CSV of trials (columns state, value, metric, direction, param:*), "
            "a run-history CSV (columns cost, budget, status, config:*) or SMAC3's "
            "runhistory.json, but its first line is none of these headers."
        )
    form = FORMATS[marks.index(True) % len(FORMATS)]
    missing = [column for column in form.required if column not in header]
    if missing:
        raise InvalidInputError(
            f"{path}, line 1: the columns {', '.join(form.required)} must exist, "
            f"but {', '.join(missing)} is missing."
        )
    twice = sorted({column for column in header if header.count(column) > 1})
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


def _read_row(
    form: Format, header: Sequence[str], cells: Sequence[str], source: str, where: str
) -> PriorTrial:
    row = dict(zip(header, map(str.strip, cells), strict=False))
    params = {
        column.removeprefix(form.param): value
        for column, cell in row.items()
        if column.startswith(form.param) and (value := parse_cell(cell)) is not None
    }
    empty = PriorTrial(params, math.nan, "maximize", "", source, where)
    try:
        if len(cells) != len(header):
            raise _Defect(f"has {len(cells)} cells, the header {len(header)}")
        return _read_cells(form, row, empty)
    except _Defect as defect:
        return replace(empty, problem=str(defect))


def _read_cells(form: Format, row: Mapping[str, str], empty: PriorTrial) -> PriorTrial:
    metric = canonical_metric(row[form.metric] if form.metric in row else form.metric)
    direction = row[form.direction].lower() if form.direction else WAYS[metric]
    if direction not in ("maximize", "minimize"):
        raise _Defect(f"{form.direction} is {direction or 'empty'}")
    state = row[form.state].rpartition(".")[2]  # As in "StatusType.SUCCESS".
    curve = {}
    for column, cell in row.items():
        if form.curve and column.startswith(form.curve) and cell:
            curve[int(column.removeprefix(form.curve))] = _number(row, column)
    epochs = _number(row, form.epochs) if row.get(form.epochs) else max(curve, default=0)
    if epochs < 0 or not float(epochs).is_integer():
        raise _Defect(f"{form.epochs} is {epochs:g}, no whole number of epochs")
    way: Direction = "maximize" if direction == "maximize" else "minimize"
    return PriorTrial(
        params=empty.params,
        value=_number(row, form.value),
        direction=way,
        metric=metric,
        source=empty.source,
        where=empty.where,
        curve=dict(sorted(curve.items())),
        epochs=int(epochs) or None,
        seconds=_number(row, form.seconds) if row.get(form.seconds) else None,
        dataset=row.get(form.dataset) or None,
        problem=form.states.get(state.lower(), f"{form.state} is {state or 'empty'}"),
    )


def _number(row: Mapping[str, str], column: str) -> float:
    """The cell as a float; NaN and infinities pass."""
    try:
        return float(row[column])
    except ValueError:
        raise _Defect(f"{column} is {row[column]!r}, no number") from None


def write_csv(priors: Sequence[PriorTrial], *, param_names: Iterable[str]) -> str:
    """Our own CSV of `priors` as text, parameters in the order of `param_names`.

    Floats are written so that reading gives the same numbers again.
    """
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
        writer.writerow(["" if c is None else repr(c) if type(c) is float else c for c in row])
    return out.getvalue()
