"""Any command as a task: what it is given, how its lines are read, how it is ended."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution

from optuna_deepweeds.errors import InvalidInputError, NotFoundError, TrainingError
from optuna_deepweeds.spaces import Condition, Parameter, SearchSpace
from optuna_deepweeds.tasks import Allowance, Run, ScriptTask
from optuna_deepweeds.tasks.run import TrialInterrupted

SPACE = SearchSpace("one", (Parameter("rate", FloatDistribution(0.0, 1.0)),), {"size": 3})

TRAIN = """
import json, os, sys, time
from pathlib import Path
path = Path(os.environ["RUN_CHECKPOINT"])
done = int(path.read_text()) if path.exists() else 0
rate = float(os.environ["PARAM_rate"])
print("starting", flush=True)
for step in range(done + 1, int(sys.argv[1]) + 1):
    path.with_suffix(".part").write_text(str(step))
    path.with_suffix(".part").replace(path)
    print(json.dumps({"step": step, "value": rate * step}), flush=True)
    if "--slow" in sys.argv:
        time.sleep(60)
"""


def ran(task: ScriptTask, folder: Path, **options: Any) -> tuple[object, dict[int, float]]:
    """The value of a trial with rate = 0.5, or what ended it, and its curve."""
    study = optuna.create_study(direction="maximize")
    study.enqueue_trial({"rate": 0.5})
    trial = study.ask()
    where = {"config": SPACE.suggest(trial), "checkpoint": folder / "checkpoints" / "t"}
    run = Run(trial, seed=7, epochs=3, **where, **options)
    ended: object
    try:
        ended = task(trial, run)
    except (Exception, TrialInterrupted) as error:
        ended = error
    return ended, study.get_trials()[0].intermediate_values


@pytest.fixture
def train(tmp_path: Path) -> str:
    (tmp_path / "train.py").write_text(TRAIN)
    return f"{sys.executable} {tmp_path / 'train.py'} {{epochs}}"


def test_a_command_gets_its_parameters_and_reports_its_steps(train: str, tmp_path: Path) -> None:
    assert ran(ScriptTask(train, space=SPACE), tmp_path) == (1.5, {1: 0.5, 2: 1.0, 3: 1.5})


def test_a_command_goes_on_from_its_checkpoint(train: str, tmp_path: Path) -> None:
    task = ScriptTask(train, space=SPACE)
    slow = ScriptTask(train + " --slow", space=SPACE)
    ended, curve = ran(slow, tmp_path, allowance=Allowance(epochs=1))
    assert isinstance(ended, TrialInterrupted) and list(curve) == [1]
    assert ran(task, tmp_path) == (1.5, {2: 1.0, 3: 1.5})


def test_steps_until_the_command_is_ended_count(train: str, tmp_path: Path) -> None:
    """A quick command has printed all its lines before it can be stopped."""
    ended, curve = ran(ScriptTask(train, space=SPACE), tmp_path, allowance=Allowance(epochs=1))
    assert isinstance(ended, TrialInterrupted)
    saved = int((tmp_path / "checkpoints" / "t").read_text())
    assert saved - 1 <= len(curve) <= saved  # The signal may come between the two.


def test_braces_that_are_no_parameter_stay(tmp_path: Path) -> None:
    task = ScriptTask(
        """awk 'BEGIN { n = {size}; printf "{\\"value\\": %g}\\n", n * {rate} }'""", space=SPACE
    )
    assert ran(task, tmp_path) == (1.5, {1: 1.5})


def test_a_command_runs_in_its_folder_with_what_is_not_there_left_empty(tmp_path: Path) -> None:
    off = Parameter("off", FloatDistribution(0.0, 1.0), Condition("rate", at_least=0.9))
    space = SearchSpace("two", (*SPACE.parameters, off), SPACE.constants)
    (tmp_path / "here.sh").write_text('[ -z "$1" ] && echo "{\\"value\\": $2}"\n')
    task = ScriptTask("sh here.sh '{off}' {size}", space, tmp_path)
    assert ran(task, tmp_path) == (3, {1: 3})
    with pytest.raises(NotFoundError, match="no folder"):
        ScriptTask("sh here.sh", space, tmp_path / "gone")


def test_a_command_is_told_how_far_it_is_wanted(tmp_path: Path) -> None:
    code = """import os
for step in range(int(os.environ["RUN_UNTIL"])):
    print('{"value": 1}')
