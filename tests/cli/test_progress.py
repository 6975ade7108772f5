"""What the terminal, a log and the end of a study say."""

from __future__ import annotations

import io
import json
import time

import click
import optuna
import pytest
from click.shell_completion import ShellComplete
from optuna.study import StudyDirection
from optuna.trial import TrialState
from rich.console import Console

from optuna_deepweeds import attributes
from optuna_deepweeds.cli import _display, _output, cli
from optuna_deepweeds.cli._display import Display
from optuna_deepweeds.studies.accounting import Progress, progress
from optuna_deepweeds.studies.spec import Budget
from tests.cli.conftest import Command


def standing(complete: int = 0, epochs: int = 0, seconds: float = 0.0) -> Progress:
    trials = [
        optuna.trial.create_trial(value=0.5, intermediate_values={1: 0.5}) for _ in range(complete)
    ]
    counted = progress(trials, StudyDirection.MAXIMIZE)
    return Progress(**{**vars(counted), "epochs": epochs, "seconds": seconds})


@pytest.fixture
def study() -> optuna.Study:
    """One trial trained to the end, one under way."""
    study = optuna.create_study(direction="maximize")
    study.set_user_attr(attributes.SPEC, {"epochs": 20})
    study.add_trial(optuna.trial.create_trial(value=0.75, intermediate_values={20: 0.75}))
    study.ask().report(0.25, 3)
    return study


def stop(study: optuna.Study) -> None:
    trial = study.ask()
    trial.report(0.5, 1)
    foreseen = {"epoch": 1, "expected": 0.6, "low": 0.5, "high": 0.7, "reason": "others go first"}
    trial.set_user_attr(attributes.ANTICIPATION, foreseen)
    study.tell(trial, state=TrialState.PRUNED)


def test_the_countdown_goes_on_within_a_trial() -> None:
    state, budget = standing(1, seconds=30), Budget(seconds=100)
    assert _display.summary(state, budget)[2].startswith("1 min")
    assert "0 s left" in _display.summary(state, budget, elapsed=70)


def test_a_log_tells_of_each_trial_that_ends_and_of_the_best(
    study: optuna.Study, capsys: pytest.CaptureFixture[str]
) -> None:
    display = Display(study, Budget(trials=9))
    stop(study)
    display.refresh()
    display.refresh()
    (line,) = capsys.readouterr().err.splitlines()
    assert "trial    2 stopped at epoch 1 with 0.5000, 0.600 expected: others go first" in line
    assert line.endswith("best 0.7500 (#0)")


def test_a_long_silence_is_broken_by_what_runs(
    study: optuna.Study, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where no step ends, and nobody asks."""
    monkeypatch.setattr(_display, "_SECONDS_OF_SILENCE", 0.1)
    display, said = Display(study, Budget(trials=9)), ""
    display.refresh()
    until = time.monotonic() + 20
    while not said and time.monotonic() < until:
        time.sleep(0.02)
        said = capsys.readouterr().err
    display.clear()
    assert said.startswith("trial 1 epoch 3 with 0.2500 | 1/9 done")


def test_programs_get_the_same_as_json(
    study: optuna.Study, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(_output._said, "format", "json")
    display = Display(study, Budget(trials=9))
    stop(study)
    display.refresh()
    line = json.loads(capsys.readouterr().err)
    assert line["event"] == "trial" and line["number"] == 2 and line["state"] == "stopped"
    assert (line["value"], line["epoch"], line["expected"], line["best"]) == (0.5, 1, 0.6, 0.75)


def test_a_terminal_shows_a_bar_for_each_trial_under_way(
    study: optuna.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True, width=80, _environ={"TERM": "xterm"})
    monkeypatch.setattr(_display, "console", terminal)
    display = Display(study, Budget(trials=9))
    display.refresh()
    display.clear()
    shown = click.unstyle(screen.getvalue())
    assert "trial 1" in shown and "epoch 3/20" in shown and "leaders 0.7500 (#0)" in shown


def test_json_logs_of_a_command_are_json_to_its_error(command: Command) -> None:
    result = command("--log-format", "json", "study", "status", "none")
    (line,) = result.err.splitlines()
    assert result.code == 3 and json.loads(line)["exit_code"] == 3


def test_watch_ends_where_nothing_runs(studied: Command) -> None:
    result = studied("study", "watch", "mine")
    assert result.code == 0 and "No trial has run yet" in result.err


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["study", "status"], "mine"), (["study", "compare"], "mine"), (["dashboard"], "mine"),
        (["study", "run", "--sampler"], "rf_ei"), (["study", "run", "--pruner"], "dora"),
    ],
)  # fmt: skip
def test_names_are_completed(studied: Command, words: list[str], found: str) -> None:
    completions = ShellComplete(cli, {}, "optuna-deepweeds", "_COMPLETE")
    assert found in [item.value for item in completions.get_completions(words, found[:1])]


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
