"""Methods compared over their seeds: who is better, by how much, and is that enough to tell."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np

from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.report.methods import Method, group, recipe
from optuna_deepweeds.report.published import (
    PUBLISHED,
    PUBLISHED_DATASET,
    Published,
)
from optuna_deepweeds.report.statistics import (
    FEW_SEEDS,
    Estimate,
    PairedTest,
    average_ranks,
    geometric_mean,
    paired_tests,
    sentence,
    shared_seeds,
)
from optuna_deepweeds.report.tables import Table
from optuna_deepweeds.report.view import StudyView


@dataclass(frozen=True)
class Comparison:
    """Methods that optimise one metric.

    Attributes:
        methods: In the order in which their studies were given.
        metric: What a trial's value measures.
        sign: +1 if larger values are better, else -1.
        baseline: Label of the method that the others are tested against.
    """

    methods: tuple[Method, ...]
    metric: str
    sign: float
    baseline: str

    @property
    def views(self) -> list[StudyView]:
        """All studies."""
        return [view for method in self.methods for view in method.views.values()]

    @property
    def limits(self) -> tuple[float, float]:
        """Between what the studies' values must lie."""
        low, high = zip(*(view.limits for view in self.views), strict=True)
        return min(low), max(high)

    @property
    def published(self) -> tuple[Published, ...]:
        """Published results on the same task; empty if the studies have another one."""
        is_same = all(view.spec.get("dataset") == PUBLISHED_DATASET for view in self.views)
        return PUBLISHED if is_same else ()

    @cached_property
    def is_tested(self) -> bool:
        """Whether every study with a finished trial was tested, all by one recipe."""
        recipes = {recipe(view) for view in self.views if view.ranked}
        return len(recipes) == 1 and None not in recipes

    @property
    def measure(self) -> str:
        """What methods are compared by: the test accuracy where all have one."""
        return "test accuracy" if self.is_tested else self.metric

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Every method against the baseline; all pairs while they are few."""
        others = [m.label for m in self.methods if m.label != self.baseline]
        if len(others) < 4:
            return list(combinations([*others, self.baseline], 2))
        return [(label, self.baseline) for label in others]

    @cached_property
    def tests(self) -> list[PairedTest]:
        """Paired tests of what the studies ended with, corrected together."""
        values = {m.label: m.tested if self.is_tested else m.final for m in self.methods}
        return paired_tests(values, self.pairs)

    def savings(self, first: str, second: str) -> Estimate:
        """Epochs of `second` over those of `first` until both have what the worse one ends with.

        The geometric mean over shared seeds; those without a finished trial are left out.
        """
        by_label = {m.label: m for m in self.methods}
        a, b = by_label[first], by_label[second]
        ratios = []
        for seed in shared_seeds(a.final, b.final):
            target = self.sign * min(self.sign * a.final[seed], self.sign * b.final[seed])
            costs = [m.runs[seed].cost_to_reach(target, "epochs", self.sign) for m in (a, b)]
            if all(math.isfinite(c) and c > 0 for c in costs):
                ratios.append(costs[1] / costs[0])
        return geometric_mean(ratios)

    def sentences(self) -> list[str]:
        """What the comparison says, for people: who is ahead, at what cost, and what to mind."""
        sign = 1.0 if self.is_tested else self.sign
        against = [t for t in self.tests if t.second == self.baseline and t.difference.n]
        cautions = _cautions(self)
        found = []
        if against:
            best = max(against, key=lambda t: sign * t.difference.mean)
            found += sentence(best, self.measure, sign, self.savings(best.first, best.second))
            n = min(t.difference.n for t in against)
            if n < FEW_SEEDS:
                seeds = "one seed tells" if n == 1 else f"{n} seeds tell"
                cautions.append(f"{seeds} too little about chance, {FEW_SEEDS} may do")
        elif len(self.methods) < 2:
            found.append("One method alone: there is nothing to compare it with.")
        else:
            found.append("No seed has a complete trial in two methods.")
        if cautions:
            found.append(f"Read with care: {'; '.join(cautions)}.")
        return found

    def ranks(self, n_points: int = 100) -> tuple[np.ndarray, np.ndarray]:
        """(n,) grid of epochs and (n, n_methods) mean rank over the seeds that all methods have.

        Rank 1 is the best incumbent at that cost; both are empty without a common seed.
        """
        seeds = [s for s in self.methods[0].views if all(s in m.views for m in self.methods)]
        totals = [m.runs[s].total("epochs") for s in seeds for m in self.methods]
        if not seeds or len(self.methods) < 2 or min(totals) <= 0:
            return np.empty(0), np.empty((0, len(self.methods)))
        grid = np.linspace(0.0, min(totals), n_points)
        # (n_seeds, n_methods, n)
        values = self.sign * np.array(
            [[m.runs[s].at(grid, "epochs") for m in self.methods] for s in seeds]
        )
        return grid, average_ranks(values, axis=1).mean(axis=0).T

    def method_table(self) -> Table:
        """One row a method: medians over seeds, counts, mean rank over the whole budget."""
        grid, ranks = self.ranks()
        rows = []
        for i, method in enumerate(self.methods):
            final = list(method.final.values())
            low, high = np.quantile(final, [0.25, 0.75]).tolist() if final else (None, None)
            progress = [v.progress for v in method.views.values()]
            finished = sum(p.finished for p in progress)
            rows.append(
                (
                    method.label,
                    len(method.views),
                    _median(final),
                    low,
                    high,
                    _median(list(method.tested.values())),
                    _median([p.finished for p in progress]),
                    sum(p.complete for p in progress) / finished if finished else None,
                    _median([p.epochs for p in progress]),
                    _median([p.seconds for p in progress]),
                    float(ranks[:, i].mean()) if len(grid) else None,
                )
            )
        columns = ("method", "seeds", "best", "lower_quartile", "upper_quartile", "test",
                   "trials", "complete_share", "epochs", "seconds", "mean_rank")  # fmt: skip
        return Table(columns, tuple(rows))

    def published_table(self) -> Table:
        """Ours beside the published results, a row a method; without rows for another task."""
        rows: list[tuple[Any, ...]] = []
        ours = {m.published: m for m in self.methods}
        for entry in self.published:
            method = ours.get(entry)
            tested = list(method.tested.values()) if method is not None else []
            views = method.views.values() if method is not None else ()
            rows.append(
                (
                    entry.label,
                    _each(tested, ".4f"),
                    float(np.mean(tested)) if tested else None,
                    _each([v.progress.finished for v in views], ","),
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
            d, ratio = t.difference, self.savings(t.first, t.second)
            numbers = (d.mean, d.low, d.high, t.p, t.p_holm, ratio.mean, ratio.low, ratio.high)
            plain = (None if math.isnan(value) else value for value in numbers)
            rows.append((t.first, t.second, d.n, *plain, self.measure))
        columns = ("first", "second", "seeds", "difference", "low", "high", "p", "p_holm",
                   "epochs_ratio", "ratio_low", "ratio_high", "of")  # fmt: skip
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
    methods = group(views)
    labels = [m.label for m in methods]
    if baseline is not None and baseline not in labels:
        raise InvalidInputError(
            f"the baseline must be one of {', '.join(labels)}, but is {baseline!r}."
        )
    return Comparison(
        methods=tuple(methods),
        metric=Counter(v.metric for v in views).most_common(1)[0][0],
        sign=views[0].sign,
        baseline=baseline or _default_baseline(labels),
    )


def _default_baseline(labels: Sequence[str]) -> str:
    """Random search that stops nothing, else any random search, else one that stops nothing."""
    plain = ("random + none", "random + ", " + none")
    return next((name for part in plain for name in labels if part in name), labels[0])


def _cautions(comparison: Comparison) -> list[str]:
    """What the reader should know beside any figure, in halves of sentences."""
    views, found = comparison.views, []
    empty = [v.name for v in views if not v.ranked]
    if empty:
        found.append(f"no trial is complete in {', '.join(empty)}")
    if len({str(v.spec.get("dataset_fingerprint")) for v in views if v.spec}) > 1:
        found.append("the studies do not share one data set and split")
    names = sorted({v.metric for v in views})
    if len(names) > 1:
        found.append(f"they name different metrics ({', '.join(names)})")
    recipes = sorted({r for v in views if (r := recipe(v)) is not None})
    if len(recipes) > 1:
        found.append(f"they were tested by different recipes ({', '.join(recipes)})")
    if not comparison.is_tested and len(comparison.methods) > 1 and len(empty) < len(views):
        found.append(
            f"the best {comparison.metric} of many trials is optimistic, "
            "`study evaluate NAME` tests it"
        )
    spent = [v.progress.epochs for v in views]
    if len(spent) > 1 and min(spent) > 0 and max(spent) > 1.5 * min(spent):
        found.append(f"they trained {min(spent):,} to {max(spent):,} epochs, no equal budgets")
    return found


def _each(values: Sequence[float], form: str) -> str | None:
    """Numbers side by side, or None without any."""
    return "; ".join(f"{value:{form}}" for value in values) or None


def _median(values: Sequence[float]) -> float | None:
    return float(np.median(values)) if len(values) else None
