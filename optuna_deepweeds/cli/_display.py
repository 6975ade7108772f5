"""A study under way, on stderr: a line for each trial that ends, and what runs now."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from optuna_deepweeds import attributes
from optuna_deepweeds.cli._output import info, logs_text
from optuna_deepweeds.cli._progress import console
from optuna_deepweeds.report.standing import STATES, duration, state_of
from optuna_deepweeds.studies.accounting import Progress, progress, ranked
from optuna_deepweeds.studies.ending import time_left
from optuna_deepweeds.studies.spec import Budget
from optuna_deepweeds.trials import forecast, is_paused

_PICTURES_A_SECOND = 2
_SECONDS_OF_SILENCE = 300.0
"""After so long without a trial that ended, a log says what runs."""
_N_LEADERS = 3
_BAR_WIDTH = 24


class Display:
    """Each trial that ends leaves a line; implements `studies.worker.Observer`.

    A terminal also shows a bar for each running trial, the leaders and the time left; a log a
    line now and then. Nothing is shown where it is `quiet`.
    """

    def __init__(self, study: optuna.Study, budget: Budget, *, quiet: bool = False) -> None:
        self._study = study
        self._budget = budget
        self._is_quiet = quiet
        spec = study.user_attrs.get(attributes.SPEC)
        self._epochs = spec.get("epochs") if isinstance(spec, Mapping) else None
        self._running: dict[int, tuple[int, float | None]] = {}
        self._told = {t.number for t in self._read() if t.state.is_finished()}
        self._spoke_at = time.monotonic()
        self._live: Live | None = None
        if console.is_terminal and not console.is_dumb_terminal and logs_text() and not quiet:
            self._live = Live(
                get_renderable=self._picture,
                console=console,
                transient=True,
                refresh_per_second=_PICTURES_A_SECOND,
            )
        self._is_over = threading.Event()
        if self._live is None and not quiet:
            # Of its own thread: a step, or an objective that reports nothing, may take hours.
            threading.Thread(target=self._break_silence, daemon=True).start()

    @property
    def state(self) -> Progress:
        """Where the study stood when it was read last."""
        return self._state

    def trial_started(self, number: int, config: dict[str, Any]) -> None:
        self._running = {number: (0, None)}
        self._show()

    def epoch_finished(self, number: int, epoch: int, value: float) -> None:
        self._running = {number: (epoch, value)}
        self._show()

    def trial_ended(self, study: optuna.Study, trial: FrozenTrial, note: str) -> None:
        self._running = {}
        if not self._is_quiet:
            self._read()
            self._tell(trial, note)

    def refresh(self) -> None:
        """Show what other processes have come to, read from the storage."""
        trials = self._read()
        self._running = {t.number: _last(t) for t in trials if t.state == TrialState.RUNNING}
        for trial in trials:
            if trial.state.is_finished() and trial.number not in self._told:
                self._tell(trial, "")
        self._show()

    def clear(self) -> None:
        """Take away what does not stay."""
        self._is_over.set()
        if self._live is not None:
            self._live.stop()

    def _read(self) -> list[FrozenTrial]:
        trials = self._study.get_trials(deepcopy=False)
        self._state = progress(trials, self._study.direction)
        self._leaders = ranked(trials, self._study.direction)[:_N_LEADERS]
        self._read_at = time.monotonic()
        return trials

    def _tell(self, trial: FrozenTrial, note: str) -> None:
        self._told.add(trial.number)
        self._spoke_at = time.monotonic()
        best = self._state.best
        line = trial_line(trial, note)
        # A terminal shows the best below.
        if self._live is None and best is not None and best.value is not None:
            line += f" | best {_number(best.value)} (#{best.number})"
        info(line, **trial_fields(trial, best))

    def _show(self) -> None:
        if self._is_quiet:
            return
        if self._live is not None:
            self._live.start()
            # A process that is killed could not bring it back.
            console.show_cursor(True)

    def _break_silence(self) -> None:
        """Say now and then what runs, where nothing else was said."""
        while not self._is_over.wait(_SECONDS_OF_SILENCE / 10):
            if self._running and time.monotonic() - self._spoke_at >= _SECONDS_OF_SILENCE:
                self._spoke_at = time.monotonic()
                self._say_what_runs()

    def _say_what_runs(self) -> None:
        running = sorted(self._running.items())
        words = [
            f"trial {number} epoch {epoch}" + ("" if value is None else f" with {_number(value)}")
            for number, (epoch, value) in running
        ]
        fields = {
            "running": [{"number": n, "epoch": epoch, "value": v} for n, (epoch, v) in running],
            "finished": self._state.finished,
            "seconds_left": time_left(self._budget, self._state),
        }
        info(" | ".join([*words, *self._summary()]), event="progress", **fields)

    def _summary(self) -> list[str]:
        return summary(self._state, self._budget, time.monotonic() - self._read_at)

    def _picture(self) -> Group:
        rows = Table.grid(padding=(0, 1))
        for number, (epoch, value) in sorted(self._running.items()):
            of = "" if self._epochs is None else f"/{self._epochs}"
            bar = ProgressBar(total=self._epochs or epoch or 1, completed=epoch, width=_BAR_WIDTH)
            rows.add_row(f"trial {number}", bar, f"epoch {epoch}{of}", _number(value))
        lines: list[Any] = [rows] if self._running else []
        if self._leaders:
            named = (f"{_number(t.value)} (#{t.number})" for t in self._leaders)
            lines.append(Text("leaders " + "  ".join(named), no_wrap=True, overflow="ellipsis"))
        parts = [part for part in self._summary() if not part.startswith("best")]
        lines.append(Text(" | ".join(parts), no_wrap=True, overflow="ellipsis"))
        return Group(*lines)


def summary(state: Progress, budget: Budget, elapsed: float = 0.0) -> list[str]:
    """Trials, best value, time left and stopped share in a few words, the weightiest first;
    `elapsed` seconds after the study stood as `state` says."""
    of = "" if budget.trials is None else f"/{budget.trials}"
    parts = [f"{state.finished}{of} done"]
    if state.best is not None and state.best.value is not None:
        parts.append(f"best {_number(state.best.value)} (#{state.best.number})")
    left = time_left(budget, state)
    if left is not None:
        parts.append(f"{duration(max(0.0, left - elapsed))} left")
    if state.finished:
        word = STATES["PAUSED" if state.paused else "PRUNED"]
        parts.append(f"{state.pruned / state.finished:.0%} {word}")
    return parts


def trial_line(trial: FrozenTrial, note: str) -> str:
    """One trial that ended, in one line: its state, epochs and value, what was foreseen, why."""
    epoch, value = _last(trial)
    foreseen = forecast(trial)
    line = f"trial {trial.number:>4} {note or state_of(trial)}"
    if value is not None and epoch:
        line += f" at epoch {epoch} with {_number(value)}"
    elif trial.state == TrialState.COMPLETE and trial.value is not None:
        line += f" with {_number(trial.value)}"
    failure = trial.user_attrs.get(attributes.FAILURE)
    if trial.state == TrialState.FAIL and failure and not note:
        return f"{line}: {failure}"
    if trial.state == TrialState.PRUNED:
        expected = foreseen.get("expected")
        # Without finished curves nothing better is expected than the last value; a command may
        # have run ahead of what was decided.
        if expected is not None and expected != value and foreseen.get("epoch") == epoch:
            line += f", {_number(expected, 3)} expected"
        # A pause has one reason alone: others go first.
        if foreseen.get("reason") and not is_paused(trial):
            line += f": {str(foreseen['reason']).removesuffix(f' at step {epoch}')}"
    return line


def trial_fields(trial: FrozenTrial, best: FrozenTrial | None) -> dict[str, Any]:
    """The same for programs, with the best trial so far."""
    epoch, value = _last(trial)
    foreseen = forecast(trial)
    return {
        "event": "trial",
        "number": trial.number,
        "state": state_of(trial),
        "value": value if trial.value is None else trial.value,
        "epoch": epoch,
        "expected": foreseen.get("expected"),
        "reason": trial.user_attrs.get(attributes.FAILURE)
        or (foreseen.get("reason") if trial.state == TrialState.PRUNED else None),
        "best": None if best is None else best.value,
        "best_number": None if best is None else best.number,
    }


def _last(trial: FrozenTrial) -> tuple[int, float | None]:
    """The last epoch and its value."""
    curve = trial.intermediate_values
    last = max(curve, default=0)
    # An objective may return another value than it reported last.
    is_complete = trial.state == TrialState.COMPLETE
    return last, trial.value if is_complete else curve.get(last)


def _number(value: float | None, digits: int = 4) -> str:
    """A value with so many decimals, or as short where that would tell little."""
    if value is None:
        return ""
    is_usual = value == 0 or 10.0 ** (1 - digits) <= abs(value) < 1e4
    return f"{value:.{digits}{'f' if is_usual else 'g'}}"
