# ruff: noqa: E501 (tables of cases read better in long lines)
"""Whatever comes in, a command answers with one line and an exit code, and changes nothing."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import random
import shutil
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from optuna_deepweeds import datasets
from optuna_deepweeds.cli import main
from optuna_deepweeds.studies import manager
from optuna_deepweeds.studies.spec import Budget, StudySpec
from optuna_deepweeds.studies.storage import open_storage
from optuna_deepweeds.studies.transfer_file import export_study
from optuna_deepweeds.studies.worker import Worker
from optuna_deepweeds.tasks import make_task
from tests.fuzz import cases, files
from tests.fuzz.cases import SECRET, Case
from tests.studies.conftest import Recorder

_DATABASE = Path("storage") / "optuna.db"
_SIZES = {"train": 24, "valid": 16, "test": 16}
_QUICK_SHARE = 9
"""One in so many cases is part of the default run."""


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with two small finished studies and one good file of every kind."""
    folder = tmp_path_factory.mktemp("template")
    with pytest.MonkeyPatch.context() as patch:
        for name, size in _SIZES.items():
            patch.setitem(datasets.DEMO_SIZES, name, size)
        patch.chdir(folder)
        for variable in ("OPTUNA_STORAGE", "DEEPWEEDS_DATA", "DEEPWEEDS_CHECKPOINTS"):
            patch.delenv(variable, raising=False)
        _make_template()
        yield folder


