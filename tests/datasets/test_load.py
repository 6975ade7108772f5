from __future__ import annotations

import hashlib
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from optuna_deepweeds import datasets
from optuna_deepweeds.datasets.deepweeds import balanced_split, scenes_split
from optuna_deepweeds.datasets.prepared import (
    CLASSES,
    PREPARED_NAME,
    Prepared,
    read_prepared,
    write_prepared,
)
from optuna_deepweeds.errors import InvalidInputError, NotFoundError
from tests.datasets.support import SHARED, names, needs_real_file

N = 90


@pytest.fixture
def prepared() -> Prepared:
    rng = np.random.default_rng(1)
    return Prepared(
        images=rng.integers(0, 256, (N, 32, 32, 3), dtype=np.uint8),
        labels=(np.arange(N) % 9).astype(np.uint8),
        filenames=np.array(names(N)),
        folds=((np.arange(N) // 9 + np.arange(5)[:, None]) % 3).astype(np.uint8),
    )


def write_arrays(directory: Path, **arrays: np.ndarray) -> None:
    np.savez(directory / PREPARED_NAME, **arrays)  # type: ignore[arg-type]


def test_what_is_written_is_read(tmp_path: Path, prepared: Prepared) -> None:
    path = write_prepared(tmp_path / "new", prepared)
    assert [p.name for p in path.parent.iterdir()] == [PREPARED_NAME]
    again = read_prepared(path.parent)
    for name in ("images", "labels", "filenames", "folds"):
        assert np.array_equal(getattr(again, name), getattr(prepared, name))


def test_split_is_that_of_the_fold(tmp_path: Path, prepared: Prepared) -> None:
    write_prepared(tmp_path, prepared)
    for fold in range(5):
        data = datasets.load("deepweeds", data_dir=tmp_path, fold=fold)
        assert data.classes == CLASSES
        for role, indices in enumerate((data.train, data.valid, data.test)):
            assert np.array_equal(indices, np.flatnonzero(prepared.folds[fold] == role))
        assert data.labels.dtype == data.train.dtype == np.int64


def test_fingerprint_tells_data_apart(tmp_path: Path, prepared: Prepared) -> None:
    write_prepared(tmp_path, prepared)
    first = datasets.load("deepweeds", data_dir=tmp_path).fingerprint
    assert first == datasets.load("deepweeds", data_dir=tmp_path).fingerprint
    assert first != datasets.load("deepweeds", data_dir=tmp_path, fold=1).fingerprint
    prepared.images[3, 4, 5, 0] ^= 1
    write_prepared(tmp_path, prepared)
    assert first != datasets.load("deepweeds", data_dir=tmp_path).fingerprint


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="Did you mean 'deepweeds-balanced'.*demo"):
        datasets.load("deepweeds-balance")
    for name in ("deepweeds", "deepweeds-balanced"):
        with pytest.raises(NotFoundError, match=r"data prepare.*DEEPWEEDS_DATA="):
            datasets.load(name, data_dir=tmp_path / "absent")
    for name, fold in (("deepweeds", 5), ("deepweeds", -1), ("demo", 1)):
        with pytest.raises(InvalidInputError, match="fold"):
            datasets.load(name, data_dir=tmp_path, fold=fold)


def test_damaged_file_is_one_line(tmp_path: Path, prepared: Prepared) -> None:
    path = write_prepared(tmp_path, prepared)
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    cut = [whole[:kept] for kept in (0, 10, 1000, 200_000)]
    for content in (*cut, bytes(flipped), b"\x80\x04K\x01.", b"<html>", b"PK\x03\x04 no archive"):
        path.write_bytes(content)
        with pytest.raises(InvalidInputError, match="damaged or incomplete.*prepare") as failure:
            read_prepared(tmp_path)
        assert "\n" not in str(failure.value)


def test_other_arrays_are_refused_and_never_unpickled(tmp_path: Path, prepared: Prepared) -> None:
    with (tmp_path / PREPARED_NAME).open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(InvalidInputError, match="not an .npz archive"):
        read_prepared(tmp_path)
    arrays = dict(vars(prepared))
    write_arrays(tmp_path, **{**arrays, "filenames": np.array([{"a": 1}] * N, dtype=object)})
    with pytest.raises(InvalidInputError, match="damaged"):
        read_prepared(tmp_path)
    del arrays["folds"]
    write_arrays(tmp_path, **arrays)
    with pytest.raises(InvalidInputError, match="folds is missing"):
        read_prepared(tmp_path)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("images", np.zeros((N, 64, 64, 3), np.uint8), "`images` must be uint8 of shape"),
        ("images", np.zeros((N, 32, 32, 3), np.float32), "is float32"),
        ("images", np.zeros((0, 32, 32, 3), np.uint8), "at least one image"),
        ("labels", np.zeros(N - 1, np.uint8), r"`labels` must have the shape \(90,\)"),
        ("labels", np.full(N, 9, np.uint8), "`labels` must be below 9, but one is 9"),
        ("labels", np.zeros(N, np.int64), "`labels` must be of type uint8"),
        ("folds", np.full((5, N), 3, np.uint8), "`folds` must be 0, 1 or 2, but one is 3"),
        ("folds", np.zeros((4, N), np.uint8), "`folds` must have the shape"),
        ("filenames", np.array(["a"] * N), "`filenames` must be unique"),
        ("filenames", np.zeros(N), "`filenames` must be of type str"),
    ],
)
def test_wrong_form_is_told(
    tmp_path: Path, prepared: Prepared, name: str, value: np.ndarray, message: str
) -> None:
    arrays = dict(vars(prepared)) | {name: value}
    write_arrays(tmp_path, **arrays)
    with pytest.raises(InvalidInputError, match=message):
        read_prepared(tmp_path)
    with pytest.raises(ValueError, match=message):
        write_prepared(tmp_path, Prepared(**arrays))


