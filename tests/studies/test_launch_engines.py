"""Workers on a local Ray cluster and on submitit's local executor."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from optuna_deepweeds import attributes
from optuna_deepweeds.bench.storage_training import retraining
from optuna_deepweeds.bench.storage_worker import BenchStudy
from optuna_deepweeds.studies.launch.ray import launch_ray
from optuna_deepweeds.studies.launch.slurm import SlurmWorker, launch_slurm

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
_PROGRAM = (sys.executable, "-c", _WORKER)
_URL = "sqlite:////data/a.db"
_START = f"start {_URL}"


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[None]:
    ray = pytest.importorskip("ray", reason="the Python package ray is not installed.")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def test_ray_runs_workers_to_their_end(ray_cluster: None, tmp_path: Path) -> None:
    log = tmp_path / "log"
    result = launch_ray("s", _URL, 2, arguments=[str(log), "end"], program=_PROGRAM)
    assert (result.exit_codes, result.restarts) == ([0, 0], 0)
    assert log.read_text().splitlines() == [_START, _START]


def test_ray_restarts_a_dead_worker(ray_cluster: None, tmp_path: Path) -> None:
    log = tmp_path / "log"
    result = launch_ray("s", _URL, 1, arguments=[str(log), "once"], program=_PROGRAM)
    assert (result.exit_codes, result.restarts) == ([0], 1)
    assert log.read_text().splitlines() == [_START, _START]


def test_ray_starts_again_where_its_own_process_died(ray_cluster: None, tmp_path: Path) -> None:
    log = tmp_path / "log"
    result = launch_ray("s", _URL, 1, arguments=[str(log), "node"], program=_PROGRAM)
    assert (result.exit_codes, result.restarts) == ([0], 1)
    # The first worker puts its trial back when the process that started it dies.
    assert sorted(log.read_text().splitlines()) == sorted([_START, "put back", _START])


def test_ray_stops_workers(ray_cluster: None, tmp_path: Path) -> None:
    log = tmp_path / "log"
    result = launch_ray(
        "s", _URL, 1, arguments=[str(log), "wait"], program=_PROGRAM, should_stop=log.exists
    )
    assert result.exit_codes == [143]
    assert log.read_text().splitlines() == [_START, "put back"]


def test_submitit_runs_workers_to_their_end(tmp_path: Path) -> None:
    pytest.importorskip("submitit", reason="the Python package submitit is not installed.")
    log = tmp_path / "log"
    result = launch_slurm(
        "s",
        _URL,
        2,
        arguments=[str(log), "end"],
        program=_PROGRAM,
        folder=tmp_path / "jobs",
        cluster="local",
    )
    assert result.exit_codes == [0, 0]
    assert log.read_text().splitlines() == [_START, _START]


def test_submitit_job_is_continued_at_its_time_limit(tmp_path: Path) -> None:
    pytest.importorskip("submitit", reason="the Python package submitit is not installed.")
    import threading

    log = tmp_path / "log"
    worker = SlurmWorker("s", [str(log), "wait"], _PROGRAM)
    codes: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPTUNA_STORAGE", _URL)
        thread = threading.Thread(target=lambda: codes.append(worker()))
        thread.start()
        deadline = time.monotonic() + 60
        while not log.exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        continuation = worker.checkpoint()
        thread.join()
    assert codes == [143]
    assert log.read_text().splitlines() == [_START, "put back"]
    assert isinstance(continuation.function, SlurmWorker)
    assert continuation.function.study_name == "s"


# The real worker loop, on trainings that only take time.
_STUDY_WORKER = """
import os, sys
from pathlib import Path
from optuna_deepweeds.bench.storage_training import QuickTraining, Recorded
from optuna_deepweeds.bench.storage_worker import BenchStudy, run_worker
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
    result = launch_slurm(
        bench.name,
        bench.url,
        1,
        arguments=[str(tmp_path)],
        program=(sys.executable, "-c", _STUDY_WORKER),
        folder=tmp_path / "jobs",
        cluster="local",
        time_limit_minutes=1,  # Announced, on this executor, 30 seconds before.
    )
    assert result.exit_codes == [0]
    (trial,) = study.get_trials()
    assert trial.state.name == "COMPLETE"
    assert sorted(trial.intermediate_values) == list(range(1, 21))
    assert len(trial.user_attrs[attributes.SEGMENTS]) >= 1
    assert str(os.getpid()) not in trial.user_attrs[attributes.WORKER].split("/")
    assert retraining(tmp_path / "training.log").problems == []
