"""The words and tables of one study: summary, best trials, failures, priors, test results."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna_deepweeds import attributes
from optuna_deepweeds.report.standing import duration, saved_share
from optuna_deepweeds.report.view import StudyView
from optuna_deepweeds.studies.accounting import epochs_trained

_DIGESTS = ("dataset_fingerprint",)  # Twelve digits tell them apart.


@dataclass(frozen=True)
class Table:
    """Column names and rows of cells; None is an empty cell."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


def resume_command(view: StudyView) -> str:
    """The shell command that goes on with the study."""
    return f"optuna-deepweeds study resume {shlex.quote(view.name)}"


def cards(view: StudyView) -> list[tuple[str, str]]:
    """(label, figure) of the summary's head."""
    p = view.progress
    best = "–" if p.best is None or p.best.value is None else f"{p.best.value:.4g}"
    found = [
        (f"best {view.metric}", best),
        ("finished trials", f"{p.finished}"),
        ("epochs trained", f"{p.epochs:,}"),
        ("time", duration(p.seconds)),
    ]
    share = saved_share(p, view.epochs)
    if share is not None and p.epochs:
        found.insert(3, ("epochs saved", f"{share:.0%}"))
    return found


def spec_table(view: StudyView) -> Table:
    """The specification and the budget."""
    rows: list[tuple[Any, ...]] = [
        (name.replace("_", " "), _plain(str(value)[:12] if name in _DIGESTS else value))
        for name, value in view.spec.items()
        if value not in (None, "", [], ()) and name not in ("direction", "metric")
    ]
    rows.append(("objective", f"{view.direction.name.lower()} {view.metric}"))
    budget = view.user_attrs.get(attributes.BUDGET) or {}
    limits = [f"{_plain(v)} {k}" for k, v in budget.items() if v is not None]
    if limits:
        rows.append(("budget", ", ".join(limits)))
    return Table(("setting", "value"), tuple(rows))


def best_table(view: StudyView, n: int = 10) -> Table:
    """The best trials with their parameters."""
    names = view.param_names
    rows = []
    for trial in view.ranked[:n]:
        origin = trial.user_attrs.get(attributes.ORIGIN)
        remark = f"continues {origin}" if origin is not None else ""
        if attributes.ENQUEUED_PRIOR in trial.user_attrs:
            remark = ", ".join(filter(None, (remark, "from a prior")))
        params = (trial.params.get(name) for name in names)
        rows.append((trial.number, trial.value, *params, remark or None))
    return Table(("trial", view.metric, *names, "remark"), tuple(rows))


def transposed(content: Table) -> Table:
    """Rows as columns, for tables of many columns and few rows; the first column names them."""
    lines = zip(content.columns, *content.rows, strict=True)
    head, *rows = ((name, *cells) for name, *cells in lines)
    return Table(tuple(map(str, head)), tuple(rows))


def failure_table(view: StudyView) -> Table:
    """Failed trials with their reasons."""
    rows = [
        (t.number, epochs_trained(t), t.user_attrs.get(attributes.FAILURE) or "no reason stored")
        for t in view.failures
    ]
    return Table(("trial", "epochs", "reason"), tuple(rows))


def prior_table(view: StudyView) -> Table | None:
    """What each source of priors brought, and why rows were dropped; None without priors."""
    record = view.user_attrs.get(attributes.PRIOR_SUMMARY)
    rows: list[tuple[Any, ...]] = []
    if isinstance(record, Mapping):
        for source, entry in record.items():
            dropped = entry.get("dropped") or {}
            why = "; ".join(f"{n}: {rule}" for rule, n in dropped.items())
            ignored = ", ".join(entry.get("ignored") or {})
            rows.append(
                (source, entry.get("read"), entry.get("added"), entry.get("enqueued"),
                 sum(dropped.values()), why or None, ignored or None)
            )  # fmt: skip
    columns = ("source", "read", "added", "enqueued", "dropped", "why", "ignored columns")
    return Table(columns, tuple(rows)) if rows else None


def evaluation_tables(view: StudyView) -> list[tuple[str, Table]]:
    """(title, table) for each part of the stored test results; empty if never evaluated."""
    stored = view.user_attrs.get(attributes.EVALUATION)
    if not isinstance(stored, Mapping):
        return []
    settings = [(k, stored[k]) for k in ("dataset", "protocol", "recipe") if k in stored]
    found = [("", Table(("setting", "value"), tuple(settings)))] if settings else []
    trials = [t for t in stored.get("trials") or [] if isinstance(t, Mapping)]
    if trials:
        columns = ("trial", "valid_accuracy", "mean", "sd", "macro_f1", "seeds")
        heads = ("trial", "validation", "test mean", "sd", "macro F1", "seeds")
        found.append(
            ("Retrained networks on images never looked at", _pick(trials, columns, heads))
        )
        found += _confusion(trials[0], stored.get("classes") or [])
    published = [row for row in stored.get("published") or [] if isinstance(row, Mapping)]
    if published:
        keys = ("sampler", "pruner", "mean", "seeds")
        title = "Published on the same task (other images in each split)"
        found.append((title, _pick(published, keys, keys)))
    return found


def _pick(rows: Sequence[Mapping[str, Any]], keys: Sequence[str], heads: Sequence[str]) -> Table:
    """`keys` of each row under `heads`; lists of numbers become text."""
    cells = (tuple(_figure(row.get(key)) for key in keys) for row in rows)
    return Table(tuple(heads), tuple(cells))


def _figure(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return ", ".join(f"{v:.4f}" if isinstance(v, float) else str(v) for v in value)
    return value


def _confusion(trial: Mapping[str, Any], classes: Sequence[str]) -> list[tuple[str, Table]]:
    counts = trial.get("confusion") or []
    if not counts or len(counts) != len(classes):
        return []
    recall = trial.get("recall") or {}
    rows = tuple((name, recall.get(name), *row) for name, row in zip(classes, counts, strict=True))
    title = f"Confusion of trial {trial.get('trial')}: true classes in rows, predicted in columns"
    return [(title, Table(("class", "recall", *classes), rows))]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_plain(v)}" for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(str(_plain(v)) for v in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else value
