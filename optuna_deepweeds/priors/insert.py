"""Putting prior trials into a study's companion, and the best into its queue, once."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from optuna_deepweeds import attributes
from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.priors.match import Matching, match_priors
from optuna_deepweeds.priors.record import Direction, PriorTrial
from optuna_deepweeds.schema import require
from optuna_deepweeds.spaces import SearchSpace
from optuna_deepweeds.trials import whole_number

AddTrials = Callable[[optuna.Study, Sequence[FrozenTrial]], None]
Choose = Callable[[Mapping[str, PriorTrial], int], Sequence[str]]


@dataclass(frozen=True)
class ImportSummary:
    """What an import did.

    Attributes:
        matching: What the study made of the rows.
        added: Rows that became trials of the companion.
        enqueued: Rows whose parameters now wait to be trained again.
    """

    matching: Matching
    added: tuple[PriorTrial, ...]
    enqueued: tuple[PriorTrial, ...]

    @property
    def n_present(self) -> int:
        """Rows that an earlier import had brought."""
        return len(self.matching.kept) - len(self.added)

    def lines(self) -> list[str]:
        """The summary for people, one line a fact."""
        n_dropped = len(self.matching.dropped)
        present = f", {self.n_present} already there" if self.n_present else ""
        first = (
            f"{len(self.matching.kept) + n_dropped} prior trials read: {len(self.added)} added, "
            f"{len(self.enqueued)} enqueued{present}, {n_dropped} dropped."
        )
        return [first, *self.matching.lines()]


def import_priors(
    study: optuna.Study,
    companion: optuna.Study,
    space: SearchSpace,
    priors: Sequence[PriorTrial],
    *,
    metric: str = "accuracy",
    enqueue_best: int = 0,
    max_epochs: int | None = None,
    add: AddTrials = optuna.Study.add_trials,
    choose: Choose | None = None,
) -> ImportSummary:
    """Add prior trials to `companion`, and the best to the queue of `study`.

    The best `enqueue_best` different configurations are enqueued, too: the study trains them
    itself. Each row leaves its fingerprint, so that importing it again, from whatever file, or
    after an import that was cut off, adds nothing. Two imports at once need the caller's lock.

    Args:
        study: A study with one objective over `space`.
        companion: The study of the same direction that holds its imported trials.
        space: The study's space; rows outside it are dropped.
        priors: Rows of any metric and direction; errors and accuracies are converted.
        metric: What `study` reports.
        enqueue_best: Number of configurations to enqueue.
        max_epochs: Epochs of a full training in this study; rows with fewer are dropped.
        add: Adds finished trials faster than `Study.add_trials`.
        choose: Given rows by fingerprint and a number, the fingerprints of those to enqueue, if
            not of the best.

    Raises:
        InvalidInputError: `enqueue_best` is negative, or the study has several objectives.
    """
    require(enqueue_best >= 0, "enqueue_best >= 0", enqueue_best=enqueue_best)
    if len(study.directions) != 1:
        raise InvalidInputError("priors need a study with one objective.")
    direction: Direction = (
        "minimize" if study.direction == optuna.study.StudyDirection.MINIMIZE else "maximize"
    )
    matching = match_priors(
        priors, space, metric=metric, direction=direction, max_epochs=max_epochs
    )
    rows = {fingerprint(prior.params, prior.value): prior for prior in reversed(matching.kept)}
    rows = dict(reversed(rows.items()))  # Of equal rows the first, in their order.
    enqueued = _marks(study, attributes.ENQUEUED_PRIOR)
    waiting = [m for m in (choose or _best)(rows, enqueue_best) if m not in enqueued]
    present = _marks(companion, attributes.PRIOR_ROW)
    new = [mark for mark in rows if mark not in present]
    add(companion, [_frozen(rows[mark], mark, space) for mark in new])
    for mark in waiting:
        study.enqueue_trial(dict(rows[mark].params), user_attrs={attributes.ENQUEUED_PRIOR: mark})
    summary = ImportSummary(
        matching, tuple(rows[mark] for mark in new), tuple(rows[mark] for mark in waiting)
    )
    _record(study, companion, priors, summary)
    return summary


def imported_counts(user_attrs: Mapping[str, Any]) -> dict[str, int]:
    """Source -> trials of it in the companion of a study with these attributes."""
    summary = user_attrs.get(attributes.PRIOR_SUMMARY)
    entries = summary.items() if isinstance(summary, Mapping) else ()
    added = {s: e.get("added") for s, e in entries if isinstance(e, Mapping)}
    return {source: n for source, n in added.items() if isinstance(n, int) and n > 0}


def n_imported(user_attrs: Mapping[str, Any]) -> int:
    """Trials in the companion of a study with these attributes."""
    return sum(imported_counts(user_attrs).values())


def fingerprint(params: Mapping[str, Any], value: float) -> str:
    """Digest of parameters and value: equal for the same row however it is read."""
    # Ten digits: 1 - (1 - value) is not always value.
    content = [sorted(params.items()), f"{value:.10g}"]
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _best(rows: Mapping[str, PriorTrial], k: int) -> list[str]:
    """Fingerprints of the `k` best rows of different parameters; the earlier wins a tie."""
    best: dict[str, str] = {}
    for mark in sorted(rows, key=lambda mark: rows[mark].loss):
        if len(best) == k:
            break
        best.setdefault(json.dumps(sorted(rows[mark].params.items()), default=str), mark)
    return list(best.values())


def _marks(study: optuna.Study, key: str) -> set[str]:
    """Fingerprints that trials of `study` carry under `key`."""
    return {t.user_attrs[key] for t in study.get_trials(deepcopy=False) if key in t.user_attrs}


def _record(
    study: optuna.Study,
    companion: optuna.Study,
    priors: Sequence[PriorTrial],
    summary: ImportSummary,
) -> None:
    """Leave the summary in the study, one entry a source.

    Read, dropped and ignored are those of the last import of a source, added and enqueued what
    there is of it.
    """
    if not priors:
        return
    stored = study.user_attrs.get(attributes.PRIOR_SUMMARY)
    entries = stored.items() if isinstance(stored, Mapping) else ()
    record = {source: entry for source, entry in entries if isinstance(entry, Mapping)}
    there = Counter(t.user_attrs.get(attributes.PRIOR) for t in companion.get_trials(False))
    enqueued = Counter(prior.source for prior in summary.enqueued)
    for source, n_read in Counter(prior.source for prior in priors).items():
        before: Mapping[str, Any] = record.get(source, {})
        dropped = [d.rule for d in summary.matching.dropped if d.prior.source == source]
        record[source] = {
            "read": n_read,
            "added": there[source],
            "enqueued": whole_number(before.get("enqueued"), 0) + enqueued[source],
            "dropped": dict(Counter(dropped)),
            "ignored": dict(summary.matching.ignored),
        }
    if record != stored:
        study.set_user_attr(attributes.PRIOR_SUMMARY, record)


def _frozen(prior: PriorTrial, mark: str, space: SearchSpace) -> FrozenTrial:
    user_attrs: dict[str, Any] = {attributes.PRIOR: prior.source, attributes.PRIOR_ROW: mark}
    if prior.seconds is not None:
        user_attrs[attributes.TRAIN_SECONDS] = float(prior.seconds)
    if prior.is_forecast:
        foreseen = dict.fromkeys(("low", "high", "incumbent", "decision", "reason"))
        foreseen |= {"epoch": prior.epochs, "expected": prior.value}
        user_attrs[attributes.ANTICIPATION] = foreseen
    return create_trial(
        state=TrialState.PRUNED if prior.is_forecast else TrialState.COMPLETE,
        value=float(prior.value),
        params=dict(prior.params),
        distributions={name: space[name].distribution for name in prior.params},
        user_attrs=user_attrs,
        intermediate_values=dict(prior.curve),
    )