def test_sets_without_enough_images_are_told(tmp_path: Path, prepared: Prepared) -> None:
    prepared.folds[0] = 0
    write_prepared(tmp_path, prepared)
    with pytest.raises(InvalidInputError, match="fold 0 .* has no validation image"):
        datasets.load("deepweeds", data_dir=tmp_path)
    with pytest.raises(InvalidInputError, match="1000 images of each weed.*10 of Chinee apple"):
        datasets.load("deepweeds-balanced", data_dir=tmp_path)


def test_balanced_split_follows_the_hash_of_the_name_alone() -> None:
    files = [f"{i}.jpg" for i in range(9 * 1100)]
    labels = np.arange(len(files)) % 9
    roles = balanced_split(files, labels)
    assert [int(np.sum(roles == role)) for role in (0, 1, 2)] == [8 * 680, 8 * 170, 8 * 150]
    assert np.all(roles[labels == 8] == -1)
    digest = np.array([hashlib.sha256(name.encode()).hexdigest() for name in files])
    for weed in range(8):
        of = [digest[(labels == weed) & (roles == role)] for role in (2, 1, 0, -1)]
        for earlier, later in zip(of, of[1:], strict=False):
            assert max(earlier) < min(later)
    backwards = balanced_split(files[::-1], labels[::-1])
    assert np.array_equal(backwards[::-1], roles)


def test_scenes_split_keeps_a_day_and_camera_together_in_any_order() -> None:
    rng = np.random.default_rng(0)
    scene, labels = rng.integers(40, size=9 * 1200), rng.integers(9, size=9 * 1200)
    labels[scene < 8] = scene[scene < 8]  # Some scenes are of one weed, as in DeepWeeds.
    files = [f"201701{s // 4 + 1:02d}-{i:06d}-{s % 4}.jpg" for i, s in enumerate(scene)]
    roles = scenes_split(files, labels)
    for one in range(40):
        assert len(set(roles[(scene == one) & (roles >= 0)].tolist())) == 1
    for role, size in enumerate((680, 170, 150)):
        counts = np.bincount(labels[roles == role], minlength=9)
        assert counts[8] == 0 and counts.max() == size and counts[:8].sum() > 0.95 * 8 * size
    assert np.array_equal(scenes_split(files[::-1], labels[::-1])[::-1], roles)


