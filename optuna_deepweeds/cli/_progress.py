"""How far something is, on stderr: a live line on a terminal, lines that stay elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any

import click
import optuna
from optuna.trial import FrozenTrial, TrialState

from optuna_deepweeds import attributes
from optuna_deepweeds.cli._output import terminal_width
from optuna_deepweeds.report.standing import duration
from optuna_deepweeds.studies.accounting import Progress, progress
from optuna_deepweeds.studies.ending import time_left
from optuna_deepweeds.studies.spec import Budget
from optuna_deepweeds.trials import forecast

_MIB = 2**20
_SECONDS_BETWEEN_TEXTS = 0.1
_WORDS = {
    TrialState.COMPLETE: "finished", TrialState.PRUNED: "stopped", TrialState.FAIL: "failed"
}  # fmt: skip


class LiveLine:
    """One line of a terminal, rewritten in place; nothing where there is none."""

    def __init__(self) -> None:
        self.is_shown = sys.stderr.isatty()
        self._last = -_SECONDS_BETWEEN_TEXTS

    def is_due(self) -> bool:
        """Whether there is a terminal, and long enough nothing new."""
        return self.is_shown and time.monotonic() - self._last >= _SECONDS_BETWEEN_TEXTS

    def show(self, text: str) -> None:
        """Write `text`, cut to the terminal's width."""
        if self.is_shown:
            self._last = time.monotonic()
            click.echo(f"\r\x1b[K{text[: terminal_width()]}", nl=False, err=True)

    def clear(self) -> None:
        """Take the text away."""
        self.show("")


class Steps:
    """Progress of things that are counted; a line a tenth, or 50 units, without a terminal."""

    def __init__(self) -> None:
        self._line = LiveLine()
        self._what = ""
        self._tenth = -1

    def __call__(self, what: str, done: int, total: int | None, unit: str) -> None:
        if what != self._what:
            self.close()
            self._what, self._tenth = what, -1
        if self._line.is_shown:
            if self._line.is_due() or done == total:
                self._line.show(_amounts(what, done, total, unit))
            return
        tenth = 10 * done // total if total else done // (50 * (_MIB if unit == "B" else 1))
        if tenth > self._tenth:
            click.echo(_amounts(what, done, total, unit), err=True)
            self._tenth = tenth

    def close(self) -> None:
        """End the line that is being rewritten."""
        if self._line.is_shown and self._what:
            click.echo(err=True)


def _amounts(what: str, done: int, total: int | None, unit: str) -> str:
    def amount(value: int) -> str:
        if unit != "B":
            return f"{value:,} {unit}"
        return f"{value / _MIB:.1f} MiB" if value >= _MIB else f"{value / 1024:.0f} KiB"

    if not total:
        return f"{what}: {amount(done)}"
    part = f"{done:,}" if unit != "B" else amount(done)
    return f"{what}: {100 * done // total} % ({part} of {amount(total)})"


class Display:
    """A study under way: each trial that ends leaves a line; implements `studies.worker.Observer`.

    Nothing is shown where it is `quiet`.
    """

    def __init__(self, study: optuna.Study, budget: Budget, *, quiet: bool = False) -> None:
        self._study = study
        self._budget = budget
        self._is_quiet = quiet
        self._line = LiveLine()
        self._told = {t.number for t in self._read() if t.state.is_finished()}

    def _read(self) -> list[FrozenTrial]:
        trials = self._study.get_trials(deepcopy=False)
        self._state = progress(trials, self._study.direction)
        self._read_at = time.monotonic()
        return trials

    def trial_started(self, number: int, config: dict[str, Any]) -> None:
        self._show(f"trial {number} starts")

    def epoch_finished(self, number: int, epoch: int, value: float) -> None:
        if self._line.is_due():
            self._show(f"trial {number} epoch {epoch} with {number_of(value)}")

    def trial_ended(self, study: optuna.Study, trial: FrozenTrial, note: str) -> None:
        if not self._is_quiet:
            self._read()
            self._tell(trial, note)
            self._show("")

    def refresh(self) -> None:
        """Show what other processes have come to, read from the storage."""
        for trial in self._read():
            if trial.state.is_finished() and trial.number not in self._told:
                self._tell(trial, "")
        self._show(f"{self._state.running} running")

    def clear(self) -> None:
        """Take the live line away."""
        self._line.clear()

    def _tell(self, trial: FrozenTrial, note: str) -> None:
        self._told.add(trial.number)
        self._line.clear()
        width = terminal_width() if self._line.is_shown else 200
        click.echo(trial_line(trial, note, width), err=True)

    def _show(self, current: str) -> None:
        if self._is_quiet or not self._line.is_shown:
            return
        line = current
        elapsed = time.monotonic() - self._read_at
        for part in summary(self._state, self._budget, elapsed):
            longer = f"{line} | {part}" if line else part
            if len(longer) > terminal_width():
                break
            line = longer
        self._line.show(line)


def summary(state: Progress, budget: Budget, elapsed: float = 0.0) -> list[str]:
    """Trials, best value, time left and stopped share in a few words, the weightiest first;
    `elapsed` seconds after the study stood as `state` says."""
    of = "" if budget.trials is None else f"/{budget.trials}"
    parts = [f"{state.finished}{of} done"]
    if state.best is not None and state.best.value is not None:
        parts.append(f"best {state.best.value:.4f} (#{state.best.number})")
    left = time_left(budget, state)
    if left is not None:
        parts.append(f"{duration(max(0.0, left - elapsed))} left")
    if state.finished:
        parts.append(f"{state.pruned / state.finished:.0%} pruned")
    return parts


def number_of(value: float, digits: int = 4) -> str:
    """A value with so many decimals, or as short where that would tell little."""
    is_usual = value == 0 or 10.0 ** (1 - digits) <= abs(value) < 1e4
    return f"{value:.{digits}{'f' if is_usual else 'g'}}"


def trial_line(trial: FrozenTrial, note: str, width: int) -> str:
    """One finished trial in one line; with its pruner's reason where `width` allows."""
    curve = trial.intermediate_values
    last = max(curve, default=0)
    reason = trial.user_attrs.get(attributes.FAILURE)
    if trial.state == TrialState.FAIL and reason and not note:
        note = f"failed: {reason}"
    line = f"trial {trial.number:>4} {note or _WORDS[trial.state]}"
    if curve:
        line += f" at epoch {last} with {number_of(curve[last])}"
    elif trial.state == TrialState.COMPLETE and trial.value is not None:
        line += f" with {number_of(trial.value)}"
    foreseen = forecast(trial)
    if trial.state == TrialState.PRUNED and foreseen.get("epoch") == last:
        expected = foreseen.get("expected")
        # Without finished curves nothing better is expected than the last value.
        if expected is not None and expected != curve[last]:
            line += f", {number_of(expected, 3)} expected"
        reason = foreseen.get("reason")
        if reason and len(line) + len(reason) + 2 <= width:
            line += f": {reason}"
    return line[:width]
