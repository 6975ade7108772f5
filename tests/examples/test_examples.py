"""The worked examples do what they are shown for: they run, save, go on and are continued."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.conftest import Command, command  # noqa: F401

EXAMPLES = Path(__file__).parent
AWK = "awk -v rate={rate} -v momentum={momentum} -f valley.awk"
TASKS = {
    "digits": ("--objective", "digits.py"),
    "moons": ("--objective", "moons.py", "--space", "moons.py:SPACE"),
    "valley": ("--script", AWK, "--space", "valley.toml"),
}


@pytest.fixture
def here(command: Command) -> Command:  # noqa: F811
    """`command` in a folder with the examples."""
    for file in EXAMPLES.glob("*.*"):
        shutil.copy(file, file.name)
    return command


@pytest.mark.parametrize("name", TASKS)
def test_an_example_is_searched_continued_and_resumed(here: Command, name: str) -> None:
    if name == "valley" and shutil.which("awk") is None:
        pytest.skip("no awk on this machine")
    done = here("study", "run", name, *TASKS[name], "--trials", 6, "--seed", 1)
    assert done.code == 0, done.err
    assert "saves nothing" not in done.err
    assert here("study", "resume", name, "--trials", 7).code == 0
    status = here("study", "status", name, "-f", "json").json
    assert (status["trials_finished"], status["failed"]) == (7, 0)
    assert status["continued"] >= 1
    assert here("study", "best", name, "--save", "best.state").code == 0
    assert Path("best.state").stat().st_size > 0


def test_examples_are_short() -> None:
    for file in [*EXAMPLES.glob("*.awk"), EXAMPLES / "digits.py", EXAMPLES / "moons.py"]:
        assert len(file.read_text().splitlines()) <= 40, file


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
def test_an_example_outlives_kill_9_among_four_workers(here: Command, name: str) -> None:
    program = [sys.executable, "-m", "optuna_deepweeds"]
    n = 40
    run = [*program, "study", "run", name, *TASKS[name], "--trials", str(n), "--workers", "4"]

    def finished() -> int:
        status = here("study", "status", name, "-f", "json")
        return int(status.json["trials_finished"]) if status.code == 0 else 0

    with Path("log").open("w") as log:
        launcher = subprocess.Popen(run, stderr=log)
        deadline = time.monotonic() + 120
        while finished() == 0:
            assert time.monotonic() < deadline, Path("log").read_text()
            time.sleep(0.05)
        children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGKILL)
        time.sleep(0.5)
        launcher.kill()  # And then everything at once.
        launcher.wait()
    assert finished() < n
    resumed = subprocess.run([*program, "study", "resume", name, "--workers", "2"])
    assert resumed.returncode == 0
    status = here("study", "status", name, "-f", "json").json
    assert (status["trials_finished"], status["running"], status["waiting"]) == (n, 0, 0)
    assert here("study", "report", name).code == 0
