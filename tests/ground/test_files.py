"""Files appear whole or not at all; a lock has one holder."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.files import locked, whole, write_whole


def test_a_file_is_written_with_its_folders_and_the_rights_of_any_new_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    write_whole(path, "größer\n")
    assert path.read_text(encoding="utf-8") == "größer\n"
    mask = os.umask(0)
    os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~mask
    write_whole(path, b"bytes")
    assert path.read_bytes() == b"bytes"
    assert list(path.parent.iterdir()) == [path]


def test_a_failure_leaves_the_old_file_and_no_remains(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), whole(path) as part:
        part.write_text("half")
        assert path.read_text() == "old"
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInputError, match=r"file/a.txt cannot be written: File exists"):
        write_whole(tmp_path / "file" / "a.txt", "")
    with pytest.raises(InvalidInputError, match="cannot be written"), locked(tmp_path):
        pass


def test_a_lock_keeps_out_threads_and_processes_until_its_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "locks" / "a"
    attempts: list[bool] = []

    def attempt() -> None:
        with locked(path, timeout=0.05) as is_held:
            attempts.append(is_held)

    code = (
        "import sys; from pathlib import Path; from optuna_deepweeds.files import locked\n"
        "with locked(Path(sys.argv[1]), timeout=0) as is_held: sys.exit(int(is_held))"
    )
    with locked(path) as is_held:
        assert is_held
        thread = threading.Thread(target=attempt)
        thread.start()
        thread.join()
        assert subprocess.run([sys.executable, "-c", code, str(path)]).returncode == 0
    attempt()
    assert attempts == [False, True]
