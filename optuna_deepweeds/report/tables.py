"""The tables of one study, and the sentence on its anticipations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from optuna_deepweeds import attributes
from optuna_deepweeds.datasets import NOTES
from optuna_deepweeds.report.calibration import Foreseen, summary
from optuna_deepweeds.report.published import published_rows
from optuna_deepweeds.report.standing import counted, duration, saved_share, state_of
from optuna_deepweeds.report.view import StudyView
from optuna_deepweeds.studies.accounting import epochs_trained
from optuna_deepweeds.trials import forecast


@dataclass(frozen=True)
class Table:
    """Column names and rows of cells; None is an empty cell."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    @property
    def records(self) -> list[dict[str, Any]]:
        """The rows by column name."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]

    @property
    def numeric(self) -> list[bool]:
        """Whether most cells of each column are numbers."""
        columns = [[row[i] for row in self.rows] for i in range(len(self.columns))]
        return [
            2 * sum(type(v) in (int, float) for v in cells) > sum(v is not None for v in cells)
            for cells in columns
        ]

    @property
    def transposed(self) -> Table:
        """Rows as columns, for many columns and few rows; the first column names them."""
        head, *rows = zip(self.columns, *self.rows, strict=True)
        return Table(tuple(map(str, head)), tuple(rows))


def cards(view: StudyView) -> list[tuple[str, str]]:
    """(label, figure) of the summary's head."""
    p = view.progress
    share = saved_share(p, view.epochs) if p.epochs else None
    found = (
        (f"best {view.metric}", p.best and f"{p.best.value:.4g}"),
        ("finished trials", f"{p.finished:,}"),
        ("epochs trained", p.epochs and f"{p.epochs:,}"),
        ("epochs saved", share and f"{share:.0%}"),
        ("time", duration(p.seconds)),
    )
    return [(label, figure) for label, figure in found if figure]


def spec_table(view: StudyView) -> Table:
    """The specification and the budget."""
    kind = view.spec.get("kind", "images")
    hidden = {"direction", "metric", "space_data", "kind", "dataset_fingerprint"}
    hidden |= set() if kind == "images" else {"fold", "size"}
    hidden |= set() if view.has_priors else {"priors"}
    names = {} if kind == "images" else {"dataset": kind}
    rows = [
        (names.get(name, name.replace("_", " ")), cell(value, "g"))
        for name, value in view.spec.items()
        if value not in (None, "", [], ()) and name not in hidden
    ]
    rows.append(("goal", f"{view.direction.name.lower()} {view.metric}"))
    limits = [
        duration(v) if k == "seconds" else counted(v, k.removesuffix("s"))
        for k, v in view.stored(attributes.BUDGET).items()
        if type(v) in (int, float)
    ]
    if limits:
        rows.append(("budget", ", ".join(limits)))
    return Table(("setting", "value"), tuple(rows))


def best_table(view: StudyView, n: int = 10) -> Table:
    """The best trials, one a column, with their parameters."""
    names = view.param_names
    rows = []
    for trial in view.ranked[:n]:
        origin = trial.user_attrs.get(attributes.ORIGIN)
        remarks = [f"continues {origin}"] * (origin is not None)
        remarks += ["from a prior"] * (attributes.ENQUEUED_PRIOR in trial.user_attrs)
        params = (trial.params.get(name) for name in names)
        rows.append((trial.number, trial.value, *params, ", ".join(remarks) or None))
    heads = ("trial", view.metric, *names, *["remark"] * any(row[-1] for row in rows))
    return Table(heads, tuple(row[: len(heads)] for row in rows)).transposed


def trial_table(view: StudyView) -> Table:
    """Every trial: how it ended or is expected to, and the command that trains it again."""
    columns = ("number", "state", "value", "epochs", "expected", "low", "high", "note")
    rows = []
    for trial in view.trials:
        row = trial_row(trial, view.outlook, view.replaced)
        rows.append((*(row[name] for name in columns), view.again(trial)))
    heads = ("trial", *columns[1:], "trains it again")
    is_told = [i == 0 or any(row[i] for row in rows) for i in range(len(heads))]
    heads, *rows = (tuple(compress(row, is_told)) for row in (heads, *rows))
    return Table(heads, tuple(rows))


def trial_row(
    trial: FrozenTrial, outlook: Mapping[int, Foreseen], replaced: Mapping[int, int] | None = None
) -> dict[str, Any]:
    """What lists of trials tell of `trial`: what is foreseen of it, and which one replaced it."""
    attrs, notes, foreseen = trial.user_attrs, [], outlook.get(trial.number)
    if attributes.ENQUEUED_PRIOR in attrs:
        notes.append("enqueued prior")
    if attributes.RETRY_OF in attrs:
        notes.append(f"retry of {attrs[attributes.RETRY_OF]}")
    if replaced and trial.number in replaced:
        notes.append(f"goes on as {replaced[trial.number]}")
    elif trial.state == TrialState.FAIL and attrs.get(attributes.FAILURE):
        notes.append(str(attrs[attributes.FAILURE]))
    elif trial.state == TrialState.PRUNED and forecast(trial).get("reason"):
        notes.append(str(forecast(trial)["reason"]))
    return {
        "number": trial.number,
        "state": state_of(trial),
        "value": trial.value if trial.state.is_finished() else None,
        "epochs": max(trial.intermediate_values, default=0),
        "epochs_trained": epochs_trained(trial),
        "seconds": attrs.get(attributes.TRAIN_SECONDS),
        **{k: getattr(foreseen, k, None) for k in ("expected", "low", "high")},
        "origin": attrs.get(attributes.ORIGIN),
        "note": "; ".join(notes) or None,
        "reason": attrs.get(attributes.FAILURE),
        "traceback": attrs.get(attributes.TRACEBACK),
        "prior": attrs.get(attributes.PRIOR),
    }


