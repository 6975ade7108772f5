from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from optuna_deepweeds.datasets.download import download
from optuna_deepweeds.errors import DeepWeedsError
from tests.datasets.support import Server, serving

CONTENT = bytes(range(256)) * 4000
MD5 = hashlib.md5(CONTENT).hexdigest()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        server.files["/a.zip"] = CONTENT
        yield server


def get(path: Path, *urls: str, max_bytes: int = 2**21) -> Path:
    return download(urls, path, algorithm="md5", checksum=MD5, max_bytes=max_bytes)


def test_file_arrives_complete_and_progress_is_told(server: Server, tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []
    path = download(
        [server.url + "/a.zip"],
        tmp_path / "new" / "a.zip",
        algorithm="md5",
        checksum=MD5,
        max_bytes=2**21,
        progress=lambda done, total: told.append((done, total)),
    )
    assert path.read_bytes() == CONTENT
    assert [p.name for p in path.parent.iterdir()] == ["a.zip"]
    assert told[-1] == (len(CONTENT), len(CONTENT))


def test_sound_file_is_not_downloaded_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(CONTENT)
    get(tmp_path / "a.zip", server.url + "/a.zip")
    assert server.requests == []


def test_damaged_file_is_replaced(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"damaged")
    assert get(tmp_path / "a.zip", server.url + "/a.zip").read_bytes() == CONTENT


def test_broken_download_is_continued_where_it_broke(server: Server, tmp_path: Path) -> None:
    server.breaks_after = [100_000, 200_000]
    assert get(tmp_path / "a.zip", server.url + "/a.zip").read_bytes() == CONTENT
    assert [wanted for _, wanted in server.requests] == [None, "bytes=100000-", "bytes=300000-"]


def test_next_call_continues_what_the_last_left(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.zip.part").write_bytes(CONTENT[:5000])
    assert get(tmp_path / "a.zip", server.url + "/a.zip").read_bytes() == CONTENT
    assert server.requests == [("/a.zip", "bytes=5000-")]


def test_complete_part_needs_only_its_checksum(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.zip.part").write_bytes(CONTENT)
    assert get(tmp_path / "a.zip", server.url + "/a.zip").read_bytes() == CONTENT


def test_damaged_part_starts_over(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.zip.part").write_bytes(b"x" * 5000)
    assert get(tmp_path / "a.zip", server.url + "/a.zip").read_bytes() == CONTENT


def test_server_without_range_starts_over(server: Server, tmp_path: Path) -> None:
    server.ignores_range = True
    server.breaks_after = [100_000]
    assert get(tmp_path / "a.zip", server.url + "/a.zip").read_bytes() == CONTENT


def test_server_without_length_is_checked_by_checksum(server: Server, tmp_path: Path) -> None:
    server.hides_length = True
    assert get(tmp_path / "a.zip", server.url + "/a.zip").read_bytes() == CONTENT


def test_mirrors_are_tried_in_turn(server: Server, tmp_path: Path) -> None:
    server.files["/wrong.zip"] = CONTENT[::-1]
    path = get(
        tmp_path / "a.zip",
        server.url + "/absent.zip",
        server.url + "/wrong.zip",
        server.url + "/a.zip",
    )
    assert path.read_bytes() == CONTENT


def test_failure_says_why_for_each_mirror(server: Server, tmp_path: Path) -> None:
    server.files["/wrong.zip"] = b"wrong"
    with pytest.raises(DeepWeedsError) as failure:
        get(tmp_path / "a.zip", server.url + "/absent.zip", server.url + "/wrong.zip")
    message = str(failure.value)
    assert "HTTP 404" in message and "wrong MD5" in message and "\n" not in message
    assert list(tmp_path.iterdir()) == []


def test_unreachable_server_is_one_line(tmp_path: Path) -> None:
    with serving() as gone:
        url = gone.url
    with pytest.raises(DeepWeedsError, match="cannot be reached: Connection refused"):
        get(tmp_path / "a.zip", url + "/a.zip")


def test_download_that_always_breaks_off_keeps_what_came(server: Server, tmp_path: Path) -> None:
    server.breaks_after = [1000] * 4
    with pytest.raises(DeepWeedsError, match="broke off after 4,000 of 1,024,000 bytes"):
        get(tmp_path / "a.zip", server.url + "/a.zip")
    assert (tmp_path / "a.zip.part").read_bytes() == CONTENT[:4000]


@pytest.mark.parametrize("hides_length", [False, True])
def test_server_cannot_fill_the_disk(server: Server, tmp_path: Path, hides_length: bool) -> None:
    server.hides_length = hides_length
    with pytest.raises(DeepWeedsError, match="more than the 1,000"):
        get(tmp_path / "a.zip", server.url + "/a.zip", max_bytes=1000)


def test_web_page_is_not_taken_for_the_file(server: Server, tmp_path: Path) -> None:
    server.content_type = "text/html; charset=utf-8"
    with pytest.raises(DeepWeedsError, match="web page"):
        get(tmp_path / "a.zip", server.url + "/a.zip")
