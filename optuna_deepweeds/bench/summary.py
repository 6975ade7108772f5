"""From the runs of a results file to tables of measures; reads, never runs.

Samplers. Measures over the tasks of a group (a family, or all), with bootstrap errors over the
seeds of each task and sampler:
    fraction   geometric mean of (share of configurations strictly better + 1e-5), in 1e-4
    ratio      of fraction to the reference's on the same tasks
    regret     mean of the normalised regret
    reach      evaluations after which the fraction is as good as the reference's at the end
    P          probability that a run beats a peer's run, ties 1/2, mean over tasks
Pruners. Measures are means over seeds with their standard errors; tasks are first averaged within
a seed, so that the error of the row "mean" is that of the mean over tasks. A setting is
everything that all pruners of one comparison share:
    regret, seen     of the best finished trial, and of the best value seen at any epoch; means
                     over the budgets
    vs_asha          paired difference of regret to ASHA's, divided by it; ASHA is the better of
                     `methods.ASHA` by the mean over tasks
    vs_cold          paired difference to the same pruner without prior curves: below 0 they help
    fewer_than_none, faster_than_asha
                     how many times fewer epochs the mean course needs to reach what no pruning
                     and ASHA reach with the last budget
    outside          share of epochs outside the top tenth
    good_stopped     share of started configurations of the top tenth that stay stopped
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from optuna_deepweeds.bench.methods import ASHA
from optuna_deepweeds.bench.problems import family_of
from optuna_deepweeds.bench.results import Run
from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.seeds import generator

FLOOR = 1e-5
"""Added to fractions before the logarithm, so that the optimum itself has a finite one."""
UNIT = 1e-4
SETTING = ("max_resource", "workers", "order", "noise", "mislead", "held_out")
MEAN = "mean"
"""In the column `task`: the mean over tasks."""

_N_RESAMPLES = 1000
_FEW_RESAMPLES = 200
_NO_PRIORS = "none"
_FIGURES = ("outside_top_tenth", "top_started", "top_stopped", "decision_ms")

Array = NDArray[np.float64]
_ENTRY = ("pruner", "prior_curves")
_Entry = tuple[str, str]  # their values


def course(at: Sequence[int], values: Sequence[float], n: int, *, before: float = np.nan) -> Array:
    """(n,): the value that holds after 1, 2, ... n, given those from `at` on."""
    filled = np.full(n, before)
    for first, value in zip(at, values, strict=True):
        filled[first - 1 :] = value
    return filled


class SamplerRuns:
    """The runs of one sampler on one task, with the weights of their resamples.

    A resample of n runs is a row of n weights that sum to one, so that a mean over runs becomes
    a product of matrices. Independent samples take independent weights.

    Attributes:
        weights: (1 + n_resamples, n_seeds); the first row is the sample itself.
        fraction, regret, score, milliseconds: (n_seeds, budget), see `samplers.run_cell`.
    """

    def __init__(self, runs: Sequence[Run], budget: int, label: str) -> None:
        runs = sorted(runs, key=lambda run: run.seed)
        courses = [run.results["course"] for run in runs]
        self.fraction, self.regret, self.score, self.milliseconds = (
            np.array([course(c["evaluations"], c[name], budget) for c in courses])
            for name in ("fraction", "regret", "score", "milliseconds")
        )
        n = len(runs)
        rng = generator(0, "bootstrap", label, runs[0].case["task"])
        resamples = rng.multinomial(n, np.full(n, 1 / n), size=_N_RESAMPLES) / n
        self.weights = np.vstack([np.full((1, n), 1 / n), resamples])

    def mean(self, values: Array) -> Array:
        """(1 + n_resamples, ...) means of (n_seeds, ...) values in every resample."""
        return np.asarray(self.weights @ values)

    def log_fraction(self) -> Array:
        """(1 + n_resamples, budget) means of the logarithm of the fraction."""
        return self.mean(np.log(self.fraction + FLOOR))


def sampler_runs(runs: Sequence[Run], budget: int) -> dict[str, dict[str, SamplerRuns]]:
    """Label (sampler, with its priors if it had some) -> task -> runs of at least `budget`."""
    grouped: dict[str, dict[str, list[Run]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        if run.budget >= budget:
            sampler, priors = run.method["sampler"], run.method["priors"]
            label = sampler if priors == _NO_PRIORS else f"{sampler} +{priors}"
            grouped[label][run.case["task"]].append(run)
    return {
        label: {task: SamplerRuns(members, budget, label) for task, members in tasks.items()}
        for label, tasks in grouped.items()
    }


def summarise_samplers(
    runs: Sequence[Run],
    *,
    budgets: Sequence[int] = (50, 100),
    reference: str = "tpe",
    by_task: bool = False,
) -> list[dict[str, Any]]:
    """A record for every group of tasks, number of evaluations and sampler.

    A standard error follows its figure as `NAME_se`.

    Args:
        runs: As `results.read` returns them.
        budgets: After how many evaluations; one that no run reached is left out.
        reference: The sampler of `ratio` and `reach`; `reach` is the number of evaluations
            needed for what the reference has after the largest of `budgets`.
        by_task: Also a group for each task.
    """
    longest = max((run.budget for run in runs), default=0)
    budgets = sorted(b for b in budgets if b <= longest)
    if not budgets:
        return []
    table = sampler_runs(runs, budgets[-1])
    tasks = list(dict.fromkeys(run.case["task"] for run in runs))
    families = list(dict.fromkeys(map(family_of, tasks)))
    groups: dict[str, list[str]] = {"all": tasks} if len(families) > 1 else {}
    groups |= {f: [t for t in tasks if family_of(t) == f] for f in families}
    if by_task:
        groups |= {task: [task] for task in tasks}
    return [
        {"group": group, **_sampler_record(table, label, members, budget, reference)}
        for group, members in groups.items()
        for budget in budgets
        for label in table
        if set(members) & set(table[label])
    ]


def _sampler_record(
    table: Mapping[str, Mapping[str, SamplerRuns]],
    label: str,
    members: Sequence[str],
    budget: int,
    reference: str,
) -> dict[str, Any]:
    at = budget - 1
    peers = table.get(reference, {})
    ours = {t: table[label][t] for t in members if t in table[label]}
    shared = [t for t in ours if t in peers]
    own = [ours[t] for t in shared or ours]
    curves = np.mean([run.log_fraction() for run in own], axis=0)
    ratio = reach = np.full(2, np.nan)
    if shared:
        goal = np.mean([peers[t].log_fraction() for t in shared], axis=0)
        reached = curves <= goal[:, -1:]
        reach = np.where(reached.any(axis=1), reached.argmax(axis=1) + 1.0, np.inf)
        ratio = np.exp(curves[:, at] - goal[:, at])
    name, _, priors = label.partition(" +")
    record = {
        "sampler": name,
        "priors": priors or _NO_PRIORS,
        "tasks": len(own),
        "seeds": min(len(run.score) for run in own),
        "after": budget,
        **_with_spread("fraction", np.exp(curves[:, at]) / UNIT),
        **_with_spread("ratio", ratio),
        **_with_spread("regret", np.mean([run.mean(run.regret[:, at]) for run in own], axis=0)),
        **_with_spread("reach", reach),
        "ms": float(np.mean([run.milliseconds[:, at].mean() for run in own])),
    }
    if label == reference:
        record["ratio_se"] = math.nan
    for peer, theirs in table.items():
        common = [t for t in members if t in table[label] and t in theirs]
        if peer != label and common:
            wins = [_wins(table[label][t], theirs[t], at) for t in common]
            record |= _with_spread(f"P_{peer}", np.mean(wins, axis=0))
    return record


def _wins(ours: SamplerRuns, theirs: SamplerRuns, at: int) -> Array:
    """(1 + n_resamples,) probability that a run of ours beats one of theirs."""
    # Regret orders as the score does, whatever the direction of the task.
    a, b = ours.regret[:, at, None], theirs.regret[None, :, at]
    return np.asarray((ours.mean((a < b) + 0.5 * (a == b)) * theirs.weights).sum(axis=1))


def _with_spread(name: str, outcomes: Array) -> dict[str, float]:
    """A figure, the first outcome, and as its error the spread of the others.

    NaN where a resample has no finite outcome; 0 for a single run, whose spread is unknown.
    """
    others = outcomes[1:]
    error = float(others.std(ddof=1)) if np.isfinite(others).all() else math.nan
    return {name: float(outcomes[0]), f"{name}_se": error}


def pruner_columns(budgets: Sequence[int]) -> tuple[str, ...]:
    """Columns of `summarise_pruners`, in order."""
    return (
        *("task", *SETTING, *_ENTRY, "seeds"),
        *_with_errors("regret", "seen", "vs_asha"),
        *(f"regret_{budget}" for budget in budgets),
        *_with_errors("fewer_than_none", "faster_than_asha"),
        *_with_errors("outside", "good_stopped", "decision_ms"),
    )


def warm_start_columns(budgets: Sequence[int]) -> tuple[str, ...]:
    """Columns that show what prior curves do, in order."""
    after_each = [(f"regret_{b}", *_with_errors(f"vs_cold_{b}")) for b in budgets]
    first = ("task", *SETTING, *_ENTRY, "seeds")
    return (*first, *_with_errors("regret", "vs_cold"), *sum(after_each, ()))


def _with_errors(*keys: str) -> tuple[str, ...]:
    return tuple(name for key in keys for name in (key, f"{key}_se"))


def summarise_pruners(runs: Sequence[Run], *, budgets: Sequence[int]) -> list[dict[str, Any]]:
    """A record for each setting, task (and the mean over tasks), pruner and kind of prior curves.

    Args:
        runs: As `results.read` returns them.
        budgets: Full trainings at which regret is taken; smaller runs are ignored.

    Raises:
        InvalidInputError: Runs of one task and length come from different curves, or were given
            curves of different other tasks.
    """
    digests: dict[tuple[Any, ...], str] = {}
    settings: dict[tuple[Any, ...], list[Run]] = defaultdict(list)
    for run in runs:
        case, method = run.case, run.method
        curves = (case["task"], case["max_resource"])
        for kind, digest in (
            ("", case["digest"]),
            (method["prior_curves"], method["prior_digest"]),
        ):
            if digests.setdefault((*curves, kind), digest) != digest:
                raise InvalidInputError(
                    f"all runs of a task must come from the same curves, but those of "
                    f"{case['task']} come from two; use another output file."
                )
        if run.budget >= max(budgets):
            settings[tuple({**case, **method}[key] for key in SETTING)].append(run)
    return [
        {**dict(zip(SETTING, setting, strict=True)), **record}
        for setting, members in sorted(settings.items())
        for record in _compared(members, budgets)
    ]


def _compared(runs: Sequence[Run], budgets: Sequence[int]) -> Iterator[dict[str, Any]]:
    """The records of one setting."""
    length = int(runs[0].case["max_resource"])
    at, n_epochs = [budget * length - 1 for budget in budgets], max(budgets) * length
    axes: tuple[list[Any], ...] = (
        list(dict.fromkeys(_entry(run) for run in runs)),
        sorted({run.case["task"] for run in runs}),
        sorted({run.seed for run in runs}),
    )
    entries, tasks, _ = axes
    # (entry, task, seed, ...): NaN where there is no run, which means over tasks hand on.
    figures = {name: np.full([len(axis) for axis in axes], np.nan) for name in _FIGURES}
    courses = np.full([*map(len, axes), n_epochs], np.nan)
    seen = courses[..., at].copy()
    for run in runs:
        names = (_entry(run), run.case["task"], run.seed)
        place = tuple(axis.index(name) for axis, name in zip(axes, names, strict=True))
        for name in _FIGURES:
            figures[name][place] = run.results[name]
        courses[place] = _regret(run.results["finished"], n_epochs)
        seen[place] = _regret(run.results["seen"], n_epochs)[at]
    asha = _better_asha(entries, courses[..., at].mean(axis=1))
    scopes = [(MEAN, slice(None))] if len(tasks) > 1 else []
    scopes += [(task, slice(i, i + 1)) for i, task in enumerate(tasks)]
    for scope, rows in scopes:
        of_scope = {e: courses[i, rows].mean(axis=0) for i, e in enumerate(entries)}
        for i, entry in enumerate(entries):
            ran = np.isfinite(of_scope[entry][:, -1])
            if not ran.any():
                continue
            regret = of_scope[entry][ran][:, at]
            record: dict[str, Any] = {"task": scope, "seeds": int(ran.sum())}
            record |= dict(zip(_ENTRY, entry, strict=True))
            record |= _mean("regret", regret.mean(axis=1))
            record |= _mean("seen", seen[i, rows].mean(axis=0)[ran].mean(axis=1))
            for budget, values in zip(budgets, regret.T, strict=True):
                record[f"regret_{budget}"] = float(values.mean())
            own, other = _paired(of_scope, entry, asha)
            if len(own) and other[:, at].mean() > 0:
                difference = (own[:, at] - other[:, at]).mean(axis=1)
                record |= _mean("vs_asha", difference / other[:, at].mean())
            record |= _speed_up("faster_than_asha", own, other)
            record |= _speed_up("fewer_than_none", *_paired(of_scope, entry, ("none", _NO_PRIORS)))
            own, other = _paired(of_scope, entry, (entry[0], _NO_PRIORS))
            if len(own) and entry[1] != _NO_PRIORS:
                effect = own[:, at] - other[:, at]
                record |= _mean("vs_cold", effect.mean(axis=1))
                for budget, values in zip(budgets, effect.T, strict=True):
                    record |= _mean(f"vs_cold_{budget}", values)
            outside, started, stopped, decision_ms = (
                figures[name][i, rows].mean(axis=0)[ran] for name in _FIGURES
            )
            record |= _mean("outside", outside) | _mean("decision_ms", decision_ms)
            if (started > 0).any():
                record |= _mean("good_stopped", stopped[started > 0] / started[started > 0])
            yield record


def _entry(run: Run) -> _Entry:
    return run.method["pruner"], run.method["prior_curves"]


def _regret(changes: Sequence[tuple[int, float]], n_epochs: int) -> Array:
    """(n_epochs,): the regret after each epoch paid; 1 before there is any."""
    at, regret = zip(*changes, strict=True) if changes else ((), ())
    return course(at, regret, n_epochs, before=1.0)


def _better_asha(entries: Sequence[_Entry], regret: Array) -> _Entry | None:
    """The entry of `ASHA` with the smaller mean of (entry, seed, budget) regrets, if any ran."""
    means = {}
    for entry, own in zip(entries, regret, strict=True):
        ran = np.isfinite(own).all(axis=1)
        if entry[0] in ASHA and entry[1] == _NO_PRIORS and ran.any():
            means[entry] = own[ran].mean()
    return min(means, key=lambda entry: (means[entry], ASHA.index(entry[0])), default=None)


def _paired(
    of_scope: Mapping[_Entry, Array], entry: _Entry, other: _Entry | None
) -> tuple[Array, Array]:
    """(n_seeds, n_epochs) courses of both, of the seeds that both have."""
    own = of_scope[entry]
    theirs = np.full_like(own, np.nan) if other is None else of_scope.get(other, own * np.nan)
    both = np.isfinite(own[:, -1]) & np.isfinite(theirs[:, -1])
    return own[both], theirs[both]


def _speed_up(key: str, own: Array, target: Array) -> dict[str, Any]:
    """Epochs of the last budget over those to reach the target's mean regret with it."""

    def factor(own: Array, target: Array) -> float:
        reached = own.mean(axis=0) <= target[:, -1].mean() + 1e-12
        return len(reached) / (int(np.argmax(reached)) + 1) if reached.any() else math.nan

    n = len(own)
    value = factor(own, target) if n else math.nan
    if math.isnan(value):
        return {}
    resamples = np.random.default_rng(0).integers(0, n, (_FEW_RESAMPLES, n))
    error = np.std([factor(own[i], target[i]) for i in resamples], ddof=1) if n > 1 else math.nan
    # NaN where a resample never reaches the target: the error is then unknown.
    return {key: value, f"{key}_se": None if math.isnan(error) else float(error)}


def _mean(key: str, values: ArrayLike) -> dict[str, Any]:
    """Mean of (n,) values and its standard error; None for fewer than two."""
    array = np.asarray(values, dtype=float)
    error = float(stats.sem(array)) if len(array) > 1 else None
    return {key: float(array.mean()), f"{key}_se": error}