def _make_template() -> None:
    task = make_task("demo", space="course-small", epochs=1)
    storage = open_storage()
    for name, seed in (("mine", 1), ("other", 2)):
        spec = StudySpec(
            dataset="demo", dataset_fingerprint=task.fingerprint, space="course-small",
            sampler="random", pruner="none", epochs=1, seed=seed,
        )  # fmt: skip
        study, _ = manager.create_or_continue(name, spec, Budget(trials=2), storage)
        study.enqueue_trial({"n_channels_conv_0": 32, "n_conv_layers": 1, "batch_size": 64})
        Worker(study, task, observer=Recorder(), device="cpu").run()
    export_study(study, Path("good.jsonl"))
    Path("good.csv").write_text(files.OWN)
    Path("good.toml").write_text(
        'name = "g"\ndataset = "demo"\nsamplers = ["random"]\npruners = ["none"]\nseeds = [1]\n'
        "trials = 1\nepochs = 1\n"
    )
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save("good.png")
    _call("study", "best", "mine", "--save", "good.pt")
    Path("afolder").mkdir()
    with sqlite3.connect(_DATABASE) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    whole = _DATABASE.read_bytes()
    Path("truncated.db").write_bytes(whole[: len(whole) // 2 + 100])
    Path("random.db").write_bytes(random.Random(0).randbytes(5000))
    for name, table in (("foreign.db", "birds"), ("tables.db", "studies")):
        with contextlib.closing(sqlite3.connect(name)) as connection:
            connection.execute(f"CREATE TABLE {table} (x INTEGER)")
    shutil.rmtree(_DATABASE.with_name("optuna.db.locks"), ignore_errors=True)


def _all_cases() -> list[Case]:
    """Every case but those that need the template, in a fixed order."""
    generator = random.Random(6)
    found: list[Case] = []
    for make in (cases.options, cases.paths, cases.urls, files.priors, files.grids, files.stored, files.images):  # fmt: skip
        found += make(generator)
    return found


_CASES = _all_cases()


def _template_cases(template: Path) -> list[Case]:
    """The cases that are made from good files."""
    generator = random.Random(7)
    export = (template / "good.jsonl").read_text()
    model = (template / "good.pt").read_bytes()
    return [*files.exports(export, generator), *files.networks(model, generator)]


def test_a_sample_of_bad_inputs(template: Path, tmp_path: Path) -> None:
    chosen = _CASES[::_QUICK_SHARE] + _template_cases(template)[::_QUICK_SHARE]
    _run_all(chosen, template, tmp_path, at_least=85)


@pytest.mark.slow
def test_all_bad_inputs(template: Path, tmp_path: Path) -> None:
    _run_all(_CASES + _template_cases(template), template, tmp_path, at_least=700)


def _run_all(chosen: list[Case], template: Path, tmp_path: Path, *, at_least: int) -> None:
    problems = []
    n_refused = 0
    for i, case in enumerate(chosen):
        folder = tmp_path / str(i)
        shutil.copytree(template, folder)
        with contextlib.chdir(folder):
            refused, problem = _run(case)
        shutil.rmtree(folder)
        n_refused += refused
        if problem:
            problems.append(f"{case}\n    {' '.join(case.args)!r:.200}\n    {problem}")
    assert not problems, f"{len(problems)} of {len(chosen)}:\n" + "\n".join(problems)
    print(f"{n_refused} of {len(chosen)} bad inputs were refused in one line.")
    assert n_refused >= at_least


def _run(case: Case) -> tuple[bool, str]:
    """Whether the input was refused, and what is wrong with the answer ("" if nothing)."""
    case.prepare(Path())
    _spoil_study()
    before = _contents()
    code, out, err = _call(*case.args)
    if isinstance(code, BaseException):
        return True, f"{type(code).__name__}: {code!s:.300}"
    if SECRET in out + err:
        return True, f"the password is printed: {err}"
    if list(Path().glob("executed-*")):
        return True, "code of the file was run"
    if code == 0:
        if not case.tolerated:
            return False, f"accepted: {out + err:.200}"
        return False, "" if case.writes else _difference(before)
    if code not in (1, 2, 3, 4, 5):
        return True, f"exit code {code}: {err:.300}"
    # What a study is trained on is told before its storage and device are asked.
    lines = [line for line in err.splitlines() if not line.startswith(("Images  ", " " * 9))]
    if case.args[0] == "predict" and code == 1 and len(lines) == 2:
        lines = lines[1:]  # A line for each photograph, and how many there were.
    elif out:
        return True, f"printed data: {out:.200}"
    if len(lines) != 1 or not lines[0].startswith("Error: "):
        return True, f"{len(lines)} lines: {err:.400}"
    if len(lines[0]) > 600:
        return True, f"a line of {len(lines[0])} characters: {err:.200}"
    return True, _difference(before)


def _call(*args: str) -> tuple[Any, str, str]:
    """Exit code (or the exception that got out), stdout and stderr of a command, as in a shell."""
    environment = [a.partition("=") for a in args if a.startswith("DEEPWEEDS_")]
    args = tuple(a for a in args if not a.startswith("DEEPWEEDS_"))
    root = logging.getLogger()
    handlers, root.handlers = root.handlers, []
    signals = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    out, err = io.StringIO(), io.StringIO()
    code: Any = None
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            with pytest.MonkeyPatch.context() as patch:
                for name, _, value in environment:
                    patch.setenv(name, value)
                main(args)
    except SystemExit as stop:
        code = stop.code
    except BaseException as error:
        code = error
    finally:
        root.handlers = handlers
        for number, handler in signals.items():
            signal.signal(number, handler)
    return code, out.getvalue(), err.getvalue()


def _spoil_study() -> None:
    """Overwrite what the case wants to be overwritten."""
    wanted = Path("attribute.json")
    if wanted.exists():
        level, key, value = json.loads(wanted.read_text())
        wanted.unlink()
        with contextlib.closing(sqlite3.connect(_DATABASE)) as connection:
            if level in ("spec", "budget"):
                inner, key, level = key, f"deepweeds:{level}", "study"
                query = (
                    "SELECT value_json FROM study_user_attributes WHERE study_id = 1 AND key = ?"
                )
                whole = json.loads(connection.execute(query, (key,)).fetchone()[0])
                value = {**whole, inner: value}
            table, column = f"{level}_user_attributes", f"{level}_id"
            connection.execute(f"DELETE FROM {table} WHERE {column} = 1 AND key = ?", (key,))
            insert = f"INSERT INTO {table} ({column}, key, value_json) VALUES (1, ?, ?)"
            connection.execute(insert, (key, json.dumps(value)))
            connection.commit()
    checkpoint = Path("checkpoint.bin")
    if checkpoint.exists():
        for file in Path("storage/checkpoints").rglob("trial-*.pt"):
            shutil.copy(checkpoint, file)


def _contents() -> dict[str, Any]:
    """Everything in the storage, and every other file."""
    with contextlib.closing(sqlite3.connect(_DATABASE)) as connection:
        found: dict[str, Any] = {"database": list(connection.iterdump())}
    for path in sorted(Path().rglob("*")):
        # Lock files may stay.
        if path.is_file() and not path.is_relative_to("storage") and path.suffix != ".lock":
            found[str(path)] = path.read_bytes()
    return found


def _difference(before: dict[str, Any]) -> str:
    after = _contents()
    changed = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    return f"changed: {', '.join(sorted(changed))}" if changed else ""
