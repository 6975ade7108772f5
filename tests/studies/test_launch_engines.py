"""Workers on a local Ray cluster and on submitit's local executor."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from optuna_deepweeds import attributes
from optuna_deepweeds.studies.launch import LaunchResult, WorkerCommand, launch
from optuna_deepweeds.studies.launch.slurm import SlurmWorker, slurm_workers
from optuna_deepweeds.studies.launch.supervise import supervise
from tests.faults.studies import BenchStudy
from tests.faults.training import retraining

pytestmark = pytest.mark.slow

# A worker in miniature, as in test_launchers; "once" crashes at its first start only.
_WORKER = """
import os, signal, sys, time
def note(text):
    with open(sys.argv[1], "a") as file:
        print(text, file=file)
    with open(sys.argv[1]) as file:
        return len(file.readlines())
signal.signal(signal.SIGTERM, lambda *_: (note("put back"), sys.exit(143)))
n = note("start " + os.environ["OPTUNA_STORAGE"])
if sys.argv[2] == "wait":
    time.sleep(120)
elif sys.argv[2] == "once" and n == 1:
    os.kill(os.getpid(), signal.SIGKILL)
elif sys.argv[2] == "node" and n == 1:
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(120)
"""


def _command(log: Path, action: str) -> WorkerCommand:
    return WorkerCommand("s", _URL, (str(log), action), (sys.executable, "-c", _WORKER))


def _jobs(command: WorkerCommand, n: int, folder: Path, minutes: int = 240) -> LaunchResult:
    """The jobs of Slurm as processes of this machine."""
    start = slurm_workers(command, 0, folder=folder, cluster="local", minutes=minutes)
    return supervise(start, n, lambda: False, lambda: None, 0, 1.0)


_URL = "sqlite:////data/a.db"
_START = f"start {_URL}"


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[None]:
    ray = pytest.importorskip("ray", reason="the Python package ray is not installed.")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


# What the workers do: exit codes, restarts, their notes.
LIVES = {
    "end": ([0, 0], 0, [_START, _START]),
    "once": ([0], 1, [_START, _START]),
    # The first worker puts its trial back when the process that started it dies.
    "node": ([0], 1, ["put back", _START, _START]),
    "wait": ([143], 0, ["put back", _START]),
}


@pytest.mark.parametrize("action", LIVES)
def test_ray_starts_restarts_and_stops_workers(
    ray_cluster: None, tmp_path: Path, action: str
) -> None:
    exit_codes, restarts, notes = LIVES[action]
    log = tmp_path / "log"
    stop = lambda: action == "wait" and log.exists()  # noqa: E731
    result = launch("ray", _command(log, action), len(exit_codes), should_stop=stop)
    assert (result.exit_codes, result.restarts) == (exit_codes, restarts)
    assert sorted(log.read_text().splitlines()) == notes


def test_submitit_runs_workers_to_their_end(tmp_path: Path) -> None:
    pytest.importorskip("submitit", reason="the Python package submitit is not installed.")
    log = tmp_path / "log"
    result = _jobs(_command(log, "end"), 2, tmp_path / "jobs")
    assert result.exit_codes == [0, 0]
    assert log.read_text().splitlines() == [_START, _START]


def test_submitit_job_is_continued_at_its_time_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("submitit", reason="the Python package submitit is not installed.")
    monkeypatch.setenv("OPTUNA_STORAGE", _URL)
    log = tmp_path / "log"
    worker = SlurmWorker(_command(log, "wait"))
    with ThreadPoolExecutor() as pool:
        code = pool.submit(worker)
        deadline = time.monotonic() + 60
        while not log.exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        continuation = worker.checkpoint()
    assert code.result() == 143
    assert log.read_text().splitlines() == [_START, "put back"]
    assert isinstance(continuation.function, SlurmWorker)
    assert continuation.function.command.study_name == "s"


# The real worker loop, on trainings that only take time.
_STUDY_WORKER = """
import os, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tests.faults.training import QuickTraining, Recorded
from optuna_deepweeds.bench.storage import run_worker
from tests.faults.studies import BenchStudy
from optuna_deepweeds.cli._signals import StopFlag
stop = StopFlag()
folder = Path(sys.argv[1])
train = Recorded(QuickTraining(epoch_seconds=2.0), folder / "training.log")
run_worker(BenchStudy(os.environ["OPTUNA_STORAGE"], folder).open(), train, should_stop=stop)
sys.exit(stop.exit_code)
"""


def test_a_study_goes_on_in_the_job_that_follows_a_time_limit(tmp_path: Path) -> None:
    pytest.importorskip("submitit", reason="the Python package submitit is not installed.")
    bench = BenchStudy(
        f"sqlite:///{tmp_path}/optuna.db", tmp_path, n_trials=1, epochs=20, pruner="none"
    )
    study = bench.create()
    program = (sys.executable, "-c", _STUDY_WORKER)
    command = WorkerCommand(bench.name, bench.url, (str(tmp_path),), program)
    # The end of a minute is announced, on this executor, 30 seconds before.
    result = _jobs(command, 1, tmp_path / "jobs", minutes=1)
    assert result.exit_codes == [0]
    (trial,) = study.get_trials()
    assert trial.state.name == "COMPLETE"
    assert sorted(trial.intermediate_values) == list(range(1, 21))
    assert len(trial.user_attrs[attributes.SEGMENTS]) >= 1
    assert str(os.getpid()) not in trial.user_attrs[attributes.WORKER].split("/")
    assert retraining(tmp_path / "training.log").problems == []
