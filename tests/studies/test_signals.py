"""Signals to a real worker process, on trainings that only take time."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from optuna_deepweeds.bench.storage import run_worker
from tests.faults.studies import BenchStudy
from tests.faults.training import QuickTraining, retraining

pytestmark = pytest.mark.slow

WORKER = """
import sys
from pathlib import Path
from tests.faults.training import QuickTraining, Recorded
from optuna_deepweeds.bench.storage import run_worker
from tests.faults.studies import BenchStudy
from optuna_deepweeds.cli._signals import StopFlag
stop = StopFlag()
folder = Path(sys.argv[2])
train = Recorded(QuickTraining(epoch_seconds=0.2), folder / "training.log")
run_worker(BenchStudy(sys.argv[1], folder).open(), train, should_stop=stop)
sys.exit(stop.exit_code)
"""


@pytest.fixture
def bench(tmp_path: Path) -> BenchStudy:
    url = f"sqlite:///{tmp_path}/optuna.db"
    return BenchStudy(url, tmp_path, n_trials=1, epochs=20, pruner="none")


@contextlib.contextmanager
def _working(bench: BenchStudy, study: optuna.Study) -> Iterator[subprocess.Popen[bytes]]:
    """A worker process that has trained an epoch of a trial."""
    line = [sys.executable, "-c", WORKER, bench.url, str(bench.folder)]
    process = subprocess.Popen(line)
    try:
        deadline = time.monotonic() + 60
        while not any(t.intermediate_values for t in study.get_trials(deepcopy=False)):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
    ids=["Ctrl-C", "SIGTERM", "hangup"],
)
def test_a_signal_puts_the_trial_back(
    bench: BenchStudy, number: signal.Signals, code: int
) -> None:
    study = bench.create()
    with _working(bench, study) as process:
        process.send_signal(number)
        assert process.wait(timeout=20) == code
    (trial,) = study.get_trials()
    assert trial.state == TrialState.WAITING
    run_worker(study, QuickTraining())
    (trial,) = study.get_trials()
    assert trial.state == TrialState.COMPLETE
    assert len(trial.intermediate_values) == 20
    assert retraining(bench.folder / "training.log").problems == []


def test_a_second_signal_ends_a_worker_that_waits_for_its_storage(bench: BenchStudy) -> None:
    study = bench.create()
    with _working(bench, study) as process:
        blocker = sqlite3.connect(bench.folder / "optuna.db", isolation_level=None, timeout=60)
        blocker.execute("BEGIN IMMEDIATE")
        process.send_signal(signal.SIGINT)
        time.sleep(1)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=5) == -signal.SIGINT
        blocker.execute("ROLLBACK")
        blocker.close()
    run_worker(study, QuickTraining())
    dead, retried = study.get_trials()
    assert (dead.state, retried.state) == (TrialState.FAIL, TrialState.COMPLETE)
