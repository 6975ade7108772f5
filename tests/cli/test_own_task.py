"""A study of anyone's objective or command, as its owner sees it."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import Command

OBJECTIVE = """
import optuna

def objective(trial):
    x = trial.suggest_float("x", -1, 1)
    for step in range(3):
        trial.report(x * x + step, step)
        if trial.should_prune():
            raise optuna.TrialPruned
    return x * x

def unchecked(trial): return trial.suggest_float("x", -1, 1)
def nothing(trial): trial.suggest_float("x", -1, 1)
def pair(trial): return 1.0, 2.0
def nan(trial): return float("nan")
def leaves(trial): raise SystemExit(3)
def three(trial, a, b): return 1.0
class Made: pass

SPACE = {"x": optuna.distributions.FloatDistribution(-1, 1)}
OTHER = {"y": optuna.distributions.FloatDistribution(-1, 1)}
"""
KEEPS = """
def objective(trial, run):
    x = trial.suggest_float("x", -1, 1)
    run.report(x, 1, save=lambda path: path.write_text(f"{x} {run.seed}"))
    return x

def plain(trial):
    return trial.suggest_float("x", -1, 1)
"""
PLAIN = ("--sampler", "random", "--pruner", "none", "--trials", 2)


@pytest.fixture
def here(command: Command) -> Command:
    Path("my.py").write_text(OBJECTIVE)
    return command


def test_a_trial_is_trained_again_where_nothing_of_it_is_left(command: Command) -> None:
    Path("keeps.py").write_text(KEEPS)
    assert command("study", "run", "mine", "--objective", "keeps.py", *PLAIN).code == 0
    assert command("study", "best", "mine", "--trial", 1, "--save", "kept").code == 0
    for folder in [*Path().rglob("checkpoints")]:
        shutil.rmtree(folder)
    again = command("study", "best", "mine", "--trial", 1, "--save", "again", "-f", "json")
    assert f"Trained trial 1 again: value {again.json['value']:.6g}." in again.err
    assert Path("again").read_text() == Path("kept").read_text()
    assert command("study", "run", "plain", "--objective", "keeps.py:plain", *PLAIN).code == 0
    none = command("study", "best", "plain", "--save", "none")
    assert (none.code, Path("none").exists()) == (3, False) and "saves no checkpoint" in none.err


def test_a_plain_objective_has_all_that_a_study_has(here: Command) -> None:
    done = here("study", "run", "mine", "--objective", "my.py", *PLAIN)
    assert done.code == 0
    assert "Task     my.py:objective: value, smaller is better\n" in done.err
    assert "Assumed  --direction minimize, --max-resource 20" in done.err
    assert done.err.count("saves nothing: an interrupted trial begins anew") == 1
    assert "6 epochs in" in done.err  # Steps from 0 on are counted from 1.
    spaced = ("--objective", "my.py", "--space", "my.py:SPACE")
    assert here("study", "run", "spaced", *spaced, *PLAIN, "--dry-run").code == 0
    again = here("study", "run", "mine", "--objective", "my.py:objective", *PLAIN)
    assert again.code == 0 and "Going on with the study" in again.err
    assert "saves nothing" not in again.err
    assert here("study", "export", "mine", "mine.jsonl").code == 0
    assert here("study", "import", "mine.jsonl", "--name", "copy").code == 0
    assert here("study", "resume", "copy", "--trials", 3).code == 0
    rows = here("study", "list", "-f", "json").json
    assert [(r["name"], r["finished"], r["dataset"]) for r in rows] == [
        ("mine", 2, "my.py:objective"),
        ("copy", 3, "my.py:objective"),
    ]
    evaluated = here("study", "evaluate", "mine")
    assert (evaluated.code, evaluated.err.count("\n")) == (2, 1)


def test_what_is_said_to_do_next_can_be_pasted(here: Command) -> None:
    """It names the storage where that was typed."""
    run = ("study", "run", "--storage", "own.db", *PLAIN, "--objective")
    done, failed = here(*run, "my.py", "mine"), here(*run, "my.py:nan", "bad")
    hints = re.findall(r"(?:^Next: |`)optuna-deepweeds ([^`\n]*)", done.err + failed.err, re.M)
    assert [hint.split()[1] for hint in hints] == [
        "resume",
        "best",
        "report",
        "mine",  # dashboard mine
        "trials",
    ]
    for hint in hints:
        if not hint.startswith("dashboard"):
            assert here(*shlex.split(hint)).code == 0, hint
    shown = here("study", "trials", "bad", "--failed", "--storage", "own.db")
    again = here(*shlex.split(shown.err.partition("optuna-deepweeds ")[2]))
    assert (again.code, again.err.count("\n")) == (1, 1) and "must return a number" in again.err
    assert not Path("storage").exists()


def test_a_dry_run_says_what_the_run_would(here: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = "complete,0.5,value,minimize,0\ncomplete,0.5,value,minimize,9\n"
    Path("runs.csv").write_text("state,value,metric,direction,param:x\n" + rows)
    run = ("study", "run", "mine", "--objective", "my.py", *PLAIN, "--priors", "runs.csv")
    spaced = (*run, "--space", "my.py:SPACE")
    for words in ((*run, "--dry-run"), run):  # Nothing yet tells what is searched.
        assert here(*words).code == 2
    dry = here(*spaced, "--dry-run")
    assert dry.code == 0 and "2 prior trials read: 1 fit, 1 dropped." in dry.err
    assert here("study", "list").out == ""
    assert here(*spaced).code == 0
    Path("my.py").write_text(OBJECTIVE + "# another\n")
    assert here(*spaced, "--dry-run").code == 4
    accepted = here(*spaced, "--dry-run", "--accept-changes")
    assert accepted.code == 0 and "Going on with the study. 2 finished" in accepted.err
    assert here(*spaced, "--dry-run").code == 4  # Nothing was accepted.
    monkeypatch.setenv("DEEPWEEDS_CHECKPOINTS", "my.py/folder")
    demo = ("study", "run", "other", "--dataset", "demo")
    for words in ((*demo, "--dry-run"), demo):
        refused = here(*words)
        assert refused.code == 2 and "DEEPWEEDS_CHECKPOINTS" in refused.err


def test_a_changed_objective_is_told_and_may_be_accepted(here: Command) -> None:
    run = ("study", "run", "mine", "--objective", "my.py", *PLAIN)
    assert here(*run).code == 0
    Path("my.py").write_text(OBJECTIVE + "# another\n")
    for words in (run, ("study", "resume", "mine"), ("worker", "mine")):
        refused = here(*words)
        assert (refused.code, refused.err.count("\n")) == (4, 1)
        assert "has changed" in refused.err and "--accept-changes" in refused.err
    assert here("study", "resume", "mine", "--trials", 3, "--accept-changes").code == 0
    assert here("study", "resume", "mine", "--trials", 4).code == 0
    Path("my.py").write_text(OBJECTIVE + "# a third\n")
    other = here(*run, "--accept-changes", "--seed", 5)
    assert other.code == 4 and "seed is 0" in other.err
    assert here("study", "resume", "mine").code == 4  # What was refused accepted nothing.
    assert here(*run, "--accept-changes").code == 0
    assert here(*run).code == 0


def test_a_study_ends_when_it_is_flat_and_says_what_that_saved(here: Command) -> None:
    run = ("study", "run", "mine", "--objective", "my.py:unchecked", *PLAIN[:-1], 100)
    done = here(*run, "--stop-when", "flat")
    assert done.code == 0
    assert done.err.count("Ended: the study has become flat.\n") == 1
    assert "\nSaved by ending when flat: " in done.err and " of value, less than a " in done.err
    assert "study resume mine\n" in done.err
    status = here("study", "status", "mine", "-f", "json").json
    assert status["trials_finished"] < 80 and status["flat_gain"] >= 0
    again = here(*run, "--stop-when", "flat")
    assert "Ended: the study has become flat." in again.err
    assert here("study", "status", "mine", "-f", "json").json == status
    assert here("study", "report", "mine").code == 0
    assert "Saved by ending when flat" in Path("reports/mine.html").read_text()
    more = ("--trials", status["trials_finished"] + 1)
    assert "study's total of trials is reached" in here("study", "resume", "mine", *more).err
    assert "flat_gain" not in here("study", "status", "mine", "-f", "json").json


@pytest.mark.parametrize("name", ["nothing", "pair", "nan", "leaves"])
def test_a_mistake_in_an_objective_ends_the_study_soon(here: Command, name: str) -> None:
    done = here("study", "run", "mine", "--objective", f"my.py:{name}", *PLAIN)
    assert done.code == 1
    assert done.err.count("failed: ") == 3 + 1
    reason = here("study", "trials", "mine", "--failed", "-f", "csv").csv[0]["reason"]
    assert reason.startswith(("an objective must return", "the objective left by sys.exit(3)"))


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--objective", "my.py:three"), "takes (trial, a, b)"),
        (("--objective", "my.py:Made"), "is a class"),
        (("--objective", "my.py:SPACE"), "is no function"),
        (("--objective", "no.py"), "no file"),
        (("--objective", "my.py", "--thaw"), "--thaw needs a task that saves"),
        (("--objective", "my.py", "--dataset", "demo"), "--dataset"),
        (("--objective", "my.py", "--script", "true"), "exclude one another"),
        (("--objective", "my.py", "--max-resource", 0), "epochs >= 1"),
        (("--objective", "my.py", "--direction", "up"), "minimize"),
        (("--script", "true"), "needs --space"),
        (("--script", "python none.py", "--space", "my.py:SPACE"), "no file none.py"),
        (("--metric", "loss"), "are of --objective and --script"),
        (("--dataset", "demo", "--space", "my.py:SPACE"), "training knows no 'x'"),
    ],
)
def test_what_cannot_be_searched_is_one_line(
    here: Command, args: tuple[object, ...], words: str
) -> None:
    done = here("study", "run", "mine", *args)
    assert done.code in (2, 3)
    assert words in done.err and done.err.count("\n") == 1
    assert not Path("storage").exists()


def test_a_space_that_contradicts_its_objective_is_one_line(here: Command) -> None:
    done = here("study", "run", "m", "--objective", "my.py", "--space", "my.py:OTHER", *PLAIN)
    assert done.code == 2
    words = "the objective suggests 'x', which the space my.py:OTHER does not have."
    assert words in done.err.splitlines()[-1]


def test_spaces_are_shown_by_name_and_file(here: Command) -> None:
    rows = here("spaces", "show", "course", "-f", "json").json
    assert {"parameter": "n_conv_layers", "range": [1, 3]}.items() <= rows[0].items()
    assert here("spaces", "show", "my.py:SPACE", "-f", "csv").csv[0]["parameter"] == "x"
    Path("mine.toml").write_text(here("spaces", "show", "modern", "--toml").out)
    same = here("spaces", "show", "mine.toml", "-f", "json").json
    assert same == here("spaces", "show", "modern", "-f", "json").json
    assert here("spaces", "show", "curse").code == 2
