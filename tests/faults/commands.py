"""The command itself on an objective of a tenth of a second a step, as a user starts it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import optuna
from optuna.trial import TrialState

from optuna_deepweeds.errors import DeepWeedsError
from optuna_deepweeds.studies import manager
from optuna_deepweeds.studies.accounting import progress
from optuna_deepweeds.studies.storage import open_storage

COMMAND = [sys.executable, "-m", "optuna_deepweeds"]
OBJECTIVE = """
import json
import time

MAX_RESOURCE = 6


def objective(trial, run):
    x = trial.suggest_float("x", 0, 1)
    curve = json.loads(run.checkpoint.read_text()) if run.checkpoint.exists() else []
    run.catch_up(curve)

    def save(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_text(json.dumps(curve) + " " * 50_000)
        part.replace(path)

    for epoch in range(len(curve) + 1, run.epochs + 1):
        time.sleep(0.1)
        curve.append(x * (1 - 0.5**epoch))
        run.report(curve[-1], epoch, save)
    return curve[-1]
"""


def study_line(url: str, objective: Path, *options: str) -> list[str]:
    """`study run s` on the objective in that file."""
    return [
        *COMMAND, "study", "run", "s", "--objective", f"{objective}:objective",
        "--direction", "maximize", "--sampler", "random", "--storage", url, *options,
    ]  # fmt: skip


def images_line(url: str) -> list[str]:
    """`study run s` of two networks on the demo images."""
    return [
        *COMMAND, "study", "run", "s", "--dataset", "demo", "--space", "course-small",
        "--sampler", "random", "--pruner", "none", "--epochs", "2", "--trials", "2",
        "--storage", url,
    ]  # fmt: skip


def run_study(
    url: str, objective: Path, *options: str, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    """`study_line`, started."""
    return start(study_line(url, objective, *options), environment)


def start(
    line: Sequence[str], environment: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    """A process whose output is kept."""
    return subprocess.Popen(
        line,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **(environment or {})},
    )


def ends_well(process: subprocess.Popen[str], told: str = "", timeout: float = 300) -> str:
    """What a process has said when it has ended without an error, told a line or nothing."""
    _, said = process.communicate(told, timeout=timeout)
    assert process.returncode == 0, said
    assert "Traceback" not in said
    return said


def wait_for_reports(url: str, process: subprocess.Popen[str], n: int = 5) -> None:
    """Until the study of a process has stored so many."""
    deadline = time.monotonic() + 120
    while n_reports(url) < n:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.2)


def n_reports(url: str) -> int:
    """How many values of steps the study `s` has."""
    try:
        return sum(len(t.intermediate_values) for t in study(url).get_trials(deepcopy=False))
    except DeepWeedsError:
        return 0


def study(url: str) -> optuna.Study:
    """The study `s`."""
    return manager.load_plain("s", open_storage(url, must_exist=True))


def has_ended_exactly(url: str, n_trials: int) -> None:
    """The study has finished so many trials, and nothing is left of it."""
    found = study(url)
    trials = found.get_trials()
    state = progress(trials, found.direction)
    assert (state.finished, state.running, state.waiting, state.failed) == (n_trials, 0, 0, 0)
    assert {t.state for t in trials} <= {TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL}
