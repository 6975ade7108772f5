"""What the terminal, a log and the end of a study say."""

from __future__ import annotations

import optuna
import pytest
from optuna.study import StudyDirection

from optuna_deepweeds.cli import _display, _output
from optuna_deepweeds.studies.accounting import Progress, progress
from optuna_deepweeds.studies.spec import Budget


def standing(complete: int = 0, epochs: int = 0, seconds: float = 0.0) -> Progress:
    trials = [
        optuna.trial.create_trial(value=0.5, intermediate_values={1: 0.5}) for _ in range(complete)
    ]
    counted = progress(trials, StudyDirection.MAXIMIZE)
    return Progress(**{**vars(counted), "epochs": epochs, "seconds": seconds})


def test_the_countdown_goes_on_within_a_trial() -> None:
    state, budget = standing(1, seconds=30), Budget(seconds=100)
    assert _display.summary(state, budget)[2].startswith("1 min")
    assert "0 s left" in _display.summary(state, budget, elapsed=70)


def test_a_narrow_terminal_shows_the_first_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setattr(_output, "terminal_width", lambda: 30)
    row = {"name": "a" * 20, "best_value": 0.5, "about": "x" * 40}
    _output.emit([row], columns=list(row), fmt="table")
    out, err = capsys.readouterr()
    assert "about" not in out and "about" in err and "-f csv" in err
    assert max(map(len, out.splitlines())) <= 30
    _output.emit([row], columns=list(row), fmt="csv")
    assert "about" in capsys.readouterr().out
