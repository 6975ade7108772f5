from __future__ import annotations

import hashlib
import io
import stat
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from optuna_deepweeds.datasets.photographs import decode
from optuna_deepweeds.datasets.prepare import (
    LABEL_FILES,
    OFFICIAL,
    Outcome,
    Sources,
    prepare,
    read_labels,
)
from optuna_deepweeds.datasets.prepared import PREPARED_NAME, read_prepared
from optuna_deepweeds.errors import DeepWeedsError, InvalidInputError, NotFoundError
from tests.datasets.support import (
    SHARED,
    names,
    needs_originals,
    needs_real_file,
    photograph,
    serving,
    write_labels,
    write_photographs,
    write_rows,
    write_zip,
)

N = 40


class Place:
    """Photographs and labels of N plants in a folder, and where they are prepared."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.images = write_photographs(folder / "images", N)
        self.labels = write_labels(folder / "labels", N)
        self.out = folder / "data"

    def prepare(self, **options: Any) -> Outcome:
        return prepare(self.out, **{"images": self.images, "labels": self.labels, **options})

    def archive(self, *more: tuple[str | zipfile.ZipInfo, bytes], folder: str = "") -> Path:
        """The photographs in a zip archive, and `more` entries."""
        entries = {folder + name: photograph(i) for i, name in enumerate(names(N))}
        path = write_zip(self.folder / "a.zip", entries)
        with zipfile.ZipFile(path, "a") as file:
            for entry in more:
                file.writestr(*entry)
        return path


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_directory_and_zip_give_the_same(place: Place) -> None:
    told: list[tuple[str, int, int | None, str]] = []
    outcome = place.prepare(progress=lambda *a: told.append(a))
    assert (outcome.n_images, outcome.n_absent, outcome.disputed) == (N, 0, ())
    assert told[-1] == ("preparing", N, N, "images")
    first = read_prepared(place.out)
    place.out = place.folder / "other"
    place.prepare(images=place.archive(folder="images/"))
    assert np.array_equal(first.images, read_prepared(place.out).images)
    assert first.filenames.tolist() == names(N)
    assert first.labels.tolist() == [i % 9 for i in range(N)]
    assert np.array_equal(first.folds, read_labels(place.labels).folds)
    assert np.array_equal(first.images[7], decode(photograph(7)))


def test_sound_file_is_kept_unless_forced_and_a_damaged_one_remade(place: Place) -> None:
    place.out.mkdir()
    (place.out / PREPARED_NAME).write_bytes(b"damaged")
    assert place.prepare().n_images == N and len(read_prepared(place.out).labels) == N
    before = (place.out / PREPARED_NAME).stat().st_mtime_ns
    # Only a partial set is complete with fewer than 17,509 images.
    assert place.prepare(partial=True).existed
    assert (place.out / PREPARED_NAME).stat().st_mtime_ns == before
    assert not place.prepare(partial=True, force=True).existed


def test_absent_photograph_is_an_error_and_left_out_on_request(place: Place) -> None:
    for name in names(N)[5:10]:
        (place.images / name).unlink()
    with pytest.raises(NotFoundError, match=r"5 of 40 .*000005-0.jpg.*\.\.\.; .*--partial"):
        place.prepare()
    assert not (place.out / PREPARED_NAME).exists()
    outcome = place.prepare(partial=True)
    assert (outcome.n_images, outcome.n_absent) == (N - 5, 5)
    assert read_prepared(place.out).filenames.tolist() == names(N)[:5] + names(N)[10:]


def test_places_without_photographs_are_told(place: Place) -> None:
    (place.folder / "empty").mkdir()
    with pytest.raises(NotFoundError, match="none of the 40"):
        place.prepare(images=place.folder / "empty", partial=True)
    for which in ("images", "labels"):
        with pytest.raises(NotFoundError, match="does not exist: nowhere"):
            place.prepare(**{which: Path("nowhere")})


def test_photograph_without_label_is_ignored_and_a_second_one_of_a_name_refused(
    place: Place,
) -> None:
    (place.images / "other.jpg").write_bytes(b"not even an image")
    assert place.prepare().n_images == N
    (place.images / "more").mkdir()
    (place.images / "more" / names(N)[2]).write_bytes(photograph(2))
    with pytest.raises(InvalidInputError, match="each photograph once, but 20170101-000002"):
        place.prepare(force=True)


def test_damaged_photographs_are_named(place: Place) -> None:
    whole = photograph(0, side=256)
    giant = io.BytesIO()
    Image.new("1", (5000, 5000)).save(giant, "PNG")  # Refused by its header.
    bad = {3: whole[: len(whole) // 2], 4: b"", 9: photograph(9, side=16)}
    for i, content in bad.items():
        (place.images / names(N)[i]).write_bytes(content)
    with pytest.raises(InvalidInputError) as failure:
        place.prepare(partial=True)
    message = str(failure.value)
    for words in ("3 of 40 photographs", "truncated", "its format is unknown", "16x16"):
        assert words in message
    assert "\n" not in message
    assert not (place.out / PREPARED_NAME).exists()
    (place.images / names(N)[1]).write_bytes(giant.getvalue())
    with pytest.raises(InvalidInputError, match="5000x5000"):
        place.prepare()


def _link() -> zipfile.ZipInfo:
    link = zipfile.ZipInfo("link.jpg")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    return link


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("../evil.jpg", "plain relative paths"),
        ("/etc/evil.jpg", "plain relative paths"),
        ("a/../../evil.jpg", "plain relative paths"),
        ("..\\evil.jpg", "plain relative paths"),
        ("C:\\evil.jpg", "plain relative paths"),
        (_link(), "symbolic link"),
        ("more/" + names(N)[2], "each photograph once, but 20170101-000002"),
    ],
)
def test_archive_with_a_trick_or_a_duplicate_is_refused(
    place: Place, entry: str | zipfile.ZipInfo, message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message) as failure:
        place.prepare(images=place.archive((entry, b"/etc/passwd")))
    assert "\n" not in str(failure.value)


def test_bomb_is_refused_unopened(place: Place) -> None:
    archive = write_zip(place.folder / "a.zip", {names(N)[0]: bytes(20 * 2**20)})
    assert archive.stat().st_size < 2**16
    with pytest.raises(InvalidInputError, match="unpacks to 20,971,520"):
        place.prepare(images=archive, partial=True)


def test_damaged_archive_is_told(place: Place) -> None:
    archive = place.archive()
    whole = archive.read_bytes()
    for kept in (0, 100, 20_000):
        archive.write_bytes(whole[:kept])
        with pytest.raises(InvalidInputError, match="not a complete zip archive"):
            place.prepare(images=archive)
    archive.write_bytes(whole[:200] + bytes([whole[200] ^ 255]) + whole[201:])
    with pytest.raises(InvalidInputError, match=r"1 of 40 photographs .*000000-0.jpg"):
        place.prepare(images=archive)


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    return write_labels(tmp_path / "labels", N)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("a.jpg", "9"), "row 42: Label must be a whole number from 0 to 8, but is '9'"),
        (("a.jpg", "-1"), "Label must be"),
        (("a.jpg", ""), "Label must be"),
        (("a.jpg", "Lantana"), "but is 'Lantana'"),
        (("a.jpg",), "Filename and Label are required"),
        (("", "1"), "bare name of a file"),
        (("../a.jpg", "1"), "bare name of a file"),
        (("20170101-000003-0.jpg", "3"), "000003-0.jpg is there twice"),
    ],
)
def test_bad_row_is_told_with_its_place(labels: Path, row: tuple[str, ...], message: str) -> None:
    good = [(name, i % 9) for i, name in enumerate(names(N))]
    write_rows(labels / "labels.csv", [*good, row])
    with pytest.raises(InvalidInputError, match=message) as failure:
        read_labels(labels)
    assert "labels.csv, row 42" in str(failure.value)


def test_bad_subset_file_is_told(labels: Path) -> None:
    path = labels / "val_subset2.csv"
    text = path.read_bytes()
    for content, message in (
        (text + b"stranger.jpg,1\n", r"val_subset2.csv, row \d+: stranger.jpg"),
        (text + names(N)[2].encode() + b",2\n", "in one subset of fold 2"),
        (b"Filename,Label\n", "8 are in none"),
        (b"a,b\n", "columns must be Filename, Label"),
        (b"\xff\xfe\x00", "UTF-8"),
    ):
        path.write_bytes(content)
        with pytest.raises(InvalidInputError, match=message):
            read_labels(labels)
    path.unlink()
    with pytest.raises(NotFoundError, match=r"val_subset2.csv does not exist"):
        read_labels(labels)


def test_disputed_label_is_told_and_labels_csv_wins(labels: Path) -> None:
    path = labels / "test_subset0.csv"
    path.write_text(path.read_text().replace("000005-0.jpg,5", "000005-0.jpg,6"))
    known = read_labels(labels)
    assert known.disputed == (names(N)[5],)
    assert known.labels[5] == 5


def test_everything_is_downloaded_and_prepared(place: Place) -> None:
    assert set(OFFICIAL.labels_sha256) == set(LABEL_FILES)
    archive, out = place.archive().read_bytes(), place.out
    files = {name: (place.labels / name).read_bytes() for name in LABEL_FILES}
    with serving() as server:
        server.files = {"/second/" + name: content for name, content in files.items()}
        server.files["/images.zip"] = archive
        server.breaks_after = [10**9] * len(files) + [len(archive) // 2]
        sources = Sources(
            images=(server.url + "/gone.zip", server.url + "/images.zip"),
            images_md5=hashlib.md5(archive).hexdigest(),
            images_bytes=10**7,
            labels=(server.url + "/first/", server.url + "/second/"),
            labels_sha256={n: hashlib.sha256(c).hexdigest() for n, c in files.items()},
        )
        assert prepare(out, sources=sources).n_images == N
        n_requests = len(server.requests)
        assert server.requests[-1] == ("/images.zip", f"bytes={len(archive) // 2}-")
        assert prepare(out, sources=sources, force=True).n_images == N
        assert len(server.requests) == n_requests
        wrong = replace(sources, images_md5="0" * 32)
        with pytest.raises(DeepWeedsError, match="wrong MD5"):
            prepare(out, sources=wrong, force=True)
    assert len(read_prepared(out).labels) == N


@needs_originals
@needs_real_file
def test_originals_give_the_pixels_of_the_prepared_file(tmp_path: Path) -> None:
    out, originals = tmp_path / "data", SHARED / "data" / "deepweeds"
    for name, digest in OFFICIAL.labels_sha256.items():
        assert hashlib.sha256((originals / "labels" / name).read_bytes()).hexdigest() == digest
    outcome = prepare(out, images=originals / "images", labels=originals / "labels", partial=True)
    assert (outcome.n_images, outcome.n_absent) == (180, 17_329)
    assert outcome.disputed == ("20170714-110407-3.jpg",)
    ours, real = read_prepared(out), read_prepared(SHARED / "data")
    where = {name: i for i, name in enumerate(real.filenames.tolist())}
    same = [where[name] for name in ours.filenames.tolist()]
    assert np.array_equal(ours.images, real.images[same])
    assert np.array_equal(ours.labels, real.labels[same])
    assert np.array_equal(ours.folds, real.folds[:, same])


@pytest.mark.slow
def test_set_of_the_full_size(tmp_path: Path) -> None:
    n, out = 17_509, tmp_path / "data"
    labels = write_labels(tmp_path / "labels", n)
    some = [photograph(i) for i in range(50)]
    archive = tmp_path / "images.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for i, name in enumerate(names(n)):
            file.writestr(name, some[i % 50])
    assert prepare(out, images=archive, labels=labels).n_images == n
    prepared = read_prepared(out)
    assert prepared.images.shape == (n, 32, 32, 3)
    assert np.array_equal(prepared.images[17_508], decode(some[17_508 % 50]))
    assert prepare(out, images=archive, labels=labels).existed
