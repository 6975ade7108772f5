"""Any command as a task: what it is given, how its lines are read, how it is ended."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution

from optuna_deepweeds.errors import InvalidInputError, NotFoundError, TrainingError
from optuna_deepweeds.spaces.search_space import Parameter, SearchSpace
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
    except Exception as error:
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
