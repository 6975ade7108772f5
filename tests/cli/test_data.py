from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from optuna_deepweeds.cli.data import data
from optuna_deepweeds.errors import DeepWeedsError, InvalidInputError, NotFoundError
from tests.datasets.support import (
    SHARED,
    names,
    needs_real_file,
    write_labels,
    write_photographs,
)


def run(*args: object) -> Result:
    return CliRunner().invoke(data, [str(a) for a in args])


@pytest.fixture
def options(tmp_path: Path) -> list[object]:
    images = write_photographs(tmp_path / "images", 45)
    labels = write_labels(tmp_path / "labels", 45)
    return ["--images", images, "--labels", labels, "--data-dir", tmp_path / "data"]


def test_prepare_prints_the_file_alone_on_stdout(options: list[object], tmp_path: Path) -> None:
    result = run("prepare", *options)
    assert result.exit_code == 0
    assert result.stdout == f"{tmp_path / 'data' / 'deepweeds32.npz'}\n"
    assert "45 images prepared" in result.stderr
    assert "preparing: 100 % (45 of 45 images)" in result.stderr
    assert "\r" not in result.stderr  # not a terminal: whole lines


def test_second_prepare_does_nothing(options: list[object]) -> None:
    run("prepare", *options)
    result = run("prepare", *options, "--partial")
    assert result.exit_code == 0 and result.stdout == ""
    assert "already there with 45 images" in result.stderr


def test_absent_photograph_is_told_and_left_out_on_request(
    options: list[object], tmp_path: Path
) -> None:
    (tmp_path / "images" / names(45)[3]).unlink()
    result = run("prepare", *options)
    assert isinstance(result.exception, NotFoundError) and result.stdout == ""
    result = run("prepare", *options, "--partial")
    assert result.exit_code == 0
    assert "1 photographs that have a label are absent" in result.stderr


def test_mirror_must_be_an_address(tmp_path: Path) -> None:
    result = run("prepare", "--mirror", "images.zip", "--data-dir", tmp_path)
    assert isinstance(result.exception, InvalidInputError)


def test_unwritable_data_dir_is_one_line(options: list[object], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = run("prepare", *options[:4], "--data-dir", tmp_path / "file" / "inside")
    assert isinstance(result.exception, DeepWeedsError)
    assert "Not a directory" in str(result.exception)


def test_info_counts_classes_and_splits(options: list[object], tmp_path: Path) -> None:
    run("prepare", *options)
    result = run("info", "deepweeds", "--data-dir", tmp_path / "data", "-f", "json")
    rows = json.loads(result.stdout)
    assert [row["class"] for row in rows][-2:] == ["Negative", "all"]
    assert (rows[-1]["train"], rows[-1]["valid"], rows[-1]["test"]) == (27, 9, 9)
    assert rows[0]["total"] == 5
    assert rows[0]["image_size"] == "32x32"
    assert rows[0]["file"] == str(tmp_path / "data" / "deepweeds32.npz")
    assert len(rows[0]["fingerprint"]) == 64


def test_info_as_table_and_csv(options: list[object], tmp_path: Path) -> None:
    run("prepare", *options)
    place = ["deepweeds", "--data-dir", tmp_path / "data"]
    table = run("info", *place).stdout
    assert "Siam weed" in table and "fingerprint" in table and "32x32" in table
    lines = run("info", *place, "-f", "csv").stdout.splitlines()
    assert lines[0].endswith("class,train,valid,test,total")
    assert len(lines) == 1 + 9 + 1


def test_info_lists_the_data_sets_and_says_how_to_get_the_missing(tmp_path: Path) -> None:
    result = run("info", "--data-dir", tmp_path, "-f", "json")
    ready = {row["name"]: row["ready"] for row in json.loads(result.stdout)}
    assert ready == {"deepweeds": False, "deepweeds-balanced": False, "demo": True}
    assert "data prepare" in result.stderr and "DEEPWEEDS_DATA=" in result.stderr


def test_info_lists_a_damaged_file_as_unusable(tmp_path: Path) -> None:
    (tmp_path / "deepweeds32.npz").write_bytes(b"damaged")
    result = run("info", "--data-dir", tmp_path)
    assert result.exit_code == 0
    assert "unusable" in result.stdout and "damaged or incomplete" in result.stderr


def test_info_on_missing_or_unknown_data_fails(tmp_path: Path) -> None:
    for name, kind in (("deepweeds", NotFoundError), ("nothing", InvalidInputError)):
        result = run("info", name, "--data-dir", tmp_path)
        assert isinstance(result.exception, kind)


@needs_real_file
def test_info_on_the_real_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPWEEDS_DATA", str(SHARED / "data"))
    rows = json.loads(run("info", "deepweeds-balanced", "-f", "json").stdout)
    assert [(r["train"], r["valid"], r["test"]) for r in rows[:8]] == [(680, 170, 150)] * 8
