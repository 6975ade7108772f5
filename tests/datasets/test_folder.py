"""Anyone's folder of images: what is read, how it is split, and one sentence for what is wrong."""

from __future__ import annotations

import logging
import os
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from optuna_deepweeds import datasets
from optuna_deepweeds.datasets import Dataset, decoded
from optuna_deepweeds.datasets.folder import load_folder
from optuna_deepweeds.errors import DeepWeedsError, InvalidInputError, NotFoundError


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(place))
    return place


def fill(place: Path, n: int, value: int = 0, *, start: int = 0) -> None:
    """Write the images start.png to start + n - 1, each of another colour."""
    place.mkdir(parents=True, exist_ok=True)
    for i in range(start, start + n):
        Image.new("RGB", (4, 4), (value, i, 9)).save(place / f"{i}.png")


def load(place: Path, **options: Any) -> Dataset:
    return load_folder(place, name="mine", **options)


def kinds(data: Dataset, split: np.ndarray) -> dict[str, int]:
    """Class -> number of images in a split."""
    counts = np.bincount(data.labels[split], minlength=len(data.classes))
    return dict(zip(data.classes, counts.tolist(), strict=True))


def test_class_folders_are_split_by_name_alone(tmp_path: Path) -> None:
    fill(tmp_path / "a" / "b", 20, 10)
    fill(tmp_path / "a" / "Ä c", 40, 200)
    fill(tmp_path / "a" / ".hidden", 3)
    fill(tmp_path / "a" / "__MACOSX", 3)
    data = load(tmp_path / "a")
    assert data.classes == ("b", "Ä c") and data.images.shape == (60, 32, 32, 3)
    assert kinds(data, data.train) == {"b": 14, "Ä c": 27}
    assert kinds(data, data.valid) == {"b": 3, "Ä c": 7}
    assert kinds(data, data.test) == {"b": 3, "Ä c": 6}
    assert (data.images[data.labels == 0][..., 0] == 10).all()
    # Elsewhere, and beside new images of another class, the same ones test.
    (tmp_path / "a").rename(tmp_path / "moved")
    fill(tmp_path / "moved" / "new", 5)
    again = load(tmp_path / "moved")
    tested = {tuple(colour) for colour in data.images[data.test, 0, 0].tolist()}
    assert tested <= {tuple(colour) for colour in again.images[again.test, 0, 0].tolist()}
    assert again.fingerprint != data.fingerprint


@pytest.mark.parametrize(
    ("train", "valid", "test"),
    [("train", "valid", "test"), ("Training", "dev", "EVAL"), ("train", "val", "testing")],
)
def test_splits_are_known_by_the_names_people_use(
    tmp_path: Path, train: str, valid: str, test: str
) -> None:
    for split, n in ((train, 5), (valid, 2), (test, 4)):
        fill(tmp_path / split / "x", n)
        fill(tmp_path / split / "y", n, 99, start=50)
    (tmp_path / "notes.txt").write_text("not an image")
    data = load(tmp_path)
    assert kinds(data, data.train) == {"x": 5, "y": 5}
    assert kinds(data, data.valid) == {"x": 2, "y": 2}
    assert kinds(data, data.test) == {"x": 4, "y": 4}


def test_missing_splits_are_taken_from_the_training_images(tmp_path: Path) -> None:
    for split, n in (("train", 20), ("test", 6)):
        fill(tmp_path / split / "x", n)
        fill(tmp_path / split / "y", n, 99)
    fill(tmp_path / "train" / "z", 20, 50)
    data = load(tmp_path)
    assert kinds(data, data.test) == {"x": 6, "y": 6, "z": 0}
    assert kinds(data, data.valid) == {"x": 3, "y": 3, "z": 3}
    assert "No folder holds validation images" in data.notes[0]
    assert data.notes[1].startswith("Test images that are equal to training images: ")
    assert "test: 12 images, 2 of 3 classes, 6 each" in data.lines()


