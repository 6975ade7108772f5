"""Methods compared over their seeds: who is better, by how much, and is that enough to tell.

A method is what all studies of a group share: their specification without the seed. Studies of
other programs form groups of their own by name.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np

from optuna_deepweeds import attributes
from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.report.incumbent import Axis, Trajectory, trajectory
from optuna_deepweeds.report.published import (
    PUBLISHED,
    PUBLISHED_DATASET,
    Published,
    split_sentence,
)
from optuna_deepweeds.report.statistics import (
    Estimate,
    PairedTest,
    average_ranks,
    difference_sentence,
    geometric_mean,
    paired_tests,
    savings_sentence,
    shared_seeds,
)
from optuna_deepweeds.report.tables import Table
from optuna_deepweeds.report.view import StudyView

_NAMING = ("sampler", "pruner")
_EXTRA = ("thaw", "priors", "dataset", "fold", "space", "epochs", "sources")
# Fields that never make two studies different methods.
_NEVER = ("seed", "dataset_fingerprint", "direction", "metric")


@dataclass(frozen=True)
class Method:
    """The studies of one method.

    Attributes:
        label: Its name in tables and legends.
        views: Seed -> study.
    """

    label: str
    views: Mapping[Hashable, StudyView]

    @cached_property
    def runs(self) -> dict[Hashable, Trajectory]:
        """Seed -> the study's incumbent over what it cost."""
        return {seed: trajectory(view) for seed, view in self.views.items()}

    @property
    def final(self) -> dict[Hashable, float]:
        """Seed -> the study's last incumbent; studies without a finished trial are left out."""
        return {s: float(run.values[-1]) for s, run in self.runs.items() if len(run.values)}

    @property
    def tested(self) -> dict[Hashable, float]:
        """Seed -> accuracy of the best network on the test split, where it was evaluated."""
        found = {s: tested_accuracy(view) for s, view in self.views.items()}
        return {s: value for s, value in found.items() if value is not None}

    @property
    def published(self) -> Published | None:
        """The published method that is this one, if there is one."""
        view = next(iter(self.views.values()))
        sampler = str(view.spec.get("sampler")) + (" with priors" if view.n_priors else "")
        key = (sampler, view.spec.get("pruner"))
        return next((p for p in PUBLISHED if (p.sampler, p.pruner) == key), None)


