"""The live line under a running study; only on a terminal, at most its width."""

from __future__ import annotations

import shutil
import sys
import time
from typing import Any

import click
import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from optuna_deepweeds import attributes
from optuna_deepweeds.cli._output import duration
from optuna_deepweeds.studies.accounting import Progress, progress
from optuna_deepweeds.studies.ending import time_left
from optuna_deepweeds.studies.spec import Budget

_SECONDS_BETWEEN_LINES = 0.1


def summary(state: Progress, budget: Budget) -> list[str]:
    """Trials, best value, time left and stopped share in a few words, the weightiest first."""
    of = "" if budget.trials is None else f"/{budget.trials}"
    parts = [f"{state.finished}{of} done"]
    if state.best is not None and state.best.value is not None:
        parts.append(f"best {state.best.value:.4f} (#{state.best.number})")
    left = time_left(budget, state)
    if left is not None:
        parts.append(f"{duration(left)} left")
    if state.finished:
        parts.append(f"{state.pruned / state.finished:.0%} pruned")
    return parts


class Display:
    """Shows a worker's progress; implements `studies.worker.Observer`.

    On a terminal one line is rewritten in place, and each finished trial leaves a line. Elsewhere
    nothing is shown, so that logs stay short.
    """

    def __init__(self, study: optuna.Study, budget: Budget, *, quiet: bool = False) -> None:
        self._shown = sys.stderr.isatty() and not quiet
        self._budget = budget
        self._direction: StudyDirection = study.direction
        self._last_line = 0.0
        self._state = progress(study.get_trials(deepcopy=False), self._direction)

    def trial_started(self, number: int, config: dict[str, Any]) -> None:
        self._line(f"trial {number} starts", force=True)

    def epoch_finished(self, number: int, epoch: int, value: float) -> None:
        self._line(f"trial {number} epoch {epoch} acc {value:.4f}")

    def trial_ended(self, study: optuna.Study, trial: FrozenTrial, note: str) -> None:
        if not self._shown:
            return
        self._state = progress(study.get_trials(deepcopy=False), self._direction)
        self.clear()
        click.echo(self._fit(trial_line(trial, note, _columns())), err=True)
        self._line("", force=True)

    def refresh(self, study: optuna.Study) -> None:
        """Show where the study stands, read from the storage."""
        self._state = progress(study.get_trials(deepcopy=False), self._direction)
        self._line(f"{self._state.running} running", force=True)

    def clear(self) -> None:
        """Take the live line away."""
        if self._shown:
            click.echo("\r\x1b[K", nl=False, err=True)

    def _line(self, current: str, *, force: bool = False) -> None:
        now = time.monotonic()
        if not self._shown or (now - self._last_line < _SECONDS_BETWEEN_LINES and not force):
            return
        self._last_line = now
        parts = summary(self._state, self._budget)
        line = current
        for part in parts:
            longer = f"{line} | {part}" if line else part
            if longer != self._fit(longer):
                break
            line = longer
        click.echo("\r\x1b[K" + self._fit(line), nl=False, err=True)

    @staticmethod
    def _fit(line: str) -> str:
        return line[: _columns()]


def _columns() -> int:
    # One column is left free: a full line makes some terminals scroll.
    return shutil.get_terminal_size((80, 24)).columns - 1


def trial_line(trial: FrozenTrial, note: str, width: int) -> str:
    """One finished trial in one line; with its pruner's reason where `width` allows."""
    curve = trial.intermediate_values
    last = max(curve, default=0)
    words = {
        TrialState.COMPLETE: "finished",
        TrialState.PRUNED: "stopped",
        TrialState.FAIL: "failed",
    }
    line = f"trial {trial.number:>4} {note or words.get(trial.state, trial.state.name.lower())}"
    if curve:
        line += f" at epoch {last} with {curve[last]:.4f}"
    foreseen = trial.user_attrs.get(attributes.ANTICIPATION) or {}
    if trial.state == TrialState.PRUNED and foreseen.get("epoch") == last:
        expected = foreseen.get("expected")
        # Without finished curves nothing better is expected than the last value.
        if expected is not None and expected != curve[last]:
            line += f", {expected:.3f} expected"
        reason = foreseen.get("reason")
        if reason and len(line) + len(reason) + 2 <= width:
            line += f": {reason}"
    return line
