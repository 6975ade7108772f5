"""The table of the pruner benchmark, computed from its CSV rows alone.

Every quantity is a mean over seeds with its standard error. Tasks are first averaged within a
seed, so that the error of the row "mean" is that of the mean over tasks. A setting is everything
that all pruners of one comparison share: length of training, workers, order, disturbance, and
how many configurations were held out for prior curves.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optuna_deepweeds.bench.peers import ASHA
from optuna_deepweeds.bench.replay import regret_after
from optuna_deepweeds.bench.statistics import bootstrap, mean_and_error
from optuna_deepweeds.errors import InvalidInputError

SETTING = ("max_resource", "workers", "order", "noise", "mislead", "storage", "held_out")

MEAN = "mean"
"""In the column `task`: the mean over tasks."""

_N_RESAMPLES = 200

_NO_PRIORS = "none"

Row = Mapping[str, Any]

_ENTRY = ("pruner", "prior_curves")
_Entry = tuple[str, str]  # their values


def columns(budgets: Sequence[int]) -> tuple[str, ...]:
    """Columns of `summarise`, in order.

    `regret`, of the best finished trial, and `seen`, of the best value seen at any epoch, are
    means over the budgets; `vs_asha` is the paired difference to ASHA divided by ASHA's regret;
    `fewer_than_none` and `faster_than_asha` say how many times fewer epochs the mean course
    needs to reach what no pruning and ASHA reach with the last budget; `outside` is the share of
    epochs outside the top tenth; `good_stopped` the share of started configurations of the top
    tenth that stay stopped. ASHA is the better of `peers.ASHA` by the mean over tasks.
    """
    at = tuple(f"regret_{budget}" for budget in budgets)
    quality = _with_errors("regret", "seen", "vs_asha")
    speed = _with_errors("fewer_than_none", "faster_than_asha")
    cost = _with_errors("outside", "good_stopped", "decision_ms")
    return ("task", *SETTING, *_ENTRY, "seeds", *quality, *at, *speed, *cost)


def warm_start_columns(budgets: Sequence[int]) -> tuple[str, ...]:
    """Columns that show what prior curves do, in order.

    `vs_cold` is the paired difference of the regret to that of the same pruner without prior
    curves, as the mean over the budgets and after each of them: below 0 they help.
    """
    after_each = [
        name
        for budget in budgets
        for name in (f"regret_{budget}", *_with_errors(f"vs_cold_{budget}"))
    ]
    return ("task", *SETTING, *_ENTRY, "seeds", *_with_errors("regret", "vs_cold"), *after_each)


def has_prior_curves(rows: Sequence[Row]) -> bool:
    """Whether any run was given prior curves."""
    return any(row["prior_curves"] != _NO_PRIORS for row in rows)


def summarise(rows: Sequence[Row], *, budgets: Sequence[int]) -> list[dict[str, Any]]:
    """One row for each setting, task (and the mean over tasks), pruner and kind of prior curves.

    Args:
        rows: Rows of `pruner_rows.read_rows`.
        budgets: Full trainings at which regret is taken; rows of smaller runs are ignored.

    Raises:
        InvalidInputError: If rows of one task and length come from different curves, or were
            given curves of different other tasks.
    """
    digests: dict[tuple[str, ...], str] = {}
    for row in rows:
        curves = (row["task"], str(row["max_resource"]))
        for column, kind in (("digest", ""), ("prior_digest", row["prior_curves"])):
            if digests.setdefault((column, *curves, kind), row[column]) != row[column]:
                raise InvalidInputError(
                    f"all rows of a task must come from the same curves, but those of "
                    f"{row['task']} come from two; use another output file."
                )
    settings: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        if row["budget"] >= max(budgets):
            settings[tuple(row[key] for key in SETTING)].append(row)
    table = []
    for setting, members in sorted(settings.items()):
        for line in _Comparison(members, budgets).lines():
            table.append({**dict(zip(SETTING, setting, strict=True)), **line})
    return table


def _with_errors(*keys: str) -> tuple[str, ...]:
    return tuple(name for key in keys for name in (key, f"{key}_se"))


class _Comparison:
    """The rows of one setting, arranged as entry -> task -> seed -> row."""

    def __init__(self, rows: Sequence[Row], budgets: Sequence[int]) -> None:
        self._budgets = budgets
        self._max_resource = int(rows[0]["max_resource"])
        self._cells: dict[_Entry, dict[str, dict[int, Row]]] = {}
        for row in rows:
            tasks = self._cells.setdefault((row["pruner"], row["prior_curves"]), {})
            tasks.setdefault(row["task"], {})[row["seed"]] = row
        self._tasks = sorted({row["task"] for row in rows})
        self._reference = self._better_asha()

    def lines(self) -> list[dict[str, Any]]:
        scopes = [(MEAN, self._tasks)] if len(self._tasks) > 1 else []
        scopes += [(task, [task]) for task in self._tasks]
        return [
            {"task": label, **dict(zip(_ENTRY, entry, strict=True)), **line}
            for label, tasks in scopes
            for entry in self._cells
            if (line := self._line(entry, tasks)) is not None
        ]

    def _better_asha(self) -> _Entry | None:
        present = [entry for name in ASHA if (entry := (name, _NO_PRIORS)) in self._cells]
        means = {}
        for entry in present:
            seeds = self._seeds(entry, self._tasks)
            if seeds:
                means[entry] = self._regret(entry, self._tasks, seeds).mean()
        return min(means, key=lambda entry: means[entry]) if means else None

    def _seeds(self, entry: _Entry, tasks: Sequence[str]) -> list[int]:
        """Seeds that were run on all of `tasks`."""
        of_tasks = [set(self._cells[entry].get(task, {})) for task in tasks]
        return sorted(set.intersection(*of_tasks))

    def _line(self, entry: _Entry, tasks: Sequence[str]) -> dict[str, Any] | None:
        seeds = self._seeds(entry, tasks)
        if not seeds:
            return None
        regret = self._regret(entry, tasks, seeds)
        line: dict[str, Any] = {"seeds": len(seeds)}
        line |= _mean("regret", regret.mean(axis=1))
        line |= _mean("seen", self._regret(entry, tasks, seeds, "seen").mean(axis=1))
        for budget, values in zip(self._budgets, regret.T, strict=True):
            line[f"regret_{budget}"] = float(values.mean())
        line |= self._against_asha(entry, tasks)
        line |= self._against_cold(entry, tasks)
        line |= self._speed_up("fewer_than_none", entry, ("none", _NO_PRIORS), tasks)
        if self._reference is not None:
            line |= self._speed_up("faster_than_asha", entry, self._reference, tasks)
        line |= _mean("outside", self._column(entry, tasks, seeds, "outside_top_tenth"))
        line |= _mean("decision_ms", self._column(entry, tasks, seeds, "decision_ms"))
        started = self._column(entry, tasks, seeds, "top_started")
        stopped = self._column(entry, tasks, seeds, "top_stopped")
        has_started = started > 0
        if has_started.any():
            line |= _mean("good_stopped", stopped[has_started] / started[has_started])
        return line

    def _regret(
        self, entry: _Entry, tasks: Sequence[str], seeds: Sequence[int], which: str = "finished"
    ) -> np.ndarray:
        """(seeds, budgets): mean over tasks."""
        cells = self._cells[entry]
        return np.array(
            [
                [
                    np.mean(
                        [
                            regret_after(cells[task][seed][which], budget * self._max_resource)
                            for task in tasks
                        ]
                    )
                    for budget in self._budgets
                ]
                for seed in seeds
            ]
        )

    def _column(
        self, entry: _Entry, tasks: Sequence[str], seeds: Sequence[int], column: str
    ) -> np.ndarray:
        """(seeds,): mean over tasks."""
        cells = self._cells[entry]
        return np.array([np.mean([cells[task][seed][column] for task in tasks]) for seed in seeds])

    def _courses(self, entry: _Entry, tasks: Sequence[str], seeds: Sequence[int]) -> np.ndarray:
        """(seeds, epochs): regret after each epoch paid, mean over tasks."""
        n_epochs = max(self._budgets) * self._max_resource
        courses = np.zeros((len(seeds), n_epochs))
        for i, seed in enumerate(seeds):
            for task in tasks:
                course = np.ones(n_epochs)
                for at, regret in self._cells[entry][task][seed]["finished"]:
                    course[at - 1 :] = regret
                courses[i] += course / len(tasks)
        return courses

    def _against_asha(self, entry: _Entry, tasks: Sequence[str]) -> dict[str, Any]:
        if self._reference is None:
            return {}
        seeds = self._common_seeds(entry, self._reference, tasks)
        if not seeds:
            return {}
        own = self._regret(entry, tasks, seeds).mean(axis=1)
        other = self._regret(self._reference, tasks, seeds).mean(axis=1)
        scale = other.mean()
        return _mean("vs_asha", (own - other) / scale) if scale > 0 else {}

    def _against_cold(self, entry: _Entry, tasks: Sequence[str]) -> dict[str, Any]:
        control = (entry[0], _NO_PRIORS)
        if entry == control or control not in self._cells:
            return {}
        seeds = self._common_seeds(entry, control, tasks)
        if not seeds:
            return {}
        effect = self._regret(entry, tasks, seeds) - self._regret(control, tasks, seeds)
        line = _mean("vs_cold", effect.mean(axis=1))
        for budget, values in zip(self._budgets, effect.T, strict=True):
            line |= _mean(f"vs_cold_{budget}", values)
        return line

    def _common_seeds(self, entry: _Entry, other: _Entry, tasks: Sequence[str]) -> list[int]:
        return sorted({*self._seeds(entry, tasks)} & {*self._seeds(other, tasks)})

    def _speed_up(
        self, key: str, entry: _Entry, other: _Entry, tasks: Sequence[str]
    ) -> dict[str, Any]:
        """Epochs of the last budget over those to reach the other's mean regret with it."""
        if other not in self._cells:
            return {}
        seeds = self._common_seeds(entry, other, tasks)
        if not seeds:
            return {}
        own = self._courses(entry, tasks, seeds)
        target = self._courses(other, tasks, seeds)[:, -1]

        def factor(indices: Sequence[NDArray[np.int64]]) -> float:
            index = indices[0]
            reached = own[index].mean(axis=0) <= target[index].mean() + 1e-12
            return len(reached) / (int(np.argmax(reached)) + 1) if reached.any() else math.nan

        value = factor([np.arange(len(seeds))])
        if math.isnan(value):
            return {}
        # NaN where a resample never reaches the target: the error is then unknown.
        error = float(bootstrap(factor, [len(seeds)], n_resamples=_N_RESAMPLES))
        return {key: value, f"{key}_se": None if math.isnan(error) else error}


def _mean(key: str, values: np.ndarray) -> dict[str, Any]:
    mean, error = mean_and_error(values)
    return {key: mean, f"{key}_se": None if math.isnan(error) else error}