@dataclass(frozen=True)
class Comparison:
    """Methods that optimise one metric.

    Attributes:
        methods: In the order in which their studies were given.
        metric: What a trial's value measures.
        sign: +1 if larger values are better, else -1.
        baseline: Label of the method that the others are tested against.
        remarks: What the reader should know before any figure.
    """

    methods: tuple[Method, ...]
    metric: str
    sign: float
    baseline: str
    remarks: tuple[str, ...] = field(default=())

    @property
    def published(self) -> tuple[Published, ...]:
        """Published results on the same task; empty if the studies have another one."""
        specs = [view.spec for m in self.methods for view in m.views.values()]
        is_same = all(spec.get("dataset") == PUBLISHED_DATASET for spec in specs)
        return PUBLISHED if is_same else ()

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Every method against the baseline; all pairs while they are few."""
        labels = [m.label for m in self.methods]
        if len(labels) <= 4:
            ordered = [*(x for x in labels if x != self.baseline), self.baseline]
            return list(combinations(ordered, 2))
        return [(label, self.baseline) for label in labels if label != self.baseline]

    @cached_property
    def tests(self) -> list[PairedTest]:
        """Paired tests of the final incumbents, corrected together."""
        return paired_tests({m.label: m.final for m in self.methods}, self.pairs)

    def savings(self, first: str, second: str, axis: Axis) -> tuple[Estimate, int]:
        """Cost of `second` over that of `first` until both have what the worse one ends with.

        Returns:
            The geometric mean over shared seeds, and the number of shared seeds left out.
        """
        by_label = {m.label: m for m in self.methods}
        a, b = by_label[first], by_label[second]
        seeds = shared_seeds(a.final, b.final)
        ratios = []
        for seed in seeds:
            target = self.sign * min(self.sign * a.final[seed], self.sign * b.final[seed])
            costs = [m.runs[seed].cost_to_reach(target, axis, self.sign) for m in (a, b)]
            if all(math.isfinite(c) and c > 0 for c in costs):
                ratios.append(costs[1] / costs[0])
        n_shared = len(set(a.views) & set(b.views))
        return geometric_mean(ratios), n_shared - len(ratios)

    def sentences(self) -> list[str]:
        """What the comparison says, for people."""
        found = list(self.remarks)
        for test in self.tests:
            found.append(difference_sentence(test, self.metric, self.sign))
            if test.difference.n:
                ratio, n_out = self.savings(test.first, test.second, "epochs")
                found.append(savings_sentence(test.first, test.second, ratio, "epochs", n_out))
        if self.published:
            found += [split_sentence(), self._effort()]
        if len(self.methods) < 2:
            found.append("One method alone: there is nothing to compare it with.")
        return found

    def _effort(self) -> str:
        """What our studies spent, beside the published ones."""
        views = [view for method in self.methods for view in method.views.values()]
        spaces = sorted({str(view.spec.get("space")) for view in views})
        epochs = sorted({int(view.spec.get("epochs") or 0) for view in views})
        spent = _median([view.progress.epochs for view in views]) or 0
        minutes = (_median([view.progress.seconds for view in views]) or 0) / 60
        return (
            f"Ours: space {', '.join(spaces)}, {', '.join(map(str, epochs))} epochs a network, "
            f"{spent:.0f} epochs and {minutes:.0f} minutes a study (medians)."
        )

    def ranks(self, axis: Axis, n_points: int = 100) -> tuple[np.ndarray, np.ndarray]:
        """(n,) grid of cost and (n, n_methods) mean rank over the seeds that all methods have.

        Rank 1 is the best incumbent at that cost; both are empty without a common seed.
        """
        seeds = [s for s in self.methods[0].views if all(s in m.views for m in self.methods)]
        totals = [m.runs[s].total(axis) for s in seeds for m in self.methods]
        if not seeds or len(self.methods) < 2 or min(totals) <= 0:
            return np.empty(0), np.empty((0, len(self.methods)))
        grid = np.linspace(0.0, min(totals), n_points)
        per_seed = [
            average_ranks(
                self.sign * np.column_stack([m.runs[s].at(grid, axis) for m in self.methods])
            )
            for s in seeds
        ]
        return grid, np.mean(per_seed, axis=0)

    def method_table(self) -> Table:
        """One row a method: medians over seeds, counts, mean rank over the whole budget."""
        grid, ranks = self.ranks("epochs")
        rows = []
        for i, method in enumerate(self.methods):
            final, tested = list(method.final.values()), list(method.tested.values())
            quartiles = np.quantile(final, [0.25, 0.75]) if final else (None, None)
            progress = [v.progress for v in method.views.values()]
            finished = sum(p.finished for p in progress)
            rows.append(
                (
                    method.label,
                    len(method.views),
                    _median(final),
                    quartiles[0] if final else None,
                    quartiles[1] if final else None,
                    _median(tested),
                    _median([p.finished for p in progress]),
                    sum(p.pruned for p in progress) / finished if finished else None,
                    _median([p.epochs for p in progress]),
                    _median([p.seconds for p in progress]),
                    float(ranks[:, i].mean()) if len(grid) else None,
                )
            )
        columns = ("method", "seeds", "best", "lower_quartile", "upper_quartile", "test",
                   "trials", "stopped_share", "epochs", "seconds", "mean_rank")  # fmt: skip
        plain = tuple(tuple(_builtin(value) for value in row) for row in rows)
        return Table(columns, plain)

    def published_table(self) -> Table:
        """Ours beside the published results, a row a method; without rows for another task."""
        rows: list[tuple[Any, ...]] = []
        matched = {m.published: m for m in self.methods if m.published is not None}
        for entry in self.published:
            ours = matched.get(entry)
            tested = list(ours.tested.values()) if ours is not None else []
            trials = [v.progress.finished for v in ours.views.values()] if ours is not None else []
            rows.append(
                (
                    entry.label,
                    _each(tested, ".4f"),
                    float(np.mean(tested)) if tested else None,
                    _each(trials, ","),
                    _each(entry.test_accuracies, ".4f"),
                    entry.mean,
                    _each(entry.n_trials, ","),
                )
            )
        columns = ("method", "our_test_accuracies", "our_mean", "our_trials",
                   "published_test_accuracies", "published_mean", "published_trials")  # fmt: skip
        return Table(columns, tuple(rows))

    def test_table(self) -> Table:
        """One row a pair: difference, interval, p values, how many times fewer epochs."""
        rows = []
        for t in self.tests:
            ratio, _ = self.savings(t.first, t.second, "epochs")
            rows.append(
                (
                    t.first, t.second, t.difference.n, *map(_number, (
                        t.difference.mean, t.difference.low, t.difference.high, t.p, t.p_holm,
                        ratio.mean, ratio.low, ratio.high,
                    )),
                )
            )  # fmt: skip
        columns = ("first", "second", "seeds", "difference", "low", "high", "p", "p_holm",
                   "epochs_ratio", "ratio_low", "ratio_high")  # fmt: skip
        return Table(columns, tuple(rows))


def compare(views: Sequence[StudyView], *, baseline: str | None = None) -> Comparison:
    """Group studies into methods and set them against each other.

    Args:
        views: Studies of one direction.
        baseline: Label of the method the others are tested against; the first one whose pruner
            is none and sampler random if there is one, else the first.

    Raises:
        InvalidInputError: There is no study, directions differ, or `baseline` is no method.
    """
    if not views:
        raise InvalidInputError("a comparison needs at least one study.")
    if len({v.direction for v in views}) > 1:
        kinds = ", ".join(f"{v.name} to {v.direction.name.lower()}" for v in views)
        raise InvalidInputError(f"compared studies must have one direction, but {kinds}.")
    methods = _methods(views)
    labels = [m.label for m in methods]
    if baseline is not None and baseline not in labels:
        raise InvalidInputError(
            f"the baseline must be one of {', '.join(labels)}, but is {baseline!r}."
        )
    return Comparison(
        methods=tuple(methods),
        metric=Counter(v.metric for v in views).most_common(1)[0][0],
        sign=views[0].sign,
        baseline=baseline or _default_baseline(methods),
        remarks=tuple(_remarks(views, methods)),
    )


def _methods(views: Sequence[StudyView]) -> list[Method]:
    facts = [_facts(view) for view in views]
    fields = [*_NAMING, *_EXTRA]
    fields += sorted({name for f in facts for name in f if name not in fields})
    differing = [
        name
        for name in fields
        # Only DORA can thaw: where all its studies do, the pruner's name says enough.
        if len(
            {
                repr(f.get(name))
                for f in facts
                if f.get("sampler") and (name != "thaw" or f.get("pruner") == "dora")
            }
        )
        > 1
    ]
    groups: dict[str, dict[Hashable, StudyView]] = {}
    for view, fact in zip(views, facts, strict=True):
        group = groups.setdefault(_label(view, fact, differing), {})
        seed: Hashable = view.spec.get("seed", view.name)
        # A second study of the same seed is a repetition of its own.
        group[seed if seed not in group else f"{seed} ({view.name})"] = view
    return [Method(label, members) for label, members in groups.items()]


def _facts(view: StudyView) -> dict[str, Any]:
    if not view.spec:
        return {}
    facts = {k: v for k, v in view.spec.items() if k not in _NEVER}
    return {**facts, "priors": bool(view.n_priors)}


def _label(view: StudyView, facts: Mapping[str, Any], differing: Sequence[str]) -> str:
    if not facts:
        return view.name
    informed = " with priors" if "priors" in differing and facts["priors"] else ""
    label = f"{facts.get('sampler')}{informed} + {facts.get('pruner')}"
    for name in differing:
        value = facts.get(name)
        if name in (*_NAMING, "priors") or value is None:
            continue
        if isinstance(value, bool):
            label += f" + {name}" if value else ""
        else:
            label += f", {name} {', '.join(value) or 'none' if isinstance(value, list) else value}"
    return label


def _default_baseline(methods: Sequence[Method]) -> str:
    for start in ("random + none", "random + ", ""):
        for method in methods:
            if method.label.startswith(start) or (not start and method.label.endswith("+ none")):
                return method.label
    return methods[0].label


def _remarks(views: Sequence[StudyView], methods: Sequence[Method]) -> list[str]:
    remarks = []
    empty = [v.name for v in views if not v.ranked]
    if empty:
        remarks.append(f"No trial was trained to the end in: {', '.join(empty)}.")
    datasets = {str(v.spec.get("dataset_fingerprint")) for v in views if v.spec}
    if len(datasets) > 1:
        remarks.append("The studies do not share one data set and split: read values with care.")
    if len({v.metric for v in views}) > 1:
        names = ", ".join(sorted({v.metric for v in views}))
        remarks.append(f"The studies name different metrics ({names}).")
    totals = [run.total_epochs for m in methods for run in m.runs.values()]
    if len(totals) > 1 and min(totals) > 0 and max(totals) > 1.5 * min(totals):
        remarks.append(
            f"Studies trained {min(totals):.0f} to {max(totals):.0f} epochs: final values compare "
            "unequal budgets, the curves over epochs do not."
        )
    return remarks


def tested_accuracy(view: StudyView) -> float | None:
    """Mean test accuracy of the best trial that `study evaluate` stored, or None."""
    stored = view.user_attrs.get(attributes.EVALUATION)
    trials = stored.get("trials") if isinstance(stored, Mapping) else None
    value = trials[0].get("mean") if trials else None
    return float(value) if isinstance(value, (int, float)) else None


def _each(values: Sequence[float], form: str) -> str | None:
    """Numbers side by side, or None without any."""
    return "; ".join(f"{value:{form}}" for value in values) or None


def _median(values: Sequence[float]) -> float | None:
    return float(np.median(values)) if len(values) else None


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _builtin(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
