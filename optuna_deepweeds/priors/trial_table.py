"""Our own CSV of trials, one row a trial with its learning curve; see priors/README.md.

| column        | meaning                                                              |
|---------------|----------------------------------------------------------------------|
| trial         | number of the trial in the study it comes from                       |
| state         | complete or pruned                                                   |
| value         | value at the last epoch                                              |
| metric        | accuracy, error or another name                                      |
| direction     | maximize or minimize                                                 |
| epochs        | epochs trained                                                       |
| seconds       | seconds trained                                                      |
| dataset       | name of the data set                                                 |
| param:NAME    | one column a parameter; empty where it is inactive                   |
| epoch_K       | value after epoch K; empty where it was not trained or not reported  |
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from optuna_deepweeds.priors.csv_rows import Row, read_rows
from optuna_deepweeds.priors.record import PriorTrial, canonical_metric, parse_cell

_PARAM = "param:"
_EPOCH = "epoch_"
REQUIRED = ("state", "value", "metric", "direction")
"""What a header must hold to be our CSV."""
_FIXED = ("trial", "state", "value", "metric", "direction", "epochs", "seconds", "dataset")


def read_csv(path: str, source: str, text: str) -> list[PriorTrial]:
    """Read our own CSV.

    Raises:
        InvalidInputError: The file breaks its format; the message names line and column.
    """
    return [_from_row(row, source) for row in read_rows(path, text, required=REQUIRED)]


def _from_row(row: Row, source: str) -> PriorTrial:
    state = row.text("state", choices=("complete", "pruned"))
    params = {}
    curve = {}
    for column, cell in row.cells.items():
        if column.startswith(_PARAM):
            value = parse_cell(cell)
            if value is not None:
                params[column.removeprefix(_PARAM)] = value
        elif column.startswith(_EPOCH):
            reported = row.number(column, required=False)
            if reported is not None:
                curve[_epoch(row, column)] = reported
    final = row.number("value")
    assert final is not None
    epochs = row.count("epochs") or max(curve, default=0) or None
    return PriorTrial(
        params=params,
        value=final,
        direction="maximize" if _direction(row) == "maximize" else "minimize",
        metric=canonical_metric(row.text("metric")),
        source=source,
        where=f"line {row.line}",
        curve=dict(sorted(curve.items())),
        epochs=epochs,
        seconds=row.number("seconds", required=False),
        dataset=row.text("dataset") or None,
        problem="" if state == "complete" else "stopped early",
    )


def _direction(row: Row) -> str:
    return row.text("direction", choices=("maximize", "minimize"))


def _epoch(row: Row, column: str) -> int:
    number = column.removeprefix(_EPOCH)
    if not number.isdecimal() or int(number) < 1:
        raise row.error(column, "must be epoch_K with a whole K >= 1")
    return int(number)


def write_csv(priors: Sequence[PriorTrial], *, param_names: Iterable[str]) -> str:
    """Our own CSV of `priors` as text, parameters in the order of `param_names`.

    Floats are written so that reading gives the same numbers again.
    """
    names = list(param_names)
    last = max((max(prior.curve, default=0) for prior in priors), default=0)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        [*_FIXED, *(_PARAM + n for n in names), *(f"{_EPOCH}{k}" for k in range(1, last + 1))]
    )
    for prior in priors:
        writer.writerow(
            [
                prior.where.removeprefix("trial "),
                "pruned" if prior.problem else "complete",
                repr(float(prior.value)),
                prior.metric,
                prior.direction,
                _cell(prior.epochs),
                "" if prior.seconds is None else f"{prior.seconds:.3f}",
                prior.dataset or "",
                *(_cell(prior.params.get(name)) for name in names),
                *(_cell(prior.curve.get(k)) for k in range(1, last + 1)),
            ]
        )
    return out.getvalue()


def _cell(value: object) -> str:
    if value is None:
        return ""
    return repr(value) if isinstance(value, float) else str(value)
