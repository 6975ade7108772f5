"""The study commands end to end, on the demo images, and what they say to bad input."""

from __future__ import annotations

import importlib.util
import io
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import optuna
import pytest

from optuna_deepweeds import attributes
from optuna_deepweeds.studies.storage import open_storage
from optuna_deepweeds.studies.storage.identity import this_worker
from optuna_deepweeds.training import TrainedNetwork
from tests.cli.conftest import Command
from tests.priors.conftest import history

QUICK = "--trials 2 --epochs 1 --sampler random --pruner none --seed 4".split()


_CROSS = ("--protocol", "cv3", "--output", "x.pt")
_IDENTITY = (
    "from optuna_deepweeds.studies.storage.identity import this_worker\n"
    "print(this_worker(), end='')"
)


def test_a_study_runs_is_shown_resumed_and_deleted(command: Command) -> None:
    done = command("study", "run", "mine", *QUICK)
    assert done.code == 0
    assert done.out == ""
    assert done.err.startswith("DeepWeeds is not on this machine")
    assert "optuna-deepweeds data prepare" in done.err
    assert "2 finished trials: 2 complete" in done.err
    assert "\r" not in done.err  # No live line where nobody watches, but one a trial.
    lines = re.findall(r"^trial +\d complete at epoch 1 with 0\.\d+ \| best 0", done.err, re.M)
    assert len(lines) == 2
    assert "Next: optuna-deepweeds study resume mine --trials 4\n" in done.err

    row = command("study", "list", "-f", "json").json[0]
    assert (row["name"], row["finished"], row["sampler"]) == ("mine", 2, "random")
    rows = command("study", "trials", "mine", "-f", "csv").csv
    assert [r["state"] for r in rows] == ["complete", "complete"]
    assert rows[0]["learning_rate_init"]

    status = command("study", "status", "mine", "-f", "json").json
    assert (status["trials_finished"], status["epochs_trained"]) == (2, 2)
    assert command("study", "resume", "mine").err.startswith("Going on with study mine")
    best = command("study", "best", "mine", "-f", "json", "--save", "net.pt")
    assert best.json["value"] == status["best_value"]
    assert Path("net.pt").exists()

    assert command("study", "delete", "mine", "--yes").code == 0
    assert command("study", "list").err.startswith("No studies yet")
    assert list(Path("storage/checkpoints").iterdir()) == []


def test_a_dry_run_leaves_nothing(command: Command) -> None:
    done = command("study", "run", "--dry-run")
    assert (done.code, done.out) == (0, "")
    assert "Budget" in done.err
    assert not Path("storage").exists()


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (("--source", "nothing"), 3, "no study 'nothing'"),
        (("--storage", "postgresql://me@127.0.0.1:1/x"), 5, "127.0.0.1"),
        (("--storage", "sqlite:///no/such/x.db"), 5, "no/such"),
        (("mine", "--sampler", "tpe"), 4, "sampler is 'rf_ei'"),
        (("--engine", "slurm"), 1, "submitit"),
        (("--priors", "sqlite:///app.db#x"), 5, "holds other tables"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_a_dry_run_refuses_what_the_run_would(
    studied: Command,
    monkeypatch: pytest.MonkeyPatch,
    args: tuple[str, ...],
    code: int,
    says: str,
) -> None:
    with closing(sqlite3.connect("app.db")) as connection:
        connection.execute("CREATE TABLE theirs (a INTEGER)")
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "submitit" else find(name)
    )
    before = Path("app.db").read_bytes()
    done = studied("study", "run", *args, "--dry-run")
    assert done.code == code and says in done.err, done.err
    assert Path("app.db").read_bytes() == before