"""
    (tmp_path / "until.py").write_text(code)
    task = ScriptTask(f"{sys.executable} {tmp_path / 'until.py'}", space=SPACE)
    assert ran(task, tmp_path) == (1.0, {1: 1, 2: 1, 3: 1})
    ended, curve = ran(task, tmp_path, allowance=Allowance(epochs=2))
    assert isinstance(ended, TrialInterrupted) and list(curve) == [1, 2]


def test_a_command_that_goes_on_says_at_which_step(tmp_path: Path) -> None:
    (tmp_path / "vague.py").write_text("""print('{"value": 1}')""")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "t").touch()
    ended, _ = ran(ScriptTask(f"{sys.executable} {tmp_path / 'vague.py'}", space=SPACE), tmp_path)
    assert isinstance(ended, TrainingError) and "must print its steps" in str(ended)


def test_a_command_dies_with_its_worker(tmp_path: Path) -> None:
    (tmp_path / "sleep.py").write_text("""import os, time
open("pid.part", "w").write(str(os.getpid()))
os.rename("pid.part", "pid")
time.sleep(60)
""")
    code = f"""import optuna, sys
from pathlib import Path
from tests.tasks.test_script_task import SPACE, ran
from optuna_deepweeds.tasks import ScriptTask
folder = Path({str(tmp_path)!r})
ran(ScriptTask(f"{{sys.executable}} sleep.py", SPACE, folder), folder)
"""
    worker = subprocess.Popen([sys.executable, "-c", code])
    file = tmp_path / "pid"
    while not file.exists():
        assert worker.poll() is None
        time.sleep(0.05)
    worker.kill()
    worker.wait()
    gone = Path(f"/proc/{file.read_text()}/cmdline")
    deadline = time.monotonic() + 20
    while gone.exists() and gone.read_bytes():  # Who inherits it may leave a zombie.
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_what_is_not_saved_and_not_allowed_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "quick.py").write_text("""print('{"value": 1}\\n' * 3)""")
    task = ScriptTask(f"{sys.executable} {tmp_path / 'quick.py'}", space=SPACE)
    assert not task.saves
    ended, curve = ran(task, tmp_path, allowance=Allowance(epochs=2))
    assert isinstance(ended, TrialInterrupted) and list(curve) == [1, 2]


def test_a_worker_told_to_stop_ends_the_command_within_a_step(train: str, tmp_path: Path) -> None:
    started = time.monotonic()
    stop_at = started + 2.0
    task = ScriptTask(train + " --slow", space=SPACE)
    ended, _ = ran(task, tmp_path, asked_to_stop=lambda: time.monotonic() > stop_at)
    assert isinstance(ended, TrialInterrupted)
    assert time.monotonic() - started < 30


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import sys; sys.exit('no data')", "ended with code 1: no data"),
        ("print(0.5)", "printed no line such as"),
        ("""print('{"value": "high"}')""", "must be reported by numbers"),
        ("""print('{"step": 0, "value": 1}')""", "steps must be counted from 1"),
        ("""print('{"value": -nan}')""", "must be a number, but is nan"),
    ],
)
def test_a_command_that_fails_fails_its_trial_in_one_line(
    tmp_path: Path, code: str, words: str
) -> None:
    (tmp_path / "bad.py").write_text(code)
    ended, _ = ran(ScriptTask(f"{sys.executable} {tmp_path / 'bad.py'}", space=SPACE), tmp_path)
    assert isinstance(ended, TrainingError)
    assert words in str(ended) and "\n" not in str(ended)


@pytest.mark.parametrize(
    ("command", "error", "words"),
    [
        ("nosuchprogram {rate}", NotFoundError, "no program 'nosuchprogram'"),
        ("", NotFoundError, "no program"),
        ("awk '{rate}", InvalidInputError, "cannot be split"),
        ("awk {rat}", InvalidInputError, "Did you mean 'rate'"),
        ("cd here && awk {rate}", InvalidInputError, "without a shell's '&&'"),
    ],
)
def test_wrong_commands_are_one_line(command: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        ScriptTask(command, space=SPACE)


def test_a_changed_script_is_told_from_the_first(train: str, tmp_path: Path) -> None:
    before = ScriptTask(train, space=SPACE).fingerprint
    assert ScriptTask(train, space=SPACE).fingerprint == before
    (tmp_path / "train.py").write_text(TRAIN + "# changed\n")
    assert ScriptTask(train, space=SPACE).fingerprint != before
