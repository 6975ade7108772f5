"""Studies of 10,000 trials: what reads them answers in time, files carry them; and of 50,000."""

from __future__ import annotations

import csv
import gzip
import json
import subprocess
from pathlib import Path

import optuna
import pytest

from optuna_deepweeds.bench.storage import BIG, commands, make_big_study, seconds_of
from optuna_deepweeds.pruners import make_pruner
from optuna_deepweeds.samplers import make_sampler
from optuna_deepweeds.spaces import SPACES
from optuna_deepweeds.studies import manager
from optuna_deepweeds.studies.spec import Budget, StudySpec
from optuna_deepweeds.studies.storage import open_storage
from optuna_deepweeds.studies.transfer_file import export_study, import_study
from tests.faults.commands import COMMAND

pytestmark = pytest.mark.slow

N_TRIALS = 10_000
# In starts of the program, a tenth of a second each on an idle machine: a busy one slows both.
_LONGEST_STARTS = 60


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> optuna.storages.RDBStorage:
    url = f"sqlite:///{tmp_path_factory.mktemp('scale')}/optuna.db"
    storage = open_storage(url)
    make_big_study(storage, N_TRIALS)
    return storage


def test_every_command_answers(storage: optuna.storages.RDBStorage, tmp_path: Path) -> None:
    seconds = commands(str(storage.url), tmp_path)
    start, report = seconds.pop("--version"), seconds.pop("study report")
    assert max(seconds.values()) < _LONGEST_STARTS * start, seconds
    assert report < 2 * _LONGEST_STARTS * start, "it also draws every figure"


def test_a_file_carries_every_trial(storage: optuna.storages.RDBStorage, tmp_path: Path) -> None:
    study, file = manager.load_plain(BIG, storage), tmp_path / "big.jsonl.gz"
    other = open_storage(f"sqlite:///{tmp_path}/other.db")
    export_study(study, file)
    import_study(file, other)
    copy = manager.load_plain(BIG, other)
    assert [t.params for t in copy.trials] == [t.params for t in study.trials]


def test_a_study_beside_a_big_one_is_not_slowed(storage: optuna.storages.RDBStorage) -> None:
    spec = StudySpec(dataset="demo", sampler="random", pruner="asha")
    small, _ = manager.create_or_continue("small", spec, Budget(trials=1), storage)
    assert seconds_of(lambda: SPACES["course"].suggest(small.ask())) < 1.0


def test_fifty_thousand_trials_are_counted_by_every_command_and_searched_on(
    tmp_path: Path,
) -> None:
    url, n = f"sqlite:///{tmp_path}/optuna.db", 50_000
    study = make_big_study(open_storage(url), n)

    def said(*words: object) -> str:
        line = [*COMMAND, "study", *map(str, words), "--storage", url]
        return subprocess.run(line, check=True, capture_output=True, text=True).stdout

    (listed,) = json.loads(said("list", "-f", "json"))
    status = json.loads(said("status", BIG, "-f", "json"))
    (compared,) = json.loads(said("compare", BIG, "-f", "json"))
    rows = list(csv.DictReader(said("trials", BIG, "-f", "csv").splitlines()))
    assert listed["finished"] == status["complete"] == compared["trials"] == len(rows) == n
    assert status["epochs_trained"] == compared["epochs"] == 20 * n
    best = max(rows, key=lambda row: float(row["value"]))
    assert json.loads(said("best", BIG, "-f", "json"))["number"] == int(best["number"])
    said("report", BIG, "--output", tmp_path / "big.html")
    assert f"of {n:,} trials" in (tmp_path / "big.html").read_text()
    said("export", BIG, tmp_path / "big.jsonl.gz")
    with gzip.open(tmp_path / "big.jsonl.gz", "rt") as file:
        assert sum(1 for _ in file) == n + 2, "the head, and the number at the end"
    study.sampler = make_sampler("rf_ei", seed=0, space=SPACES["course"])
    study.pruner = make_pruner("dora", max_resource=20)
    trial = study.ask()
    assert SPACES["course"].suggest(trial).keys() >= trial.params.keys()
    trial.report(0.0, 1)
    assert trial.should_prune()