def test_groups_stay_together(tmp_path: Path) -> None:
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for i in range(60):
            name = f"day{i // 5:02d}-{i % 5}.png"
            Image.new("RGB", (4, 4), (i, i // 5, ord(label))).save(tmp_path / label / name)
    data = load(tmp_path, group_by=r"day(\d+)")
    days = [set(data.images[at][:, 0, 0, 1].tolist()) for at in data.splits.values()]
    assert not (days[0] & days[1] or days[0] & days[2] or days[1] & days[2])
    assert [len(day) for day in days] == [8, 2, 2]
    assert data.groups is not None and np.array_equal(data.groups, data.images[:, 0, 0, 1])
    for pattern, words in (
        ("(", "must be a regular expression"),
        ("month", "finds nothing in 120 of 120, such as 'a/day00-0.png'"),
        ("day", "(1 groups) must leave enough validation images, but leaves 0"),
    ):
        with pytest.raises(InvalidInputError, match=re.escape(words)):
            load(tmp_path, group_by=pattern)


def test_every_kind_of_image_is_read_and_damaged_ones_are_named(tmp_path: Path) -> None:
    for label in ("a", "b"):
        fill(tmp_path / label, 6, ord(label))
    at = tmp_path / "a"
    Image.new("L", (90, 30), 250).save(at / "grey.JPG")
    Image.new("RGBA", (8, 8), (9, 9, 9, 0)).save(at / "alpha.webp")
    Image.new("CMYK", (8, 8)).save(at / "cmyk.jpeg")
    Image.new("I;16", (8, 8), 60_000).save(at / "deep.png")
    frames = [Image.new("P", (8, 8), c) for c in (0, 1)]
    frames[0].save(at / "moving.gif", save_all=True, append_images=frames[1:])
    turned = Image.new("RGB", (8, 4), "black")
    turned.paste("white", (0, 0, 4, 4))
    exif = turned.getexif()
    exif[0x0112] = 6  # To be turned by 90 degrees: its left is above.
    turned.save(at / "turned.png", exif=exif)
    (at / "cut.png").write_bytes((at / "1.png").read_bytes()[:40])
    (at / "text.jpg").write_text("no image")
    (at / "nowhere.png").symlink_to("absent.png")
    (at / "linked.png").symlink_to(at / "deep.png")
    (at / "db.heic").write_bytes(b"")
    data = load(tmp_path, size=64)
    assert data.images.shape == (6 + 6 + 7, 64, 64, 3)
    notes = "\n".join(data.notes)
    assert "3 of 22 images that cannot be read: a/cut.png (" in notes
    assert "a/nowhere.png (No such file or directory)" in notes
    assert "files that are no known images (.heic 1)" in notes
    upright = [image for image in data.images if image[0, 32, 0] == 255 and image[-1, 32, 0] == 0]
    assert len(upright) == 1


def test_decoded_images_are_kept_until_a_file_changes(tmp_path: Path, cache: Path) -> None:
    for place, value in (("one/same", 10), ("two/same", 20)):
        for label in ("a", "b"):
            fill(tmp_path / place / label, 6, value)
    told: list[int] = []
    read = lambda place: load(tmp_path / place, progress=lambda *a: told.append(a[1]))  # noqa: E731
    one, two = read("one/same"), read("two/same")
    assert one.fingerprint != two.fingerprint and told == [12, 12]
    assert np.array_equal(read("one/same").images, one.images) and told == [12, 12]
    file = tmp_path / "one" / "same" / "a" / "0.png"
    stat = file.stat()
    Image.new("RGB", (4, 4), (7, 0, 9)).save(file)  # As long as before, and as old.
    assert file.stat().st_size == stat.st_size
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert read("one/same").fingerprint != one.fingerprint and len(told) == 3
    kept = list(cache.rglob("*.npz"))
    assert len(kept) == 2
    for file in kept:
        file.write_bytes(file.read_bytes()[:300])
        file.with_name(f".{file.name}.1.part").write_text("of a killed process")
    assert read("two/same").fingerprint == two.fingerprint and len(told) == 4
    assert len(list(cache.rglob("*.part"))) == 1


def test_a_cache_that_cannot_be_written_is_told_and_gone_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for label in ("a", "b"):
        fill(tmp_path / "photos" / label, 6)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with caplog.at_level(logging.WARNING):
        assert len(load(tmp_path / "photos").images) == 12
    assert "read anew each time" in caplog.text


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "must hold a folder for each class, but holds no image"),
        ({"a/": 0, "b/": 0}, "but holds no image"),
        ({"": 9}, "must hold a folder for each class, but holds images"),
        ({"a": 9}, "at least two classes, but .* has 'a' alone"),
        ({"a": 9, "b": 4}, "at least 5 images, but 'b' in .* has 4"),
        ({"a": 9, "b/": 0}, "at least 5 images, but 'b' in .* has 0"),
        ({"a": 9, "A ": 9}, "'A ' and 'a' differ in case or spaces alone"),
        ({"x_y": 9, "x  Y": 9}, "differ in case or spaces alone"),
        ({"p/a": 9, "p/b": 9}, "lies deeper. Did you mean .*/p?"),
        ({"a": 9, "b": 9, "b/more": 1}, "'b/more/0.png' lies deeper"),
        ({"train": 9, "test": 9}, "/test must hold a folder for each class, but holds images"),
        ({"train/a": 9, "train/b": 9, "test": 9}, "/test must hold a folder for each class"),
        ({"train/a": 9, "train/b": 9, "val/": 0}, "/val must hold images, but holds none"),
        ({"train/a": 9, "train/b": 9, "more/a": 9}, "either splits or classes, but 'more' is"),
        ({"train/a": 9, "train/b": 9, "training/a": 9}, "'train' and 'training'"),
        ({"val/a": 9, "val/b": 9}, "must have a folder 'train', but has 'val'"),
        ({"train/a": 9, "train/b": 9, "test/c": 9}, "'c' of the test images in .* has none"),
        ({"train/a": 9, "train/b": 9, "test/B": 9}, "'b' of the training images is 'B' of the t"),
        ({"train/a": 9, "train/b": 2, "test/a": 9, "val/a": 9}, "3 training images, but 'b' "),
        ({"a\nb": 9, "c": 9}, "must be a printable name"),
        ({" ": 9, "c": 9}, "' ' must be a printable name"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    tmp_path: Path, cache: Path, files: dict[str, int], words: str
) -> None:
    for place, n in files.items():
        fill(tmp_path / "my photos" / place, n)
    (tmp_path / "my photos").mkdir(exist_ok=True)
    with pytest.raises(InvalidInputError, match=words) as failure:
        load(tmp_path / "my photos")
    assert "\n" not in str(failure.value)
    assert not list(cache.iterdir())  # Nothing was decoded for it.


def test_files_that_are_no_images_are_counted(tmp_path: Path) -> None:
    for name in ("a.heic", "b.HEIC", "list.txt"):
        (tmp_path / "c").mkdir(exist_ok=True)
        (tmp_path / "c" / name).write_text("")
    with pytest.raises(InvalidInputError, match=r"holds no image \(.heic 2, .txt 1\)"):
        load(tmp_path)


def test_places_that_are_no_folder_are_told(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no folder .*absent"):
        load(tmp_path / "absent")
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(InvalidInputError, match="a.png must be a folder of class folders.$"):
        load(tmp_path / "a.png")
    fill(tmp_path / "a", 6)
    fill(tmp_path / "b", 6)
    with pytest.raises(InvalidInputError, match="`size in .*, but got size=48"):
        load(tmp_path, size=48)
    (tmp_path / "b" / "round").symlink_to(tmp_path)
    with pytest.raises(InvalidInputError, match="lies deeper"):
        load(tmp_path)


def test_a_class_may_be_called_train_and_a_folder_like_a_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for label in ("train", "car", "bus"):
        fill(tmp_path / "demo" / label, 6)
    monkeypatch.chdir(tmp_path)
    data = datasets.load("./demo", size=32)
    assert data.classes == ("bus", "car", "train") and data.name == str(tmp_path / "demo")
    assert not datasets.is_folder("demo") and not datasets.is_folder("absent")
    (tmp_path / "demo").rename(tmp_path / "elsewhere")
    moved = datasets.load(data.name, data_dir=tmp_path / "elsewhere")
    assert (moved.name, moved.fingerprint) == (data.name, data.fingerprint)
    with pytest.raises(InvalidInputError, match="--size 64 is for folders"):
        datasets.load("demo", size=64)
    with pytest.raises(InvalidInputError, match="has one split"):
        datasets.load("elsewhere", fold=1)


def test_more_images_than_memory_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for label in ("a", "b"):
        fill(tmp_path / label, 6)
    monkeypatch.setattr(decoded, "_memory", lambda: 100_000)
    with pytest.raises(DeepWeedsError, match="12 of 128x128 take"):
        load(tmp_path, size=128)


def test_any_tree_is_a_data_set_or_one_line(tmp_path: Path) -> None:
    splits = ["", "train", "train", "training", "val", "test", "more"]
    classes = ["a", "b", "c", "A", "b ", "train", "test", ".git", "__MACOSX", "é", " "]
    pixels = np.zeros((1, 1, 3), dtype=np.uint8)
    read = 0
    for seed in range(40):
        draw = random.Random(seed)
        tree = tmp_path / str(seed)
        for split in draw.sample(splits, draw.choice([1, 1, 1, 2])):
            for name in draw.sample(classes[: draw.choice([3, 3, 11])], draw.choice([2, 3])):
                place = tree / split / name / ("deeper" if draw.random() < 0.02 else "")
                place.mkdir(parents=True, exist_ok=True)
                for i in range(draw.choice([9, 9, 9, 9, 5, 0])):
                    pixels[:] = draw.randrange(99)
                    Image.fromarray(pixels).save(place / f"{i}.png")
                if draw.random() < 0.1:
                    (place / "1.png").write_text("damaged")
        try:
            data = load(tree, group_by=draw.choice(["", "", r"\d"]))
        except DeepWeedsError as error:
            assert "\n" not in str(error)
            continue
        read += 1
        together = np.sort(np.concatenate(list(data.splits.values())))
        assert np.array_equal(together, np.arange(len(data.images)))
        assert min(kinds(data, data.train).values()) >= 3
        assert all(len(at) for at in data.splits.values()) and data.lines()
        assert list(data.classes) == sorted(set(data.classes))
    assert read >= 4