def test_data_dir_is_argument_before_variable_before_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for argument, variable, cache, expected in (
        (tmp_path / "argument", "variable", "cache", "argument"),
        (None, "variable", "cache", "variable"),
        (None, "", "cache", "cache/optuna_deepweeds"),
        (None, None, "", ".cache/optuna_deepweeds"),
    ):
        for name, value in (("DEEPWEEDS_DATA", variable), ("XDG_CACHE_HOME", cache)):
            monkeypatch.setenv(name, str(tmp_path / value) if value else "")
            if value is None:
                monkeypatch.delenv(name)
        assert datasets.resolve_data_dir(argument) == tmp_path / expected
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert datasets.resolve_data_dir() == tmp_path / ".cache" / "optuna_deepweeds"
    (tmp_path / PREPARED_NAME).write_text("")
    with pytest.raises(InvalidInputError, match="must be a directory"):
        datasets.resolve_data_dir(tmp_path / PREPARED_NAME)


@needs_real_file
class TestRealData:
    def test_class_counts_and_splits(self) -> None:
        data = datasets.load("deepweeds", data_dir=SHARED / "data")
        counts = [1125, 1064, 1031, 1022, 1062, 1009, 1074, 1016, 9106]
        assert np.bincount(data.labels).tolist() == counts
        assert [len(s) for s in (data.train, data.valid, data.test)] == [10501, 3501, 3507]
        together = np.concatenate([data.train, data.valid, data.test])
        assert np.array_equal(np.sort(together), np.arange(17_509))

    def test_balanced_has_equal_counts_and_disjoint_splits(self) -> None:
        data = datasets.load("deepweeds-balanced", data_dir=SHARED / "data")
        assert data.images.shape == (8000, 32, 32, 3)
        for indices, of_each in ((data.train, 680), (data.valid, 170), (data.test, 150)):
            assert np.bincount(data.labels[indices]).tolist() == [of_each] * 8
        together = np.concatenate([data.train, data.valid, data.test])
        assert np.array_equal(np.sort(together), np.arange(8000))
        # Published in documents and study specs: it must never change unnoticed.
        assert data.fingerprint.startswith("a18a4feb3565fb5c")

    def test_scenes_are_in_one_split_each(self) -> None:
        data = datasets.load("deepweeds-scenes", data_dir=SHARED / "data")
        missing = np.zeros((3, 8), dtype=int)
        missing[0, 5], missing[2, 2] = 11, 15
        prepared = read_prepared(SHARED / "data")
        used = np.flatnonzero(scenes_split(prepared.filenames.tolist(), prepared.labels) >= 0)
        scenes = []
        splits = (data.train, 680), (data.valid, 170), (data.test, 150)
        for (indices, of_each), absent in zip(splits, missing, strict=True):
            assert np.bincount(data.labels[indices]).tolist() == (of_each - absent).tolist()
            names = [name.split("-") for name in prepared.filenames[used[indices]].tolist()]
            scenes.append({(day, camera) for day, _, camera in names})
        assert not (scenes[0] & scenes[1] or scenes[0] & scenes[2] or scenes[1] & scenes[2])
        assert data.fingerprint.startswith("70b15b2e806784b1")

    def test_what_the_notes_say_of_shared_scenes(self) -> None:
        prepared = read_prepared(SHARED / "data")
        names, labels = prepared.filenames.tolist(), prepared.labels
        times = np.array(
            [datetime.strptime(name[:15], "%Y%m%d-%H%M%S").timestamp() for name in names]
        )
        for name, roles in (
            ("deepweeds", prepared.folds[0].astype(int)),
            ("deepweeds-balanced", balanced_split(names, labels)),
            ("deepweeds-scenes", scenes_split(names, labels)),
        ):
            seen = np.flatnonzero((roles == 0) | (roles == 1))
            seen = seen[np.argsort(times[seen], kind="stable")]
            asked = np.flatnonzero(roles == 2)
            after = np.searchsorted(times[seen], times[asked]).clip(1, len(seen) - 1)
            both = np.stack([after - 1, after])
            apart = np.abs(times[seen[both]] - times[asked])
            nearest = seen[np.where(apart[0] <= apart[1], both[0], both[1])]
            right = np.mean(labels[nearest] == labels[asked])
            words = f"{np.mean(apart.min(axis=0) <= 10):.0%} of".replace("%", " %")
            assert words in datasets.NOTES[name]
            assert f"right for {right:.0%}".replace("%", " %") in datasets.NOTES[name]
