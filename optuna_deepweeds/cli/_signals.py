"""Signals that ask a worker to put its trial back; a second one ends the process at once."""

from __future__ import annotations

import os
import signal
from types import FrameType

from optuna_deepweeds.cli._output import info

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, the request to end, and the loss of the terminal."""


_PATIENCE_SECONDS = 5.0
"""For a training to end by itself; clusters kill soon after they ask."""


class StopFlag:
    """Set by the first signal of `STOPPING`; the exit code tells which.

    A process that was started to outlive its terminal (`nohup`) goes on when that is lost.

    Args:
        quiet: Say nothing: whoever started this worker does.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.signal: int | None = None
        self._quiet = quiet
        self._terminals = [descriptor for descriptor in (1, 2) if os.isatty(descriptor)]
        for number in STOPPING:
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._receive)

    def __call__(self) -> bool:
        return self.signal is not None

    @property
    def exit_code(self) -> int:
        """130 after SIGINT, 143 after SIGTERM, 129 after SIGHUP, 0 without any."""
        return 0 if self.signal is None else 128 + self.signal

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        release()
        if callable(signal.getsignal(signal.SIGALRM)):  # A worker trains in this process.
            signal.setitimer(signal.ITIMER_REAL, _PATIENCE_SECONDS, 1)
        if number == signal.SIGHUP:
            # Nobody reads any more, and writing to a lost terminal is an error.
            with open(os.devnull, "wb") as nowhere:
                for descriptor in self._terminals:
                    os.dup2(nowhere.fileno(), descriptor)
        elif not self._quiet:
            info("\nStopping: what is running is put back. Once more to end at once.")


def restore() -> None:
    """Let Ctrl-C raise `KeyboardInterrupt` again, as it does before there is a `StopFlag`."""
    release()
    signal.signal(signal.SIGINT, signal.default_int_handler)


def release() -> None:
    """Give the signals that were caught their usual effect: to end the process."""
    for number in STOPPING:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
