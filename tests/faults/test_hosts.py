"""Workers whose clock is set, and workers of two hosts, with process ids that come again."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from optuna.trial import TrialState

from optuna_deepweeds import attributes
from optuna_deepweeds.studies.accounting import progress
from optuna_deepweeds.studies.resume import DIED
from tests.faults.commands import (
    OBJECTIVE,
    ends_well,
    has_ended_exactly,
    n_reports,
    run_study,
    start,
    study,
    study_line,
    wait_for_reports,
)
from tests.postgres import find_programs, local_postgres

pytestmark = pytest.mark.slow

_GRACE = 6.0
_IMPATIENT = {"DEEPWEEDS_HEARTBEAT_SECONDS": "1", "DEEPWEEDS_GRACE_SECONDS": str(_GRACE)}
_HOUR = 3600


@pytest.fixture
def objective(tmp_path: Path) -> Path:
    (tmp_path / "quick.py").write_text(OBJECTIVE)
    return tmp_path / "quick.py"


@pytest.fixture
def set_clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Sets the clock of every process started from here to so many seconds after the truth."""
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler to make the clock with")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)  # The database server runs as another user.
        source = Path(__file__).with_name("shifted_clock.c")
        line = ["cc", "-shared", "-fPIC", "-o", str(folder / "clock.so"), str(source)]
        subprocess.run(line, check=True)

        def set_to(seconds: int) -> None:
            with (folder / "shift").open("r+b" if (folder / "shift").exists() else "wb") as file:
                file.write(struct.pack("l", seconds))

        set_to(0)
        monkeypatch.setenv("CLOCK_SHIFT", str(folder / "shift"))
        monkeypatch.setenv("LD_PRELOAD", str(folder / "clock.so"))
        yield set_to


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path, set_clock: object) -> Iterator[str]:
    """A storage on a machine with that clock."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/s.db"
    elif find_programs() is None:
        pytest.skip("PostgreSQL's server programs (initdb, pg_ctl) are not installed.")
    else:
        with local_postgres() as server:
            yield server.new_database()


def _deaths(url: str) -> int:
    """Trials that were taken from a worker for dead."""
    trials = study(url).get_trials(deepcopy=False)
    return sum(t.user_attrs.get(attributes.FAILURE) == DIED for t in trials)


def test_a_clock_that_is_set_takes_neither_time_nor_trials(
    url: str, objective: Path, set_clock: Callable[[int], None]
) -> None:
    options = ("--timeout", "30s", "--workers", "2", "--pruner", "none")
    process = run_study(url, objective, *options, environment=_IMPATIENT)
    wait_for_reports(url, process)
    began = time.monotonic()
    for shift in (_HOUR, -_HOUR):
        time.sleep(8)
        set_clock(shift)
    ends_well(process, timeout=120)
    assert time.monotonic() - began > 20, "the hour counted as the study's"
    found = study(url)
    assert 20 < progress(found.get_trials(), found.direction).seconds <= 31
    assert _deaths(url) == 0


def _on(host: str, line: Sequence[str]) -> list[str]:
    """That command line on a host of this name, with process ids of its own, from 1 on."""
    alone = ["unshare", "--uts", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"]
    if subprocess.run([*alone, "true"], capture_output=True).returncode:
        pytest.skip("name spaces are not allowed here")
    return [*alone, "sh", "-c", 'hostname "$0" && exec "$@"', host, *line]


def test_a_worker_of_another_host_is_missed_after_the_grace_and_not_before(
    storage_url: str, objective: Path
) -> None:
    objective.write_text(OBJECTIVE.replace("sleep(0.1)", "sleep(0.6)"))
    line = study_line(storage_url, objective, "--trials", "12", "--pruner", "none")
    alpha, beta = (start(_on(host, line), _IMPATIENT) for host in ("alpha", "beta"))
    deadline = time.monotonic() + 120
    while not {("alpha", "1"), ("beta", "1")} <= _at_work(storage_url):
        assert time.monotonic() < deadline and alpha.poll() is None
        time.sleep(0.1)
    assert _deaths(storage_url) == 0
    alpha.kill()
    alpha.communicate()
    killed = time.monotonic()
    while _deaths(storage_url) == 0:
        assert time.monotonic() - killed < 60
        time.sleep(0.2)
    assert time.monotonic() - killed > _GRACE - 2, "a beat, and times in whole seconds"
    ends_well(beta)
    assert _deaths(storage_url) == 1
    has_ended_exactly(storage_url, 12)


def _at_work(url: str) -> set[tuple[str, ...]]:
    """Host and process id of all that are in the first half of a trial, not their first one."""
    if n_reports(url) < 12:
        return set()
    running = study(url).get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    begun = [t for t in running if 1 <= len(t.intermediate_values) <= 3]
    return {tuple(str(t.user_attrs.get(attributes.WORKER)).split("/")[:2]) for t in begun}


_REUSE = """
import subprocess, sys
killed = subprocess.Popen([*sys.argv[1:], "--trials", "1000"])
sys.stdin.readline()
killed.kill()
killed.wait()
with open("/proc/sys/kernel/ns_last_pid", "w") as file:
    file.write(str(killed.pid - 1))
other = subprocess.Popen(["sleep", "600"])
assert other.pid == killed.pid
subprocess.run([*sys.argv[1:], "--trials", "6"], check=True)
"""


def test_a_process_with_the_id_of_a_killed_worker_is_not_taken_for_it(
    tmp_path: Path, objective: Path
) -> None:
    url = f"sqlite:///{tmp_path}/s.db"
    line = study_line(url, objective, "--pruner", "none")
    process = start(_on("alone", [sys.executable, "-c", _REUSE, *line]))
    wait_for_reports(url, process)
    ends_well(process, "go\n", timeout=80)  # Less than the grace of 90 s.
    has_ended_exactly(url, 6)
