"""Recording of real learning curves, and replay of what was recorded."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from optuna_deepweeds.bench.curves import load
from optuna_deepweeds.bench.record import RECORDINGS, record
from optuna_deepweeds.cli import main


def _command(*args: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["bench", *args])
    return int(stop.value.code or 0)


def test_recorded_tables_are_replayed_as_a_family(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("record-curves", str(tmp_path), "--families", "sgd", "--configs", "12")
    assert _command(*options) == 0
    (path, _) = sorted((tmp_path / "sgd").iterdir())
    written = path.stat().st_mtime_ns
    assert _command(*options) == 0
    assert path.stat().st_mtime_ns == written  # what is there is left alone
    curves = load(str(path))
    assert curves.values.shape == (12, 50) and curves.values.std() > 0
    assert 0.9 < curves.best <= 1.0
    capsys.readouterr()
    replay = ("--curves", f"{tmp_path}/*/*.npz", "--pruners", "none", "--seeds", "1")
    assert _command("pruners", *replay, "--budgets", "8", "-f", "json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["group"], row["tasks"]) == ("sgd", 2)


def test_a_table_depends_on_its_name_and_size_alone() -> None:
    first, again = (record("boosting", "boosting-cancer", 4) for _ in range(2))
    assert np.array_equal(first.values, again.values) and first.params == again.params


@pytest.mark.slow
@pytest.mark.parametrize("family", list(RECORDINGS))
def test_every_family_has_good_and_bad_configurations(family: str) -> None:
    for task, recording in RECORDINGS[family].items():
        curves = record(family, task, 10)
        assert curves.values.shape == (10, recording.n_epochs)
        assert 4 <= len(curves.distributions) <= 7
        assert np.ptp(curves.values[:, -1]) > 0.01


def test_unknown_families_are_refused(tmp_path: Path) -> None:
    assert _command("record-curves", str(tmp_path), "--families", "svm") == 2
    assert not list(tmp_path.iterdir())
