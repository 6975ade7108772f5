"""How far something that is counted has come, on stderr: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from optuna_deepweeds.cli._output import info

_MIB = 2**20

console = Console(stderr=True, highlight=False, markup=False, emoji=False)
"""The terminal that stderr may be; what is told between two pictures of it stays above."""


class Steps:
    """Progress of things that are counted; a line a tenth, or 50 units, without a terminal."""

    def __init__(self) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=console)
        self._task: TaskID | None = None
        self._what = ""
        self._tenth = -1

    def __call__(self, what: str, done: int, total: int | None, unit: str) -> None:
        if what != self._what:
            self._what, self._tenth, self._task = what, -1, None
        text = _amounts(what, done, total, unit)
        if console.is_terminal:
            self._bar.start()
            if self._task is None:
                self._task = self._bar.add_task(text)
            self._bar.update(self._task, completed=done, total=total, description=text)
            return
        tenth = 10 * done // total if total else done // (50 * (_MIB if unit == "B" else 1))
        if tenth > self._tenth:
            info(text)
            self._tenth = tenth

    def close(self) -> None:
        """Leave the bars as they are."""
        if self._bar.live.is_started:  # Else it would write an empty line.
            self._bar.stop()


def _amounts(what: str, done: int, total: int | None, unit: str) -> str:
    def amount(value: int) -> str:
        if unit != "B":
            return f"{value:,} {unit}"
        return f"{value / _MIB:.1f} MiB" if value >= _MIB else f"{value / 1024:.0f} KiB"

    if not total:
        return f"{what}: {amount(done)}"
    part = f"{done:,}" if unit != "B" else amount(done)
    return f"{what}: {100 * done // total} % ({part} of {amount(total)})"
