"""Looking at a storage without opening it for work."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import optuna
import pytest
from click.testing import CliRunner
from optuna.distributions import FloatDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from optuna_deepweeds import attributes
from optuna_deepweeds.cli import cli
from optuna_deepweeds.errors import DeepWeedsError, InvalidInputError, NotFoundError, StorageError
from optuna_deepweeds.report.calibration import judged
from optuna_deepweeds.studies.accounting import progress
from optuna_deepweeds.studies.storage import open_storage
from optuna_deepweeds.studies.storage.bulk import bulk_add_trials
from optuna_deepweeds.studies.storage.reading import REVISION, StudyRow, light_trials, open_reader


def _execute(path: Path, statement: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)
        connection.commit()


def test_the_queries_are_written_for_the_installed_optuna(tmp_path: Path) -> None:
    assert open_storage(str(tmp_path / "a.db")).get_head_version() == REVISION


def test_studies_are_read_as_optuna_reads_them(storage_url: str) -> None:
    storage = open_storage(storage_url)
    one = optuna.create_study(study_name="one", storage=storage, direction="maximize")
    one.set_user_attr("spec", {"seed": 1})
    one.set_user_attr("text", 'a "quoted"\nline')
    optuna.create_study(
        study_name="two", storage=storage, directions=["minimize", "maximize", "minimize"]
    )
    with open_reader(storage_url) as reader:
        rows = reader.studies()
        assert [
            (row.study_id, row.name, list(row.directions), row.user_attrs) for row in rows
        ] == [
            (s._study_id, s.study_name, list(s.directions), s.user_attrs)
            for s in storage.get_all_studies()
        ]
        assert reader.study("one") == rows[0]
        assert rows[0].directions == (StudyDirection.MAXIMIZE,)
        with pytest.raises(InvalidInputError, match="'two' has 3"):
            reader.study("two")
        with pytest.raises(NotFoundError, match="no study 'onee'. Did you mean 'one'?"):
            reader.study("onee")


def _study(url: str, direction: str = "maximize") -> optuna.Study:
    """Trials of many kinds, with every attribute that is counted or judged."""
    told = {"epoch": 1, "expected": 0.5, "low": 0.3, "high": 0.7, "decision": "continue"}
    pruned = {attributes.ANTICIPATION: told}
    goes_on = {attributes.ORIGIN: 1, attributes.ROOT: 1, attributes.INHERITED: 1}
    complete, fail = TrialState.COMPLETE, TrialState.FAIL
    trials = [
        _trial(complete, 0.4, **{attributes.SEGMENTS: [["2026-01-01T00:00", "2026-01-01T01:00"]]}),
        _trial(TrialState.PRUNED, 0.3, **pruned),
        _trial(complete, 0.6, **goes_on, **{attributes.ANTICIPATION: told | {"epoch": 2}}),
        _trial(complete, 0.6, **{attributes.ANTICIPATION: "junk"}),
        _trial(complete, float("-inf" if direction == "maximize" else "inf")),
        _trial(fail),
        _trial(fail),
        _trial(TrialState.WAITING),
        _trial(TrialState.RUNNING, **{attributes.RETRY_OF: 6}),
    ]
    trials[6].system_attrs[attributes.INTERRUPTED] = True
    study = optuna.create_study(study_name="mine", storage=open_storage(url), direction=direction)
    bulk_add_trials(study, trials)
    return study


def _trial(state: TrialState, value: float | None = None, **attrs: object) -> FrozenTrial:
    trial = create_trial(
        state=state,
        value=value,
        params={"x": 0.5},
        distributions={"x": FloatDistribution(0, 1)},
        user_attrs=attrs,
        intermediate_values={1: 0.5, 2: float("nan"), 3: 0.6},
    )
    trial.datetime_start = None if state == TrialState.WAITING else datetime(2026, 1, 2, 3)
    if state.is_finished():
        trial.datetime_complete = datetime(2026, 1, 2, 4)
    return trial


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_trials_read_light_count_and_are_judged_alike(storage_url: str, direction: str) -> None:
    study = _study(storage_url, direction)
    now = datetime(2026, 1, 2, 5)
    whole = progress(study.trials, study.direction, now)
    with open_reader(storage_url) as reader:
        light = reader.trials(study._study_id, params=False)
    counted = progress(light, study.direction, now)
    assert replace(counted, best=None) == replace(whole, best=None)
    assert counted.best is not None and whole.best is not None
    assert counted.best.number == whole.best.number == (2 if direction == "maximize" else 0)
    assert counted.best.value == study.best_value
    assert (counted.finished, counted.continued, counted.failed) == (5, 1, 1)
    points = judged(study.get_trials(deepcopy=False))
    assert judged(light) == points and len(points) == 2
    assert [t.state for t in light_trials(study)] == [t.state for t in study.trials]


def test_listing_tells_every_study(storage_url: str) -> None:
    storage = _study(storage_url)._storage
    optuna.create_study(study_name="empty", storage=storage)
    several = optuna.create_study(
        study_name="several", storage=storage, directions=["minimize", "maximize"]
    )
    several.add_trial(create_trial(values=[1.0, 2.0]))
    arguments = ["study", "list", "--storage", storage_url, "-f", "json"]
    rows = json.loads(CliRunner().invoke(cli, arguments, catch_exceptions=False).stdout)
    columns = ("name", "finished", "running", "failed", "best", "last_activity")
    assert [[row[column] for column in columns] for row in rows] == [
        ["mine", 5, 1, 1, 0.6, "2026-01-02T04:00:00"],
        ["empty", 0, 0, 0, None, None],
        ["several", 1, 0, 0, None, rows[2]["last_activity"]],
    ]


def _older(revision: str, version: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        open_storage(str(path))
        _execute(path, f"UPDATE alembic_version SET version_num = '{revision}'")
        _execute(path, f"UPDATE version_info SET library_version = '{version}'")
        if not revision:
            _execute(path, "DROP TABLE alembic_version")

    return make


OLDER = {
    "Optuna 3.1": _older("v3.0.0.d", "3.1.1"),
    "Optuna 1.5": _older("v1.3.0.a", "1.5.0"),
    "Optuna 0.9": _older("", "0.9.0"),
}


NO_STORAGES: dict[str, Callable[[Path], object]] = {
    "no file": lambda path: None,
    "folder": Path.mkdir,
    "no tables": lambda path: _execute(path, "VACUUM"),
    "other tables": lambda path: _execute(path, "CREATE TABLE birds (x INTEGER)"),
    "junk": lambda path: path.write_bytes(bytes(range(256)) * 4),
    **OLDER,
}


@pytest.mark.parametrize("kind", NO_STORAGES)
def test_what_is_no_storage_is_refused_in_the_same_words_and_left_alone(
    tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "a.db"
    NO_STORAGES[kind](path)
    before = path.read_bytes() if path.is_file() else list(tmp_path.iterdir())
    said = []
    for open_it in (lambda: open_storage(str(path), must_exist=True), lambda: _studies(str(path))):
        with pytest.raises(DeepWeedsError) as caught:
            open_it()
        said.append((type(caught.value), str(caught.value)))
    assert said[0] == said[1]
    assert before == (path.read_bytes() if path.is_file() else list(tmp_path.iterdir()))
    if kind == "no file":
        assert said[0][0] is NotFoundError and "no file" in said[0][1]
    if kind in OLDER:
        assert said[0][0] is StorageError and f"are of {kind}" in said[0][1]
        assert f"optuna storage upgrade --storage sqlite:///{path}" in said[0][1]
        assert ("first with Optuna 2.10" in said[0][1]) == (kind != "Optuna 3.1")
        with pytest.raises(StorageError, match=f"are of {kind}"):
            open_storage(str(path))


def _studies(url: str) -> list[StudyRow]:
    with open_reader(url) as reader:
        return reader.studies()


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
