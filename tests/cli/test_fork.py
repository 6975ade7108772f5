"""A study that begins from another one: what comes along, what does not, and why."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import Command

OBJECTIVE = """
import json
METRIC = "loss"

def objective(trial, run):
    x = trial.suggest_float("x", 0, 1)
    done = json.loads(run.checkpoint.read_text()) if run.checkpoint.exists() else 0
    for step in range(done + 1, run.epochs + 1):
        with open("steps", "a") as file:
            print(step, file=file)
        run.report(x + 1 / step, step, save=lambda path: path.write_text(json.dumps(step)))
    return x + 1 / run.epochs
"""
SPACE = '[parameters]\nx = { type = "float", low = 0, high = 0.5 }\n'


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the first test fills."""
    return tmp_path_factory.mktemp("fork")


@pytest.fixture
def old(command: Command, made: Path) -> Command:
    """`command` with a study `old` of four steps, which has trained some trials to the end."""
    if not list(made.iterdir()):
        Path("my.py").write_text(OBJECTIVE)
        Path("half.toml").write_text(SPACE)
        run = ("study", "run", "old", "--objective", "my.py", "--epochs", 4, "--trials", 12)
        done = command(*run)
        assert done.code == 0, done.err
        shutil.copytree(".", made, dirs_exist_ok=True)
    shutil.copytree(made, ".", dirs_exist_ok=True)
    return command


def _steps() -> int:
    return len(Path("steps").read_text().splitlines())


def test_a_longer_study_goes_on_from_the_old_checkpoints(old: Command) -> None:
    before = old("study", "status", "old", "-f", "json").json
    done = old("study", "fork", "old", "long", "--epochs", 8)
    assert done.code == 0
    assert (
        f"12 trials came along, {before['complete']} of which had been trained to the end of 4"
        in done.err
    )
    assert "Next: optuna-deepweeds study resume long --trials 24" in done.err
    first = old("study", "status", "long", "-f", "json").json
    assert (first["complete"], first["paused"]) == (0, 12)
    assert first["epochs_trained"] == before["epochs_trained"] == _steps()
    assert old("study", "resume", "long", "--trials", 20).code == 0
    after = old("study", "status", "long", "-f", "json").json
    assert after["complete"] >= 1 and after["epochs_trained"] == _steps()
    # One that was trained to the end before has gone on where it was.
    rows = old("study", "trials", "long", "-f", "json").json
    ended = [r for r in rows if r["state"] == "complete"]
    assert any(r["epochs"] == 8 and r["origin"] is not None for r in ended)
    assert old("study", "status", "old", "-f", "json").json == before


@pytest.mark.parametrize(
    ("options", "added"),
    [
        (("--space", "half.toml", "--objective", "half.py"), "x must be a number from 0 to 0.5"),
        (("--epochs", 2), "0 dropped"),
        (("--objective", "mended.py"), "0 dropped"),
        (("--objective", "other.py"), "the metric must be gain to maximize"),
    ],
)
def test_another_study_learns_from_what_fits(
    old: Command, options: tuple[object, ...], added: str
) -> None:
    Path("half.py").write_text(OBJECTIVE.replace("0, 1", "0, 0.5"))
    Path("mended.py").write_text(OBJECTIVE + "# mended\n")
    Path("other.py").write_text(OBJECTIVE.replace('"loss"', '"gain"') + 'DIRECTION = "maximize"\n')
    before = old("study", "trials", "old", "-f", "json").json
    done = old("study", "fork", "old", "new", *options)
    assert done.code == 0
    assert "Study new begins anew and learns from old." in done.err
    assert "prior trials read" in done.err and added in done.err
    listed = old("study", "trials", "new", "--priors", "-f", "json").json
    assert all(row["prior"] == "old" for row in listed)
    assert (listed != []) == ("gain" not in added)
    if options == ("--epochs", 2):  # As they were then; what was stopped before is expected.
        values = {row["x"]: row["value"] for row in listed if row["epochs"] == 2}
        assert values and all(v == pytest.approx(x + 0.5) for x, v in values.items())
    if "half.py" in options:
        assert old("study", "resume", "new", "--trials", 2).code == 0
        assert old("study", "status", "new", "-f", "json").json["trials_finished"] == 2
    assert old("study", "trials", "old", "-f", "json").json == before


REFUSED = [
    (("old", "old", "--epochs", 8), 2, "must be new in its storage"),
    (("old", "old", "--epochs", 2), 2, "must be new in its storage"),
    (("old", "new", "--epochs", 4), 2, "has all this already"),
    (("old", "new", "--epochs", 0), 2, "epochs >= 1"),
    (("old", "new", "--space", "none.toml"), 3, "no file none.toml"),
    (("old", "new", "--objective", "none.py"), 3, "no file"),
    (("old", "new", "--objective", "my.py", "--dataset", "demo"), 2, "--dataset is of images"),
    (("none", "new", "--epochs", 8), 3, "no study 'none'"),
    (("old", "new:priors", "--epochs", 2), 2, "must not end with"),
]


def test_what_cannot_be_forked_is_one_line(old: Command) -> None:
    for args, code, words in REFUSED:
        done = old("study", "fork", *args)
        assert (done.code, done.err.count("\n")) == (code, 1), args
        assert words in done.err, args
    assert [row["name"] for row in old("study", "list", "-f", "json").json] == ["old"]