def test_a_cluster_has_devices_that_this_machine_has_not(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    done = command("study", "run", "--engine", "slurm", "--device", "cuda:99", "--dry-run")
    assert done.code == 0 and "device cuda:99" in done.err


def test_images_are_told_before_torch_is_asked_for_a_device(command: Command) -> None:
    done = command("study", "run", "--dataset", "demo", "--device", "cuda:99")
    *first, refused = done.err.splitlines()
    assert first[:2] == [
        "Images   demo, 32x32",
        "         train: 2,000 images, 8 classes, 250 each",
    ]
    assert done.code == 2 and refused.startswith("Error:") and "cuda" in refused


def test_what_a_trial_is_worth_may_be_its_best_epoch(command: Command) -> None:
    options = "--trials 3 --epochs 4 --space course-small --sampler random --pruner none --seed 3"
    done = command("study", "run", "mine", *options.split(), "--keep", "best")
    assert done.code == 0 and "4 epochs a network, its best kept" in done.err
    trials = optuna.load_study(study_name="mine", storage=open_storage()).trials
    bests = [max(trial.intermediate_values.values()) for trial in trials]
    assert [trial.value for trial in trials] == bests
    assert any(
        trial.intermediate_values[4] < best for trial, best in zip(trials, bests, strict=True)
    )
    assert command("study", "best", "mine", "--save", "net.pt").code == 0
    assert TrainedNetwork.load(Path("net.pt")).valid_accuracy == max(bests)
    refused = command("study", "run", "mine", *options.split())
    assert refused.code == 4 and "keep is 'best', asked for 'last'" in refused.err


def test_a_name_that_is_made_tells_every_specification_apart(command: Command) -> None:
    variants: list[tuple[str, ...]] = [(), ("--epochs", "5"), ("--no-thaw",), ("--seed", "1")]
    variants += [("--keep", "best")]
    names = set()
    for variant in variants:
        done = command("study", "run", "--dry-run", *variant)
        names.add(re.search(r"^Study +(.+)$", done.err, re.M).group(1))  # type: ignore[union-attr]
    assert len(names) == len(variants)


def test_stopped_trials_show_their_forecast_and_the_best_stands_in_until_one_is_complete(
    studied: Command,
) -> None:
    study = optuna.load_study(study_name="mine", storage=open_storage())
    for value, low, high in ((0.4, None, None), (0.6, 0.5, 0.7)):
        trial = study.ask()
        trial.report(value, 1)
        # Nothing is expected of a trial before a forecast is possible.
        foreseen = {"epoch": 1, "expected": 0.6, "low": low, "high": high, "reason": "slow"}
        trial.set_user_attr(attributes.ANTICIPATION, foreseen)
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    rows = studied("study", "trials", "mine", "-f", "json").json
    assert [row["expected"] for row in rows] == [None, 0.6]
    best = studied("study", "best", "mine", "-f", "json")
    assert best.json["number"] == 1
    assert "the best of those that were stopped" in best.err


def test_a_failed_trial_tells_why(studied: Command) -> None:
    none = studied("study", "trials", "mine", "--failed")
    assert (none.out, none.err) == ("", "No trial of study mine has failed.\n")
    study = optuna.load_study(study_name="mine", storage=open_storage())
    trial, why = study.ask(), "the training loss must stay finite"
    trial.set_user_attr(attributes.FAILURE, why)
    study.tell(trial, state=optuna.trial.TrialState.FAIL)
    assert why in studied("study", "trials", "mine", "--failed").out


def test_deleting_asks_first(studied: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    done = studied("study", "delete", "mine")
    assert (done.code, done.out) == (1, "")
    assert done.err.endswith("Nothing was deleted.\n")
    assert "mine" in studied("study", "list").out


def test_stop_is_remembered_until_resumed(studied: Command) -> None:
    assert studied("study", "stop", "mine").err == (
        "Study mine stops. `optuna-deepweeds study resume mine` goes on.\n"
    )
    study = optuna.load_study(study_name="mine", storage=open_storage())
    assert study.user_attrs["deepweeds:stop"]
    study.ask()
    assert "stops; still to finish: 1 running trial." in studied("study", "stop", "mine").err


def test_reaping_tells_what_it_leaves_alone(studied: Command) -> None:
    study = optuna.load_study(study_name="mine", storage=open_storage())
    dead, alive = study.ask(), study.ask()
    process = subprocess.run([sys.executable, "-c", _IDENTITY], capture_output=True, text=True)
    dead.set_user_attr(attributes.WORKER, process.stdout)
    alive.set_user_attr(attributes.WORKER, this_worker())
    done = studied("study", "reap", "mine")
    assert done.err.splitlines()[-2:] == [
        "1 trial of dead workers queued again: 0.",
        "1 running trial left alone: the worker lives, or gave a sign of life in the last 90 s.",
    ]
    assert studied("study", "reap", "mine").err.startswith("0 trials of dead workers queued again")


def test_an_exported_study_comes_back(studied: Command) -> None:
    assert studied("study", "export", "mine", "mine.jsonl.gz").code == 0
    assert studied("study", "import", "mine.jsonl.gz", "--name", "yours").code == 0
    assert [r["name"] for r in studied("study", "list", "-f", "json").json] == ["mine", "yours"]


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (("study", "run", "--dataset", "deepweed"), 2, "Did you mean 'deepweeds'"),
        (("study", "run", "--dataset", "deepweeds"), 3, "data prepare"),
        (("study", "run", "--space", "curse"), 2, "Did you mean 'course'"),
        (("study", "run", "--trials", "0"), 2, "trials >= 1"),
        (("study", "run", "--trials", "many"), 2, "not a valid integer"),
        (("study", "run", "--timeout", "soon"), 2, "a time such as"),
        (("study", "run", "--timeout", "7h"), 2, "timeout <= 6h"),
        (("study", "run", "--epochs", "21"), 2, "1 <= epochs <= 20"),
        (("study", "run", "--workers", "0"), 2, "1 <= workers"),
        (("study", "run", "--device", "quantum"), 2, "quantum"),
        (("study", "run", "--enqueue-best", "3"), 2, "--priors"),
        (("study", "run", "--priors", "nowhere.csv"), 3, "nowhere.csv"),
        (("study", "run", "--priors", "noise.bin", "--enqueue-best", "1"), 2, "noise.bin"),
        (("study", "run", "--source", "nothing"), 3, "no study 'nothing'"),
        (("study", "run", "--storage", "sqlite:///no/such/folder/x.db"), 5, "no/such/folder"),
        (("study", "run", "--storage", "postgresql://me:secret@127.0.0.1:1/x"), 5, "127.0.0.1"),
        (("study", "run", "--storage", "nonsense://x"), 2, "nonsense"),
        (("study", "run", "--storage", "noise.bin"), 5, "noise.bin"),
        (("study", "run", "--name", ""), 2, "1 to 200"),
        (("study", "run", "a", "--name", "b"), 2, "NAME is 'a', but --name is 'b'"),
        (("study", "run", "--fold", "3"), 2, "one split, fold 0"),
        (("study", "run", "--data-dir", "nowhere"), 3, "nowhere"),
        (("study", "resume", "mien"), 3, "Did you mean 'mine'"),
        (("study", "resume"), 2, "NAME"),
        (("study", "status", "nothing"), 3, "no study 'nothing'"),
        (("study", "best", "mine"), 3, "no finished trial"),
        (("study", "run", "--name", "-dash"), 2, "begin with a dash"),
        (("study", "best", "mine", "--trial", "7"), 3, "no trial 7"),
        (("study", "trials", "mine", "--state", "happy"), 2, "happy"),
        (("study", "import", "nowhere.jsonl"), 3, "nowhere.jsonl"),
        (("study", "import", "noise.bin"), 2, "noise.bin"),
        (("study", "run", "--name", "mine", "--sampler", "tpe"), 4, "sampler is 'rf_ei'"),
        (("worker", "nothing"), 3, "no study 'nothing'"),
        (("dashboard", "--storage", "sqlite:///missing.db"), 3, "no study to show yet"),
        (("dashboard", "--port", "99999"), 1, "99999"),
        (("study", "evaluate", "yours"), 3, "no study 'yours'"),
        (("study", "evaluate", "mine", *_CROSS), 2, "--protocol holdout"),
        (("study", "evaluate", "mine", "--recipe", "secre"), 2, "Invalid value for '--recipe'"),
        (("priors", "list", "--storage", "mistyped.db"), 3, "no file mistyped.db"),
        (("priors", "show", "none.csv"), 3, "does not exist"),
        (("priors", "import", "good.csv", "--study", "frist"), 3, "frist"),
        (("priors", "import", "noise.bin", "--study", "mine"), 2, "must be UTF-8 text"),
        (("data", "prepare", "--mirror", "images.zip"), 2, "mirror"),
        (("data", "info", "deepweeds"), 3, "data prepare"),
        (("data", "info", "nothing"), 2, "nothing"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_bad_input_gets_one_line_and_changes_nothing(
    studied: Command, tmp_path: Path, args: tuple[str, ...], code: int, says: str
) -> None:
    Path("noise.bin").write_bytes(bytes(range(256)) * 4)
    Path("good.csv").write_text(history({}))
    before = _snapshot()
    done = studied(*args)
    assert (done.code, done.out) == (code, ""), done.err
    assert says in done.err
    assert "secret" not in done.err
    told = ("DeepWeeds is", "To ", "Images  ", " " * 9)
    lines = [line for line in done.err.splitlines() if not line.startswith(told)]
    assert len(lines) == 1, done.err
    assert lines[0].startswith("Error: ")
    assert _snapshot() == before


def _snapshot() -> list[tuple[str, dict[str, object], int]]:
    """Every study with attributes and number of trials."""
    studies = optuna.get_all_study_summaries(storage=open_storage())
    return [(s.study_name, s.user_attrs, s.n_trials) for s in studies]