def failure_table(view: StudyView) -> Table:
    """Reasons why trials failed, the most frequent first."""
    numbers: dict[str, list[int]] = {}
    for t in view.failures:
        reason = t.user_attrs.get(attributes.FAILURE) or "no reason stored"
        numbers.setdefault(reason, []).append(t.number)
    rows = sorted(numbers.items(), key=lambda item: -len(item[1]))
    told = ((why, len(n), ", ".join(map(str, n[:10])) + ", …" * (len(n) > 10)) for why, n in rows)
    return Table(("reason", "trials", "numbers"), tuple(told))


def prior_table(view: StudyView) -> Table:
    """What each source of priors brought, and why rows were dropped."""
    rows = []
    for source, entry in view.stored(attributes.PRIOR_SUMMARY).items():
        if not isinstance(entry, Mapping):
            continue  # Another program's.
        dropped = entry.get("dropped") or {}
        why = "; ".join(f"{n}: {rule}" for rule, n in dropped.items())
        ignored = ", ".join(entry.get("ignored") or {})
        counts = (entry.get(key) for key in ("read", "added", "enqueued"))
        rows.append((source, *counts, sum(dropped.values()), why or None, ignored or None))
    columns = ("source", "read", "added", "enqueued", "dropped", "why", "ignored columns")
    return Table(columns, tuple(rows))


def anticipation_sentence(view: StudyView) -> str:
    """How the forecasts turned out, or an empty text without any."""
    if not view.judged:
        return ""
    n, error, inside = summary(view.judged).values()
    text = (
        f"{counted(n, 'forecast')} can be judged: off by {error:.2g} on average, {inside:.0%} of "
        "what came lay in the interval foreseen."
    )
    return text if n >= 10 else f"{text} That is little to go by."


def evaluation_tables(view: StudyView) -> list[tuple[str, Table]]:
    """(title, table) for each part of the stored test results; empty if never evaluated."""
    stored = view.stored(attributes.EVALUATION)
    settings = [(k, stored[k]) for k in ("dataset", "protocol", "recipe") if k in stored]
    if (note := NOTES.get(str(stored.get("dataset")))) is not None:
        settings.append(("scenes", note))
    found = [("", Table(("setting", "value"), tuple(settings)))] if settings else []
    tested, confusion = tested_table(view), confusion_table(stored)
    if tested is not None:
        found.append(("Retrained networks on images never looked at", tested))
    if confusion is not None:
        title = f"Confusion of trial {stored['trials'][0].get('trial')}"
        found.append((f"{title}: true classes in rows, predicted in columns", confusion))
    published = published_rows(stored.get("dataset"))
    if published:
        keys = ("sampler", "pruner", "mean", "seeds")
        title = "Published on the same task (other images in each split)"
        found.append((title, _pick(published, keys, keys)))
    return found


def tested_table(view: StudyView) -> Table | None:
    """The retrained networks on the test images; None without any."""
    trials = view.stored(attributes.EVALUATION).get("trials") or []
    columns = ("trial", "valid_accuracy", "mean", "sd", "macro_f1", "seeds")
    heads = ("trial", "validation", "test mean", "sd", "macro F1", "seeds")
    return _pick(trials, columns, heads) if trials else None


def confusion_table(stored: Mapping[str, Any]) -> Table | None:
    """Confusion counts and recall of the first evaluated trial; None if none are stored."""
    trial: Mapping[str, Any] = next(iter(stored.get("trials") or ()), {})
    counts, classes = trial.get("confusion") or [], stored.get("classes") or []
    if not counts or len(counts) != len(classes):
        return None
    recall = trial.get("recall") or {}
    rows = ((name, recall.get(name), *row) for name, row in zip(classes, counts, strict=True))
    return Table(("class", "recall", *classes), tuple(rows))


def _pick(rows: Sequence[Mapping[str, Any]], keys: Sequence[str], heads: Sequence[str]) -> Table:
    """`keys` of each row under `heads`."""
    return Table(tuple(heads), tuple(tuple(row.get(key) for key in keys) for row in rows))


def cell(value: Any, form: str = ".4g") -> str:
    """A value as a cell's text; fractions in `form`, in lists all with four digits."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {cell(v, form)}" for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(cell(v, ".4f") for v in value)
    return f"{value:{form}}" if isinstance(value, float) else str(value)
