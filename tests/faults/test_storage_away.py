"""The command itself on a storage that is deleted, cut short, full or not writable."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from optuna.trial import TrialState

from optuna_deepweeds.studies import manager
from tests.faults.commands import (
    COMMAND,
    OBJECTIVE,
    ends_well,
    has_ended_exactly,
    images_line,
    run_study,
    start,
    study,
    wait_for_reports,
)

pytestmark = pytest.mark.slow

_STORAGE_EXIT, _MISMATCH_EXIT = 5, 4


def _run(folder: Path, *options: str) -> subprocess.Popen[str]:
    return run_study(_url(folder), folder.parent / "quick.py", *options)


def _url(folder: Path) -> str:
    return f"sqlite:///{folder}/s.db"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "quick.py").write_text(OBJECTIVE)
    (tmp_path / "studies").mkdir()
    return tmp_path / "studies"


@contextmanager
def _tmpfs(folder: Path, *options: str) -> Iterator[None]:
    mount = ["mount", "-t", "tmpfs", *options, "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def _begun(folder: Path) -> subprocess.Popen[str]:
    """A study of many trials that runs, and has stored some reports."""
    process = _run(folder, "--trials", "1000")
    wait_for_reports(_url(folder), process)
    return process


def _says(process: subprocess.Popen[str], code: int) -> str:
    """The one line with which it ends."""
    _, said = process.communicate(timeout=120)
    lines = [line for line in said.splitlines() if line.startswith("Error: ")]
    assert (process.returncode, len(lines)) == (code, 1), said
    assert "Traceback" not in said
    return lines[0]


def _ends_exactly(folder: Path, n_trials: int) -> None:
    ends_well(_run(folder, "--trials", str(n_trials)))
    has_ended_exactly(_url(folder), n_trials)


def _delete(file: Path) -> None:
    file.unlink()


def _move(file: Path) -> None:
    file.rename(file.with_name("moved.db"))


def _replace(file: Path) -> None:
    file.with_name("other.db").write_bytes(file.read_bytes())
    file.with_name("other.db").replace(file)


@pytest.mark.parametrize("take", [_delete, _move, _replace])
def test_a_worker_whose_file_is_taken_away_says_so(
    folder: Path, take: Callable[[Path], None]
) -> None:
    process = _begun(folder)
    take(folder / "s.db")
    assert "was deleted or moved" in _says(process, _STORAGE_EXIT)


def test_a_file_that_is_cut_short_is_told(folder: Path) -> None:
    process = _begun(folder)
    process.kill()
    process.communicate()
    os.truncate(folder / "s.db", 20_000)
    for words in (["status", "s"], ["resume", "s"], ["list"]):
        line = [*COMMAND, "study", *words, "--storage", _url(folder)]
        _says(start(line), _STORAGE_EXIT)


def test_a_study_goes_on_when_a_full_disk_has_room_again(folder: Path) -> None:
    with _tmpfs(folder, "-o", "size=20m"):
        process = _begun(folder)
        filler = folder / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(b"0" * 4096)
        said = _says(process, _STORAGE_EXIT)
        assert "full" in said or "No space left" in said
        filler.unlink()
        _ends_exactly(folder, 12)


def test_a_full_disk_of_checkpoints_fails_no_network(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEEPWEEDS_CHECKPOINTS", str(folder))
    url = f"sqlite:///{folder.parent}/s.db"
    with _tmpfs(folder, "-o", "size=32k"):
        assert "cannot be written: No space left" in _says(start(images_line(url)), _STORAGE_EXIT)
        subprocess.run(["mount", "-o", "remount,size=100m", str(folder)], check=True)
        ends_well(start(images_line(url)))
    has_ended_exactly(url, 2)
    assert len(study(url).get_trials()) <= 3, "and one that was run again"


def test_a_full_disk_of_artifacts_is_told_and_harms_no_study(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEEPWEEDS_ARTIFACTS", str(folder))
    url = f"sqlite:///{folder.parent}/s.db"
    with _tmpfs(folder, "-o", "size=32k"):
        assert "No space left on device" in ends_well(start(images_line(url)))
        assert not [path for path in folder.rglob("*") if path.is_file()]
    has_ended_exactly(url, 2)


def test_a_folder_that_cannot_be_written_is_told(folder: Path) -> None:
    with _tmpfs(folder):
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        assert "writable" in _says(_run(folder, "--trials", "1"), _STORAGE_EXIT)
        subprocess.run(["mount", "-o", "remount,rw", str(folder)], check=True)
        _ends_exactly(folder, 2)
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        assert "writable" in _says(_run(folder, "--trials", "3"), _STORAGE_EXIT)


def test_of_four_that_start_one_name_differently_one_wins(folder: Path) -> None:
    processes = [_run(folder, "--trials", "2", "--seed", str(seed)) for seed in range(4)]
    ends = []
    for process in processes:
        _, said = process.communicate(timeout=300)
        ends.append(process.returncode)
        assert "Traceback" not in said
        if process.returncode:
            assert "exists with another specification: seed" in said
    assert sorted(ends) == [0, _MISMATCH_EXIT, _MISMATCH_EXIT, _MISMATCH_EXIT]
    assert manager.study_spec(study(_url(folder))).seed == ends.index(0)
    has_ended_exactly(_url(folder), 2)


def test_a_request_to_end_within_a_long_epoch_is_obeyed_soon(folder: Path) -> None:
    (folder.parent / "quick.py").write_text(
        OBJECTIVE.replace("sleep(0.1)", "sleep(0.1 if epoch == 1 else 600)")
    )
    process = _run(folder, "--trials", "1", "--pruner", "none")
    wait_for_reports(_url(folder), process, 1)
    time.sleep(1)
    asked = time.monotonic()
    process.terminate()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, said
    assert time.monotonic() - asked < 20, "5 seconds, and the report on a busy machine"
    (trial,) = study(_url(folder)).get_trials()
    assert (trial.state, list(trial.intermediate_values)) == (TrialState.WAITING, [1])
