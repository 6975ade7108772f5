"""Putting prior trials into a study, once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from optuna_deepweeds import attributes
from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.priors.matching import Dropped, match_priors
from optuna_deepweeds.priors.record import Direction, PriorTrial
from optuna_deepweeds.spaces import SearchSpace

AddTrials = Callable[[optuna.Study, Sequence[FrozenTrial]], None]


@dataclass(frozen=True)
class ImportSummary:
    """What an import did.

    Attributes:
        read: Rows given.
        added: Rows that became finished trials of the study.
        enqueued: Rows whose parameters now wait to be trained again.
        present: Rows that an earlier import had brought.
        dropped: Rows that are no observations of this study, with reasons.
        ignored: Parameter unknown to the space -> rows with it.
    """

    read: int
    added: int
    enqueued: int
    present: int
    dropped: tuple[Dropped, ...]
    ignored: Mapping[str, int]

    def lines(self) -> list[str]:
        """The summary for people, one line a fact."""
        text = [f"{self.read} prior trials read: {self.added} added, {self.enqueued} enqueued"]
        if self.present:
            text[0] += f", {self.present} already there"
        text[0] += f", {len(self.dropped)} dropped."
        rules: dict[str, list[str]] = {}
        for drop in self.dropped:
            rules.setdefault(drop.rule, []).append(drop.prior.where)
        for rule, places in sorted(rules.items(), key=lambda item: -len(item[1])):
            more = f" and {len(places) - 3} more" if len(places) > 3 else ""
            text.append(f"  dropped {len(places)}: {rule} ({', '.join(places[:3])}{more})")
        if self.ignored:
            names = ", ".join(f"{name} ({n})" for name, n in self.ignored.items())
            text.append(f"  ignored columns, with rows that have them: {names}")
        return text


def import_priors(
    study: optuna.Study,
    space: SearchSpace,
    priors: Sequence[PriorTrial],
    *,
    enqueue_best: int = 0,
    max_epochs: int | None = None,
    add: AddTrials | None = None,
) -> ImportSummary:
    """Add prior trials of the same task to `study` as finished trials, the best to its queue.

    The best `enqueue_best` different configurations are enqueued instead of added: the study
    trains them itself. Each row leaves its fingerprint, so that importing it again, even after
    an import that was cut off, adds nothing. Two imports at once need the caller's lock.

    Args:
        study: A study with one objective over `space`.
        space: The study's space; rows outside it are dropped.
        priors: Rows of any metric direction; errors and accuracies are converted.
        enqueue_best: Number of configurations to enqueue.
        max_epochs: Epochs of a full training in this study; rows with fewer are dropped.
        add: Adds finished trials faster than `study.add_trials`, if given.

    Raises:
        InvalidInputError: `enqueue_best` is negative, or the study has several objectives.
    """
    if enqueue_best < 0:
        raise InvalidInputError(f"`enqueue_best >= 0` must hold, but got {enqueue_best}.")
    if len(study.directions) != 1:
        raise InvalidInputError("priors need a study with one objective.")
    matching = match_priors(priors, space, max_epochs=max_epochs)
    direction: Direction = (
        "minimize" if study.direction == optuna.study.StudyDirection.MINIMIZE else "maximize"
    )
    kept, turned = _in_direction(matching.kept, direction)
    added_before, enqueued_before = _fingerprints(study)
    best = _best(kept, enqueue_best)
    waiting = [p for p in best if fingerprint(p) not in enqueued_before]
    handled = added_before | enqueued_before | {fingerprint(p) for p in best}
    finished: list[PriorTrial] = []
    for prior in kept:
        mark = fingerprint(prior)
        if mark not in handled:
            handled.add(mark)
            finished.append(prior)
    (add or _add)(study, [_frozen(prior, space) for prior in finished])
    for prior in waiting:
        study.enqueue_trial(
            dict(prior.params),
            user_attrs={attributes.ENQUEUED_PRIOR: fingerprint(prior)},
        )
    summary = ImportSummary(
        read=len(priors),
        added=len(finished),
        enqueued=len(waiting),
        present=len(kept) - len(finished) - len(waiting),
        dropped=matching.dropped + turned,
        ignored=matching.ignored,
    )
    _record(study, priors, summary)
    return summary


def fingerprint(prior: PriorTrial) -> str:
    """Digest of source, parameters and value: equal for the same row however it is read."""
    # Ten digits: 1 - (1 - value) is not always value.
    content = [prior.source, sorted(prior.params.items()), f"{prior.value:.10g}"]
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def convert(prior: PriorTrial, direction: Direction) -> PriorTrial | None:
    """`prior` with value and curve in `direction`, or None if its metric cannot be turned."""
    if prior.direction == direction:
        return prior
    other = {"accuracy": "error", "error": "accuracy"}.get(prior.metric)
    if other is None or not all(0 <= v <= 1 for v in (prior.value, *prior.curve.values())):
        return None
    return replace(
        prior,
        value=1 - prior.value,
        curve={epoch: 1 - value for epoch, value in prior.curve.items()},
        metric=other,
        direction=direction,
    )


def _in_direction(
    priors: Sequence[PriorTrial], direction: Direction
) -> tuple[list[PriorTrial], tuple[Dropped, ...]]:
    kept, dropped = [], []
    for prior in priors:
        converted = convert(prior, direction)
        if converted is None:
            rule = f"the metric must be an accuracy or error from 0 to 1 to {direction}"
            reason = f"{rule}, but is {prior.metric} = {prior.value:g}"
            dropped.append(Dropped(prior, rule, reason))
        else:
            kept.append(converted)
    return kept, tuple(dropped)


def _best(priors: Sequence[PriorTrial], k: int) -> list[PriorTrial]:
    """The `k` best priors of different parameters; the earlier row wins a tie."""
    best: dict[str, PriorTrial] = {}
    for prior in sorted(priors, key=lambda p: p.loss):
        if len(best) == k:
            break
        best.setdefault(json.dumps(sorted(prior.params.items()), default=str), prior)
    return list(best.values())


def _fingerprints(study: optuna.Study) -> tuple[set[str], set[str]]:
    """Fingerprints in `study`: of added rows and of enqueued ones."""
    added: set[str] = set()
    enqueued: set[str] = set()
    for trial in study.get_trials(deepcopy=False):
        added.add(trial.user_attrs.get(attributes.PRIOR_ROW, ""))
        enqueued.add(trial.user_attrs.get(attributes.ENQUEUED_PRIOR, ""))
    return added, enqueued


def _record(study: optuna.Study, priors: Sequence[PriorTrial], summary: ImportSummary) -> None:
    """Leave the summary in the study, one entry for each set of sources; counts add up."""
    if not priors:
        return
    name = ", ".join(dict.fromkeys(prior.source for prior in priors))
    record = dict(study.user_attrs.get(attributes.PRIOR_SUMMARY, {}))
    before = record.get(name, {})
    rules: dict[str, int] = {}
    for drop in summary.dropped:
        rules[drop.rule] = rules.get(drop.rule, 0) + 1
    record[name] = {
        "read": summary.read,
        "added": int(before.get("added", 0)) + summary.added,
        "enqueued": int(before.get("enqueued", 0)) + summary.enqueued,
        "dropped": rules,
        "ignored": dict(summary.ignored),
    }
    if record[name] != before:
        study.set_user_attr(attributes.PRIOR_SUMMARY, record)


def _frozen(prior: PriorTrial, space: SearchSpace) -> FrozenTrial:
    user_attrs: dict[str, Any] = {
        attributes.PRIOR: prior.source,
        attributes.PRIOR_ROW: fingerprint(prior),
    }
    if prior.seconds is not None:
        user_attrs[attributes.TRAIN_SECONDS] = float(prior.seconds)
    return create_trial(
        state=TrialState.COMPLETE,
        value=float(prior.value),
        params=dict(prior.params),
        # The study's own distribution objects: a narrower range would take the parameter out
        # of every sampler's relative search space for good.
        distributions={name: space[name].distribution for name in prior.params},
        user_attrs=user_attrs,
        intermediate_values=dict(prior.curve),
    )


def _add(study: optuna.Study, trials: Sequence[FrozenTrial]) -> None:
    study.add_trials(trials)
