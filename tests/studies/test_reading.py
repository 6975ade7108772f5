"""Reading a storage without Optuna's objects."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.study import StudyDirection

from optuna_deepweeds.errors import DeepWeedsError, InvalidInputError, NotFoundError, StorageError
from optuna_deepweeds.studies.storage import open_storage
from optuna_deepweeds.studies.storage.reading import REVISION, find_single, open_reader, study_rows


def _stamp(path: Path, revision: str) -> None:
    """Pretend that a file's tables are of another version."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
        connection.commit()


def test_the_queries_are_written_for_the_installed_optuna(storage_url: str) -> None:
    storage = open_storage(storage_url)
    assert storage.get_head_version() == REVISION


def test_studies_are_read_as_optuna_reads_them(storage_url: str) -> None:
    storage = open_storage(storage_url)
    one = optuna.create_study(study_name="one", storage=storage, direction="maximize")
    one.set_user_attr("spec", {"seed": 1})
    one.set_user_attr("text", 'a "quoted"\nline')
    optuna.create_study(
        study_name="two", storage=storage, directions=["minimize", "maximize", "minimize"]
    )
    with open_reader(storage_url) as reader:
        rows = reader.read(study_rows)
        assert [
            (row.study_id, row.name, list(row.directions), row.user_attrs) for row in rows
        ] == [
            (s._study_id, s.study_name, list(s.directions), s.user_attrs)
            for s in storage.get_all_studies()
        ]
        assert find_single(reader, "one") == rows[0]
        assert rows[0].directions == (StudyDirection.MAXIMIZE,)
        with pytest.raises(InvalidInputError, match="'two' has 3"):
            find_single(reader, "two")
        with pytest.raises(NotFoundError, match="no study 'onee'. Did you mean 'one'?"):
            find_single(reader, "onee")


def _nothing(path: Path) -> None:
    """No file."""


def _no_tables(path: Path) -> None:
    sqlite3.connect(path).close()


def _other_tables(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE birds (x INTEGER)")


def _junk(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 4)


def _older(path: Path) -> None:
    open_storage(str(path))
    _stamp(path, "v3.0.0.d")


@pytest.mark.parametrize(
    "make",
    [_nothing, Path.mkdir, _no_tables, _other_tables, _junk, _older],
    ids=lambda f: f.__name__,
)
def test_what_is_no_storage_is_refused_in_the_same_words(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    path = tmp_path / "a.db"
    make(path)
    said = []
    for open_it in (lambda: open_storage(str(path), must_exist=True), lambda: _read(path)):
        with pytest.raises(DeepWeedsError) as caught:
            open_it()
        said.append((type(caught.value), str(caught.value)))
    assert said[0] == said[1]
    if make is _older:
        assert said[0][0] is StorageError and "optuna storage upgrade" in said[0][1]


def _read(path: Path) -> None:
    with open_reader(str(path)) as reader:
        reader.read(study_rows)


@pytest.mark.parametrize("arguments", [("study", "list"), ("study", "status", "mine")])
def test_a_look_at_the_studies_loads_little(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    url = f"sqlite:///{tmp_path}/a.db"
    optuna.create_study(study_name="mine", storage=open_storage(url))
    heavy = ("torch", "sklearn", "scipy", "pandas", "plotly", "alembic", "sqlalchemy.orm")
    script = (
        "import sys\nfrom optuna_deepweeds.cli import main\n"
        f"try: main({[*arguments, '--storage', url]!r})\n"
        f"finally: print([n for n in {heavy!r} if n in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0 and "mine" in done.stdout
    assert done.stderr == "[]\n"
