"""SIGINT and SIGTERM ask a worker to put its trial back; a second one ends the process at once."""

from __future__ import annotations

import signal
from types import FrameType

from optuna_deepweeds.cli._output import info


class StopFlag:
    """Set by the first SIGINT or SIGTERM; the exit code tells which.

    Args:
        quiet: Say nothing: whoever started this worker does.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.signal: int | None = None
        self._quiet = quiet
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._receive)

    def __call__(self) -> bool:
        return self.signal is not None

    @property
    def exit_code(self) -> int:
        """130 after SIGINT, 143 after SIGTERM, 0 without either."""
        return 0 if self.signal is None else 128 + self.signal

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        for other in (signal.SIGINT, signal.SIGTERM):
            signal.signal(other, signal.SIG_DFL)
        if not self._quiet:
            info("\nStopping: what is running is put back. Once more to end at once.")
