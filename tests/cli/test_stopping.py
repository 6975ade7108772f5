"""What a worker says when it is told to stop."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from optuna_deepweeds.cli._signals import STOPPING, StopFlag


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in STOPPING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("quiet", [False, True])
def test_a_launched_worker_leaves_the_words_to_its_launcher(
    quiet: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    stop = StopFlag(quiet=quiet)
    assert not stop() and stop.exit_code == 0
    os.kill(os.getpid(), signal.SIGTERM)
    assert stop() and stop.exit_code == 143
    said = capsys.readouterr().err
    assert said == (
        "" if quiet else "\nStopping: what is running is put back. Once more to end at once.\n"
    )
    assert signal.getsignal(signal.SIGINT) == signal.SIG_DFL


def test_losing_the_terminal_stops_as_well(capsys: pytest.CaptureFixture[str]) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    stop = StopFlag()
    os.kill(os.getpid(), signal.SIGHUP)
    assert stop() and stop.exit_code == 129
    assert capsys.readouterr().err == ""


def test_what_was_started_to_outlive_its_terminal_does() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # As `nohup` does.
    stop = StopFlag()
    os.kill(os.getpid(), signal.SIGHUP)
    assert not stop()
