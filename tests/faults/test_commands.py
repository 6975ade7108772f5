"""The command itself, killed and interrupted: its study ends as if nothing had happened."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest

from optuna_deepweeds.errors import DeepWeedsError
from optuna_deepweeds.studies import manager
from optuna_deepweeds.studies.accounting import is_best_unfinished, progress

pytestmark = pytest.mark.slow

_COMMAND = [sys.executable, "-m", "optuna_deepweeds", "study"]
_STUDY = ["--dataset", "demo", "--space", "course-small", "--epochs", "3", "--timeout", "1h"]
_STUDY += ["--no-shipped-priors"]


def _start(url: str, *options: str) -> subprocess.Popen[str]:
    line = [*_COMMAND, "run", "s", *_STUDY, "--storage", url, *options]
    return subprocess.Popen(
        line, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )


def _wait(url: str, until: Callable[[optuna.Study], bool]) -> optuna.Study:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        time.sleep(0.2)
        try:
            study = manager.open_study("s", url)
        except DeepWeedsError:
            continue
        if until(study):
            return study
    raise AssertionError("the study does not come on")


def _n_epochs(study: optuna.Study) -> int:
    return progress(study.get_trials(deepcopy=False), study.direction).epochs


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("limit", ["--trials", "--total-epochs"])
def test_a_killed_study_ends_with_exactly_its_total(
    tmp_path: Path, limit: str, workers: str
) -> None:
    url = f"sqlite:///{tmp_path}/optuna.db"
    total = {"--trials": 5, "--total-epochs": 8}[limit]
    process = _start(url, limit, str(total), "--workers", workers)
    study = _wait(url, lambda study: _n_epochs(study) >= 3)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    subprocess.run([*_COMMAND, "resume", "s", "--storage", url], check=True)
    trials = study.get_trials()
    state = progress(trials, study.direction)
    assert state.running == 0
    if limit == "--trials":
        assert (state.finished, state.waiting) == (total, 0)
    else:
        assert state.epochs == total
    assert state.complete > 0
    assert not is_best_unfinished(trials, study.direction)


def test_an_interrupt_within_the_first_trial_is_no_error(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/optuna.db"
    process = _start(url, "--trials", "2")
    study = _wait(url, lambda study: bool(study.get_trials(deepcopy=False)))
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert "1 wait" in said
    assert progress(study.get_trials(), study.direction).running == 0
