"""From the runs of pruners, each under a sampler, to measures; reads, never runs.

A setting is everything that all of one comparison share, a group
`development`, `left-out`, a family or a task. A mean is over what a group consists of (families,
tasks, seeds), all of equal weight, and its standard error is over these too, so that it holds for
other tasks of the kind; where there is only one, both are over its parts:
    regret      of the best finished trial, mean over the budgets from `LONG` trainings on
    early       the same over the smaller budgets
    incumbent   of the trial with the best report so far if it were trained to its end, over
                all budgets
    ratio, early_ratio
                of regret and early to the reference's on the same tasks and seeds
    vs_cold     paired difference to the same methods without priors: below 0 they help
    seen_B      of the trial with the best report after B trainings if it were trained to its end
    faster      how many times fewer epochs than without priors the mean course of the best
                finished trial needs to the regret that the worse of both ends with
    fewer_than_none
                how many times fewer epochs the mean course needs to reach what no pruning in
                random order reaches with the last budget
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from optuna_deepweeds.bench.families import GROUPS, family_of, group_of
from optuna_deepweeds.bench.results import Run
from optuna_deepweeds.bench.summary import course
from optuna_deepweeds.errors import InvalidInputError

SETTING = ("max_resource", "workers", "noise")
ENTRY = ("sampler", "pruner", "priors")
LONG = 8
"""Full trainings from which on a search is more than the finishing of a first trial."""

_NO_PRIORS = "none"
_NO_PRUNING = ("random", "none", _NO_PRIORS)

Array = NDArray[np.float64]
_Entry = tuple[str, str, str]  # values of ENTRY
_Tree = dict[str, Any]
"""Family -> task -> seed -> (m,) measures of a run, or a branch of it."""


def pruner_columns(budgets: Sequence[int]) -> tuple[str, ...]:
    """Columns of `summarise_pruners`, in order."""
    return (
        *_FIRST,
        *_with_errors("regret", "ratio", "early", "early_ratio"),
        *(f"regret_{budget}" for budget in budgets),
        *_with_errors("incumbent", "decision_ms"),
        "fewer_than_none",
    )


def warm_start_columns(budgets: Sequence[int]) -> tuple[str, ...]:
    """Columns that show what priors do, in order."""
    after_each = [(f"seen_{b}", f"regret_{b}", *_with_errors(f"vs_cold_{b}")) for b in budgets]
    return (*_FIRST, *_with_errors("vs_cold", "faster"), *sum(after_each, ()))


_FIRST = ("group", *SETTING, *ENTRY, "tasks", "seeds")


def _with_errors(*keys: str) -> tuple[str, ...]:
    return tuple(name for key in keys for name in (key, f"{key}_se"))


def summarise_pruners(
    runs: Sequence[Run],
    *,
    budgets: Sequence[int],
    reference: tuple[str, str] = ("random", "promotion-4"),
    by_task: bool = False,
) -> list[dict[str, Any]]:
    """A record for each setting, group, sampler, pruner and kind of priors.

    Args:
        runs: As `results.read` returns them.
        budgets: Full trainings at which regret is taken; smaller runs are ignored.
        reference: Sampler and pruner of the ratios.
        by_task: Also a group for each task.

    Raises:
        InvalidInputError: Runs are not of this benchmark, those of one task and length come
            from different curves, or were given
            priors of different other tasks.
    """
    digests: dict[tuple[Any, ...], str] = {}
    settings: dict[tuple[Any, ...], list[Run]] = defaultdict(list)
    for run in runs:
        case, method = run.case, run.method
        if not {"task", "digest", *SETTING} <= {*case} or not {*ENTRY} <= {*method}:
            raise InvalidInputError(
                f"runs must be those of this benchmark, but there is {run}; use another output "
                f"file."
            )
        curves = (case["task"], case["max_resource"])
        for kind, digest in (
            ("", case["digest"]),
            (method["priors"], method["prior_digest"]),
        ):
            if digests.setdefault((*curves, kind), digest) != digest:
                raise InvalidInputError(
                    f"all runs of a task must come from the same curves, but those of "
                    f"{case['task']} come from two; use another output file."
                )
        if run.budget >= max(budgets):
            settings[tuple(case[key] for key in SETTING)].append(run)
    return [
        {**dict(zip(SETTING, setting, strict=True)), **record}
        for setting, members in sorted(settings.items())
        for record in _compared(members, sorted(budgets), (*reference, _NO_PRIORS), by_task)
    ]


def _compared(
    runs: Sequence[Run], budgets: Sequence[int], reference: _Entry, by_task: bool
) -> Iterator[dict[str, Any]]:
    """The records of one setting."""
    trees: dict[_Entry, _Tree] = defaultdict(lambda: defaultdict(lambda: defaultdict(dict)))
    for run in runs:
        sampler, pruner, kind = (run.method[key] for key in ENTRY)
        task = trees[sampler, pruner, kind][family_of(run.sources[0])][run.case["task"]]
        task[run.seed] = _measures(run, budgets)
    families = {name: {*tasks} for tree in trees.values() for name, tasks in tree.items()}
    groups = {name: {f for f in families if group_of(f) == name} for name in GROUPS}
    groups = {name: members for name, members in groups.items() if len(members) > 1}
    groups |= {family: {family} for family in families}
    for group, members in groups.items():
        yield from _records(trees, group, members, None, budgets, reference)
        if by_task and group in families:
            for task in sorted(families[group]):
                yield from _records(trees, task, members, task, budgets, reference)


def _records(
    trees: Mapping[_Entry, _Tree],
    group: str,
    families: Collection[str],
    task: str | None,
    budgets: Sequence[int],
    reference: _Entry,
) -> Iterator[dict[str, Any]]:
    """The records of one group: some families, or of a family one task."""
    parts = {
        entry: {
            family: {name: seeds for name, seeds in tasks.items() if task in (None, name)}
            for family, tasks in tree.items()
            if family in families
        }
        for entry, tree in trees.items()
    }
    n = len(budgets)
    for entry, own in parts.items():
        leaves = [seeds for tasks in own.values() for seeds in tasks.values()]
        if not leaves:
            continue
        record: dict[str, Any] = {"group": group, **dict(zip(ENTRY, entry, strict=True))}
        record |= {"tasks": len(leaves), "seeds": min(map(len, leaves))}
        values = _units(own)
        for i, name in enumerate(_MEASURES):
            record |= _mean(name, values[:, i])
        after = values[:, _AFTER : _AFTER + 2 * n].mean(axis=0)
        keys = [f"{key}_{budget}" for key in ("regret", "seen") for budget in budgets]
        record |= {key: float(v) for key, v in zip(keys, after, strict=True)}
        mine, theirs = _paired(own, parts.get(reference, {}))
        if entry != reference:
            record |= _ratio("ratio", mine[:, 0], theirs[:, 0])
            record |= _ratio("early_ratio", mine[:, 1], theirs[:, 1])
        mine, theirs = _paired(own, parts.get(_NO_PRUNING, {}))
        if len(mine):
            course_of, target = (v[:, _AFTER + 2 * n :].mean(axis=0) for v in (mine, theirs))
            reached = course_of <= target[-1] + 1e-12
            if reached.any():
                record["fewer_than_none"] = len(reached) / (int(np.argmax(reached)) + 1)
        cold = (*entry[:2], _NO_PRIORS)
        mine, theirs = _paired(own, parts.get(cold, {}))
        if len(mine) and entry != cold:
            effect = (mine - theirs)[:, _AFTER : _AFTER + n]
            record |= _mean("vs_cold", effect.mean(axis=1))
            record |= _faster(mine[:, _AFTER + 2 * n :], theirs[:, _AFTER + 2 * n :])
            for budget, change in zip(budgets, effect.T, strict=True):
                record |= _mean(f"vs_cold_{budget}", change)
        yield record


_MEASURES = ("regret", "early", "incumbent", "decision_ms")
_AFTER = len(_MEASURES)


def _measures(run: Run, budgets: Sequence[int]) -> Array:
    """Values of `_MEASURES`, both regrets at every budget, that of finished ones every epoch."""
    length = int(run.case["max_resource"])
    at, n_epochs = [budget * length - 1 for budget in budgets], max(budgets) * length
    finished, incumbent = (
        course([n for n, _ in changes], [v for _, v in changes], n_epochs, before=1.0)
        for changes in (run.results["finished"], run.results["incumbent"])
    )
    after = finished[at]
    is_long = np.array(budgets) >= LONG
    means = [after[part].mean() if part.any() else math.nan for part in (is_long, ~is_long)]
    means += [incumbent[at].mean(), run.results["decision_ms"]]
    return np.concatenate([means, after, incumbent[at], finished])


def _units(tree: _Tree) -> Array:
    """(n, m) measures of the largest parts of a tree of which there are several, else of one."""
    if len(tree) == 1:
        (only,) = tree.values()
        return _units(only) if isinstance(only, dict) else only[None, :]
    return np.array([_average(branch) for branch in tree.values()])


def _average(branch: Any) -> Array:
    """(m,) mean of a branch, whose own branches have equal weight."""
    if isinstance(branch, np.ndarray):
        return branch
    return np.asarray(np.mean([_average(part) for part in branch.values()], axis=0))


def _paired(own: _Tree, other: _Tree) -> tuple[Array, Array]:
    """(n, m) measures of both, of the families, tasks and seeds that both have."""
    mine, theirs = _shared(own, other), _shared(other, own)
    return (_units(mine), _units(theirs)) if mine else (np.empty((0, 2)), np.empty((0, 2)))


def _shared(tree: _Tree, other: _Tree) -> _Tree:
    shared = {}
    for key in sorted(tree.keys() & other.keys()):
        part = tree[key]
        part = _shared(part, other[key]) if isinstance(part, dict) else part
        if len(part):
            shared[key] = part
    return shared


def _ratio(key: str, own: Array, other: Array) -> dict[str, Any]:
    """The ratio of the means of (n,) paired values, with the error of its linear form."""
    if not len(own) or not other.mean() > 0:
        return {}
    ratio = own.mean() / other.mean()
    return {key: float(ratio), **_error(key, (own - ratio * other) / other.mean())}


def _faster(own: Array, other: Array) -> dict[str, Any]:
    """`faster` of (n, epochs) paired courses, with the error of leaving each out."""

    def times(rows: list[int]) -> float:
        mine, theirs = own[rows].mean(axis=0), other[rows].mean(axis=0)
        level = max(mine[-1], theirs[-1]) + 1e-12
        return float((1 + np.argmax(theirs <= level)) / (1 + np.argmax(mine <= level)))

    every = list(range(len(own)))
    left_out = [times(every[:i] + every[i + 1 :]) for i in every] if len(every) > 1 else []
    error = math.sqrt(len(every) - 1) * float(np.std(left_out)) if left_out else None
    return {"faster": times(every), "faster_se": error}


def _mean(key: str, values: ArrayLike) -> dict[str, Any]:
    """Mean of (n,) values and its standard error; nothing where there are none."""
    array = np.asarray(values, dtype=float)
    return {} if np.isnan(array).any() else {key: float(array.mean()), **_error(key, array)}


def _error(key: str, values: Array) -> dict[str, float | None]:
    return {f"{key}_se": float(stats.sem(values)) if len(values) > 1 else None}
