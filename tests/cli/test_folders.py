"""A study on anyone's folder of images, from the first look to a classified photograph."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from optuna_deepweeds.studies import manager
from tests.cli.conftest import Command


@pytest.fixture
def photos(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Two classes of different colour and size: 24 and 12 images."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name, n, colour in (("Élan", 24, 30), ("b", 12, 220)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(n):
            image = Image.new("RGB", (9, 7), (colour, i, i))
            image.save(tmp_path / "photos" / name / f"day{i // 3}-{i}.jpg")
    return tmp_path / "photos"


def test_a_study_on_a_folder_from_a_look_to_a_photograph(command: Command, photos: Path) -> None:
    result = command("data", "info", "photos", "--size", 64, "--png", "sheet.png", "-f", "json")
    assert [(row["class"], row["train"], row["test"]) for row in result.json] == [
        ("b", 8, 2), ("Élan", 16, 4), ("all", 24, 6),
    ]  # fmt: skip
    assert result.json[0]["image_size"] == "64x64"
    assert "reading" in result.err and "100 % (36 of 36 images)" in result.err
    assert "train: 24 images, 2 classes, 8 to 16 each" in result.err
    assert "Unequal classes: 'Élan' has 2.0 times the images of 'b'." in result.err
    with Image.open("sheet.png") as sheet:
        assert sheet.format == "PNG"

    run = partial(command, "study", "run", "mine", "--dataset", "./photos", "--size", 64)
    result = run("--trials", 1, "--epochs", 1, "--pruner", "none")
    assert result.code == 0 and "test: 6 images, 2 classes, 2 to 4 each" in result.err
    assert "reading" not in result.err  # Decoded once.
    result = command("study", "evaluate", "mine", "--seeds", 1, "--output", "mine.pt")
    assert result.code == 0 and "1 b" in result.out and "2 Élan" in result.out
    (row,) = command("predict", "mine.pt", "photos/b/day1-3.jpg", "-f", "json").json
    assert {entry["class"] for entry in row["top"]} == {"b", "Élan"}

    assert command("study", "fork", "mine", "small", "--size", 32).code == 0
    spec = manager.study_spec(manager.find("small", None))
    assert (spec.dataset, spec.size, spec.group_by) == (str(photos), 32, "")
    result = command("study", "fork", "mine", "other", "--dataset", "demo", "--size", 64)
    assert result.code == 2 and "--size 64 is for folders" in result.err

    shutil.move("photos", "moved")
    result = command("study", "resume", "mine", "--trials", 2)
    assert result.code == 3 and "--data-dir tells its place" in result.err
    assert command("study", "resume", "mine", "--trials", 2, "--data-dir", "moved").code == 0
    shutil.copytree("moved", "photos")
    shutil.copy("moved/b/day0-0.jpg", "photos/b/day9-9.jpg")
    result = command("study", "resume", "mine", "--trials", 3)
    assert result.code == 2 and "must be those that the study began with" in result.err
    assert "25 train" in result.err and "--accept-changes" in result.err.splitlines()[-1]


def test_names_and_options_of_a_folder(command: Command, photos: Path) -> None:
    run = partial(command, "study", "run", "--dry-run", "--trials", 1, "--dataset")
    plain, grouped = run("photos"), run("photos/", "--group-by", r"day\d+-")
    assert "Study    photos-course-small-" in plain.err
    (named,) = (line for line in grouped.err.splitlines() if line.startswith("Study "))
    assert "-by" in named and "\\" not in named
    assert "what --group-by finds (8 groups) tells them apart" in grouped.err
    result = run("photo")
    assert result.code == 2 and "no data set or folder 'photo'" in result.err
    assert run("photos/b").err.endswith("but holds images.\n")


def test_letters_without_a_font_are_told_in_one_line(command: Command, photos: Path) -> None:
    shutil.move("photos/b", "photos/\U0001f7ea\U0001f7eb")  # Squares of a colour.
    result = command("data", "info", "photos", "--png", "sheet.png")
    assert result.code == 0 and Path("sheet.png").stat().st_size > 1000
    assert "Glyph" not in result.err and result.err.count("no font") <= 1
