from __future__ import annotations

import hashlib
import io
import stat
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from optuna_deepweeds.datasets.photographs import decode
from optuna_deepweeds.datasets.prepare import LABEL_FILES, OFFICIAL, Sources, prepare, read_labels
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


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return write_photographs(tmp_path / "images", N)


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    return write_labels(tmp_path / "labels", N)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "data"


def as_zip(path: Path, folder: str = "") -> Path:
    return write_zip(path, {folder + name: photograph(i) for i, name in enumerate(names(N))})


class TestFromDisk:
    def test_directory_and_zip_give_the_same(
        self, images: Path, labels: Path, out: Path, tmp_path: Path
    ) -> None:
        told: list[tuple[str, int, int | None, str]] = []
        outcome = prepare(out, images=images, labels=labels, progress=lambda *a: told.append(a))
        assert (outcome.n_images, outcome.n_absent, outcome.disputed) == (N, 0, ())
        assert told[-1] == ("preparing", N, N, "images")
        archive = as_zip(tmp_path / "a.zip", "images/")
        prepare(tmp_path / "other", images=archive, labels=labels)
        first, second = read_prepared(out), read_prepared(tmp_path / "other")
        assert np.array_equal(first.images, second.images)
        assert first.filenames.tolist() == names(N)
        assert first.labels.tolist() == [i % 9 for i in range(N)]
        assert np.array_equal(first.folds, read_labels(labels).folds)
        assert np.array_equal(first.images[7], decode(photograph(7)))

    def test_sound_file_is_kept_unless_forced(self, images: Path, labels: Path, out: Path) -> None:
        prepare(out, images=images, labels=labels)
        before = (out / PREPARED_NAME).stat().st_mtime_ns
        # Only a partial set is complete with fewer than 17,509 images.
        assert prepare(out, images=images, labels=labels, partial=True).existed
        assert (out / PREPARED_NAME).stat().st_mtime_ns == before
        assert not prepare(out, images=images, labels=labels, partial=True, force=True).existed

    def test_damaged_prepared_file_is_remade(self, images: Path, labels: Path, out: Path) -> None:
        out.mkdir()
        (out / PREPARED_NAME).write_bytes(b"damaged")
        assert prepare(out, images=images, labels=labels).n_images == N
        assert len(read_prepared(out).labels) == N

    def test_absent_photograph_is_an_error_and_left_out_on_request(
        self, images: Path, labels: Path, out: Path
    ) -> None:
        for name in names(N)[5:10]:
            (images / name).unlink()
        with pytest.raises(NotFoundError, match=r"5 of 40 .*000005-0.jpg.*\.\.\.; .*--partial"):
            prepare(out, images=images, labels=labels)
        assert not (out / PREPARED_NAME).exists()
        outcome = prepare(out, images=images, labels=labels, partial=True)
        assert (outcome.n_images, outcome.n_absent) == (N - 5, 5)
        assert read_prepared(out).filenames.tolist() == names(N)[:5] + names(N)[10:]

    def test_no_photograph_at_all_is_an_error(
        self, labels: Path, out: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "empty").mkdir()
        with pytest.raises(NotFoundError, match="none of the 40"):
            prepare(out, images=tmp_path / "empty", labels=labels, partial=True)

    def test_photograph_without_label_is_ignored(
        self, images: Path, labels: Path, out: Path
    ) -> None:
        (images / "other.jpg").write_bytes(b"not even an image")
        assert prepare(out, images=images, labels=labels).n_images == N

    def test_damaged_photographs_are_named(self, images: Path, labels: Path, out: Path) -> None:
        whole = photograph(0, side=256)
        (images / names(N)[3]).write_bytes(whole[: len(whole) // 2])
        (images / names(N)[4]).write_bytes(b"")
        (images / names(N)[9]).write_bytes(photograph(9, side=16))
        with pytest.raises(InvalidInputError) as failure:
            prepare(out, images=images, labels=labels, partial=True)
        message = str(failure.value)
        assert "3 of 40 photographs" in message and "truncated" in message
        assert "its format is unknown" in message and "16x16" in message and "\n" not in message
        assert not (out / PREPARED_NAME).exists()

    def test_duplicate_photograph_is_named(self, images: Path, labels: Path, out: Path) -> None:
        (images / "more").mkdir()
        (images / "more" / names(N)[2]).write_bytes(photograph(2))
        with pytest.raises(InvalidInputError, match="each photograph once, but 20170101-000002"):
            prepare(out, images=images, labels=labels)

    @pytest.mark.parametrize("which", ["images", "labels"])
    def test_absent_directory_is_told(
        self, images: Path, labels: Path, out: Path, which: str
    ) -> None:
        paths = {"images": images, "labels": labels} | {which: Path("nowhere")}
        with pytest.raises(NotFoundError, match="does not exist: nowhere"):
            prepare(out, **paths)

    def test_giant_picture_is_refused_by_its_header(
        self, images: Path, labels: Path, out: Path
    ) -> None:
        file = io.BytesIO()
        Image.new("1", (5000, 5000)).save(file, "PNG")
        (images / names(N)[1]).write_bytes(file.getvalue())
        with pytest.raises(InvalidInputError, match="5000x5000"):
            prepare(out, images=images, labels=labels)


class TestArchives:
    @pytest.mark.parametrize(
        "name",
        ["../evil.jpg", "/etc/evil.jpg", "a/../../evil.jpg", "..\\evil.jpg", "C:\\evil.jpg"],
    )
    def test_path_tricks_are_refused(
        self, labels: Path, out: Path, tmp_path: Path, name: str
    ) -> None:
        archive = as_zip(tmp_path / "a.zip")
        with zipfile.ZipFile(archive, "a") as file:
            file.writestr(name, b"x")
        with pytest.raises(InvalidInputError, match="plain relative paths") as failure:
            prepare(out, images=archive, labels=labels)
        assert "\n" not in str(failure.value)

    def test_symbolic_link_is_refused(self, labels: Path, out: Path, tmp_path: Path) -> None:
        archive = as_zip(tmp_path / "a.zip")
        link = zipfile.ZipInfo("link.jpg")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        with zipfile.ZipFile(archive, "a") as file:
            file.writestr(link, "/etc/passwd")
        with pytest.raises(InvalidInputError, match="symbolic link"):
            prepare(out, images=archive, labels=labels)

    def test_bomb_is_refused_unopened(self, labels: Path, out: Path, tmp_path: Path) -> None:
        archive = write_zip(tmp_path / "a.zip", {names(N)[0]: bytes(20 * 2**20)})
        assert archive.stat().st_size < 2**16
        with pytest.raises(InvalidInputError, match="unpacks to 20,971,520"):
            prepare(out, images=archive, labels=labels, partial=True)

    def test_duplicate_entry_is_named(self, labels: Path, out: Path, tmp_path: Path) -> None:
        archive = as_zip(tmp_path / "a.zip")
        with zipfile.ZipFile(archive, "a") as file:
            file.writestr("more/" + names(N)[6], photograph(6))
        with pytest.raises(InvalidInputError, match="each photograph once"):
            prepare(out, images=archive, labels=labels)

    @pytest.mark.parametrize("kept", [0, 100, 20_000])
    def test_truncated_archive_is_told(
        self, labels: Path, out: Path, tmp_path: Path, kept: int
    ) -> None:
        archive = as_zip(tmp_path / "a.zip")
        archive.write_bytes(archive.read_bytes()[:kept])
        with pytest.raises(InvalidInputError, match="not a complete zip archive"):
            prepare(out, images=archive, labels=labels)

    def test_damaged_entry_is_named(self, labels: Path, out: Path, tmp_path: Path) -> None:
        archive = as_zip(tmp_path / "a.zip")
        content = bytearray(archive.read_bytes())
        content[200] ^= 255
        archive.write_bytes(content)
        with pytest.raises(InvalidInputError, match=r"1 of 40 photographs .*000000-0.jpg"):
            prepare(out, images=archive, labels=labels)


class TestLabels:
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
    def test_bad_row_is_told_with_its_place(
        self, labels: Path, row: tuple[str, ...], message: str
    ) -> None:
        good = [(name, i % 9) for i, name in enumerate(names(N))]
        write_rows(labels / "labels.csv", [*good, row])
        with pytest.raises(InvalidInputError, match=message) as failure:
            read_labels(labels)
        assert "labels.csv, row 42" in str(failure.value)

    def test_subset_must_agree_with_labels(self, labels: Path) -> None:
        path = labels / "val_subset2.csv"
        text = path.read_text()
        path.write_text(text + "stranger.jpg,1\n")
        with pytest.raises(InvalidInputError, match=r"val_subset2.csv, row \d+: stranger.jpg"):
            read_labels(labels)
        path.write_text(text + names(N)[2] + ",2\n")
        with pytest.raises(InvalidInputError, match="in one subset of fold 2"):
            read_labels(labels)
        path.write_text("Filename,Label\n")
        with pytest.raises(InvalidInputError, match="8 are in none"):
            read_labels(labels)

    def test_disputed_label_is_told_and_labels_csv_wins(self, labels: Path) -> None:
        path = labels / "test_subset0.csv"
        path.write_text(path.read_text().replace("000005-0.jpg,5", "000005-0.jpg,6"))
        known = read_labels(labels)
        assert known.disputed == (names(N)[5],)
        assert known.labels[5] == 5

    def test_absent_file_and_wrong_columns_are_told(self, labels: Path) -> None:
        (labels / "val_subset4.csv").write_text("a,b\n")
        with pytest.raises(InvalidInputError, match="columns must be Filename, Label"):
            read_labels(labels)
        (labels / "val_subset4.csv").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(InvalidInputError, match="UTF-8"):
            read_labels(labels)
        (labels / "val_subset4.csv").unlink()
        with pytest.raises(NotFoundError, match=r"val_subset4.csv does not exist"):
            read_labels(labels)


def test_everything_is_downloaded_and_prepared(labels: Path, out: Path, tmp_path: Path) -> None:
    archive = as_zip(tmp_path / "a.zip").read_bytes()
    files = {name: (labels / name).read_bytes() for name in LABEL_FILES}
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


def test_official_checksums_cover_every_label_file() -> None:
    assert set(OFFICIAL.labels_sha256) == set(LABEL_FILES)


@needs_originals
@needs_real_file
def test_originals_give_the_pixels_of_the_prepared_file(out: Path) -> None:
    originals = SHARED / "data" / "deepweeds"
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
def test_set_of_the_full_size(out: Path, tmp_path: Path) -> None:
    n = 17_509
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
