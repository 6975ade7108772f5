"""Commands killed while they write, and checkpoints that somebody else wrote: all is well again.

The kills come at parts of the time that the command takes undisturbed, its start included.
"""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from optuna.trial import TrialState

from optuna_deepweeds import attributes
from optuna_deepweeds.bench.storage import BIG, make_big_study
from optuna_deepweeds.datasets.prepared import read_prepared
from optuna_deepweeds.studies import manager
from optuna_deepweeds.studies.storage import open_storage
from optuna_deepweeds.studies.transfer_file import import_study
from tests.cli.test_experiment import GRID as grid_file
from tests.datasets.support import write_labels, write_photographs

pytestmark = pytest.mark.slow

PARTS = (0.35, 0.6, 0.8, 0.95)
PARTS_OF_TRAINING = (0.5, 0.9)
GRID = grid_file.replace("trials = 1", "trials = 2")


def run(*words: object, folder: Path, kill_after: float | None = None) -> tuple[int, float, str]:
    """Exit code, seconds and stderr of a command, killed with all that it started."""
    environment = {k: v for k, v in os.environ.items() if k not in ("OPTUNA_STORAGE",)}
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "optuna_deepweeds", *map(str, words)],
        cwd=folder,
        env=environment | {"XDG_CACHE_HOME": str(folder / "cache"), "OMP_NUM_THREADS": "1"},
        text=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        _, said = process.communicate(timeout=kill_after or 600)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        _, said = process.communicate()
    return process.returncode, time.monotonic() - started, said


def killed_and_run_again(
    words: Sequence[object],
    folder: Path,
    check: Callable[[], object],
    clear: Callable[[], object],
    parts: Sequence[float] = PARTS,
) -> None:
    """`check` holds after an undisturbed run, and after each that follows a kill."""
    code, seconds, said = run(*words, folder=folder)
    assert code == 0, said
    check()
    for part in parts:
        clear()
        code, _, said = run(*words, folder=folder, kill_after=part * seconds)
        assert code in (0, -signal.SIGKILL), said
        code, _, said = run(*words, folder=folder)
        assert code == 0, said
        check()


def test_export(tmp_path: Path) -> None:
    make_big_study(open_storage(str(tmp_path / "a.db")), 3000)
    file = tmp_path / "big.jsonl.gz"

    def check() -> None:
        storage = optuna.storages.InMemoryStorage()
        assert len(import_study(file, storage).get_trials(deepcopy=False)) == 3000

    def clear() -> None:
        check()  # What an earlier run wrote stays whole until the next has written all.

    words = ("study", "export", BIG, file, "--storage", tmp_path / "a.db")
    killed_and_run_again(words, tmp_path, check, clear)


def test_data_prepare(tmp_path: Path) -> None:
    images = write_photographs(tmp_path / "images", 400)
    labels = write_labels(tmp_path / "labels", 400)
    data = tmp_path / "data"

    def check() -> None:
        assert len(read_prepared(data).labels) == 400

    def clear() -> None:
        for path in data.iterdir():
            path.unlink()

    words = ("data", "prepare", "--images", images, "--labels", labels, "--data-dir", data)
    killed_and_run_again(words, tmp_path, check, clear)


QUICK = ("--dataset", "demo", "--space", "course-small", "--sampler", "random", "--pruner", "none")


def test_evaluate(tmp_path: Path) -> None:
    code, _, said = run("study", "run", "s", *QUICK, "--epochs", 1, "--trials", 1, folder=tmp_path)
    assert code == 0, said
    url = str(tmp_path / "storage" / "optuna.db")

    def check() -> None:
        (trial,) = stored()["trials"]
        assert len(trial["seeds"]) == 2

    def stored() -> Any:
        return manager.find("s", url).user_attrs[attributes.EVALUATION]

    def clear() -> None:
        manager.find("s", url).set_user_attr(attributes.EVALUATION, None)

    words = ("study", "evaluate", "s", "--top-k", 1, "--seeds", 2)
    killed_and_run_again(words, tmp_path, check, clear, PARTS_OF_TRAINING)


def test_experiment_run(tmp_path: Path) -> None:
    (tmp_path / "grid.toml").write_text(GRID)
    url = tmp_path / "storage" / "optuna.db"

    def check() -> None:
        storage = open_storage(str(url), must_exist=True)
        names = manager.study_names(storage)
        assert sorted(names) == ["tiny-random-none-seed1", "tiny-random-none-seed2"]
        for name in names:
            study = manager.load_plain(name, storage)
            states = [t.state for t in study.get_trials(deepcopy=False)]
            assert states.count(TrialState.COMPLETE) == 2
            assert set(states) <= {TrialState.COMPLETE, TrialState.FAIL}  # Left, and run again.
            assert study.user_attrs[attributes.EVALUATION]["trials"]

    def clear() -> None:
        for path in (tmp_path / "storage").rglob("optuna.db*"):
            if path.is_file():
                path.unlink()

    words = ("experiment", "run", "grid.toml")
    killed_and_run_again(words, tmp_path, check, clear, PARTS_OF_TRAINING)


class _Evil:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.folder / "executed"),))


def _legacy(path: Path) -> bytes:
    """The same content as versions of torch before 1.6 wrote it."""
    content = torch.load(path, weights_only=True)
    torch.save(content, path, _use_new_zipfile_serialization=False)
    return path.read_bytes()


CHECKPOINTS: dict[str, tuple[Callable[[Path], bytes], bool]] = {
    "of an old torch": (_legacy, True),
    "cut off": (lambda path: path.read_bytes()[:-2000], False),
    "empty": (lambda path: b"", False),
    "malicious": (lambda path: pickle.dumps(_Evil(path.parent)), False),
    "malicious archive": (lambda path: _archived(path, _Evil(path.parent)), False),
}


def _archived(path: Path, evil: _Evil) -> bytes:
    content = torch.load(path, weights_only=True)
    torch.save(content | {"config": evil}, path)
    return path.read_bytes()


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a study's total of epochs put its trial back with a checkpoint of its second one."""
    folder = tmp_path_factory.mktemp("begun")
    words = ("study", "run", "s", *QUICK, "--epochs", 4, "--trials", 1, "--total-epochs", 2)
    code, _, said = run(*words, folder=folder)
    assert code == 0, said
    return folder


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_a_checkpoint_that_somebody_else_wrote(tmp_path: Path, begun: Path, kind: str) -> None:
    make, is_used = CHECKPOINTS[kind]
    shutil.copytree(begun, tmp_path, dirs_exist_ok=True)
    (checkpoint,) = (p for p in (tmp_path / "storage").rglob("*.pt"))
    checkpoint.write_bytes(make(checkpoint))
    code, _, said = run("-v", "study", "resume", "s", "--total-epochs", 10, folder=tmp_path)
    assert code == 0, said
    assert ("starts anew" in said) == (not is_used)
    (trial,) = manager.find("s", str(tmp_path / "storage" / "optuna.db")).get_trials()
    assert trial.state == TrialState.COMPLETE and sorted(trial.intermediate_values) == [1, 2, 3, 4]
    assert not list(tmp_path.rglob("executed"))
