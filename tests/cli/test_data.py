"""`data prepare` and `data info` from the command line."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from tests.cli.conftest import Command
from tests.datasets.support import names, write_labels, write_photographs


@pytest.fixture
def prepare(command: Command, tmp_path: Path) -> Command:
    """`data prepare` with 45 photographs, into the folder `data`."""
    images = write_photographs(tmp_path / "images", 45)
    labels = write_labels(tmp_path / "labels", 45)
    place = ("--images", images, "--labels", labels, "--data-dir", tmp_path / "data")
    return partial(command, "data", "prepare", *place)


def test_prepare_prints_the_file_alone_on_stdout_and_is_done_once(
    prepare: Command, tmp_path: Path
) -> None:
    result = prepare()
    assert (result.code, result.out) == (0, f"{tmp_path / 'data' / 'deepweeds32.npz'}\n")
    assert "45 images prepared" in result.err
    assert "preparing: 100 % (45 of 45 images)" in result.err
    assert "\r" not in result.err  # not a terminal: whole lines
    result = prepare("--partial")
    assert (result.code, result.out) == (0, "")
    assert "already there with 45 images" in result.err


def test_what_cannot_be_prepared_is_told_and_left_out_on_request(prepare: Command) -> None:
    Path("file").write_text("")
    result = prepare("--data-dir", "file/inside")
    assert result.code != 0 and "Not a directory" in result.err
    (Path("images") / names(45)[3]).unlink()
    result = prepare()
    assert (result.code, result.out) == (3, "")
    result = prepare("--partial")
    assert result.code == 0
    assert "1 photographs that have a label are absent" in result.err


def test_info_counts_classes_and_splits_in_every_format(
    prepare: Command, command: Command, tmp_path: Path
) -> None:
    prepare()
    info = partial(command, "data", "info", "deepweeds", "--data-dir", tmp_path / "data")
    rows = info("-f", "json").json
    assert [row["class"] for row in rows][-2:] == ["Negative", "all"]
    assert (rows[-1]["train"], rows[-1]["valid"], rows[-1]["test"]) == (27, 9, 9)
    assert (rows[0]["total"], rows[0]["image_size"]) == (5, "32x32")
    assert rows[0]["file"] == str(tmp_path / "data" / "deepweeds32.npz")
    assert len(rows[0]["fingerprint"]) == 64
    table = info().out
    assert "Siam weed" in table and "fingerprint" in table and "32x32" in table
    lines = info("-f", "csv").out.splitlines()
    assert lines[0].endswith("class,train,valid,test,total") and len(lines) == 1 + 9 + 1


def test_info_lists_the_data_sets_and_says_how_to_get_the_missing(command: Command) -> None:
    info = partial(command, "data", "info", "--data-dir", ".")
    result = info("-f", "json")
    ready = {row["name"]: row["ready"] for row in result.json}
    of_deepweeds = ("deepweeds", "deepweeds-balanced", "deepweeds-scenes")
    assert ready == dict.fromkeys(of_deepweeds, False) | {"demo": True}
    assert "data prepare" in result.err and "DEEPWEEDS_DATA=" in result.err
    Path("deepweeds32.npz").write_bytes(b"damaged")
    result = info()
    assert result.code == 0
    assert "unusable" in result.out and "damaged or incomplete" in result.err
