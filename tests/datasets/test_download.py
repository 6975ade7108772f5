from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from optuna_deepweeds.datasets.download import download
from optuna_deepweeds.errors import DeepWeedsError
from tests.datasets.support import Server, serving

CONTENT = bytes(range(256)) * 4000
MD5 = hashlib.md5(CONTENT).hexdigest()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        server.files |= {"/a.zip": CONTENT, "/reversed.zip": CONTENT[::-1], "/wrong.zip": b"wrong"}
        yield server


def get(path: Path, *urls: str, max_bytes: int = 2**21, **options: Any) -> Path:
    return download(urls, path, algorithm="md5", checksum=MD5, max_bytes=max_bytes, **options)


def test_file_arrives_complete_and_progress_is_told(server: Server, tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []
    path = tmp_path / "new" / "a.zip"
    get(path, server.url + "/a.zip", progress=lambda done, total: told.append((done, total)))
    assert path.read_bytes() == CONTENT
    assert [p.name for p in path.parent.iterdir()] == ["a.zip"]
    assert told[-1] == (len(CONTENT), len(CONTENT))


@pytest.mark.parametrize(
    ("name", "content", "ranges"),
    [
        pytest.param("a.zip", CONTENT, [], id="sound: not again"),
        pytest.param("a.zip", b"damaged", [None], id="damaged: replaced"),
        pytest.param("a.zip.part", CONTENT[:5000], ["bytes=5000-"], id="part: continued"),
        pytest.param("a.zip.part", CONTENT, None, id="complete part: checksum only"),
        pytest.param("a.zip.part", b"x" * 5000, None, id="damaged part: starts over"),
    ],
)
def test_what_is_there_already_is_used_where_it_is_sound(
    server: Server, tmp_path: Path, name: str, content: bytes, ranges: list[str | None] | None
) -> None:
    (tmp_path / name).write_bytes(content)
    assert get(tmp_path / "a.zip", server.url + "/a.zip").read_bytes() == CONTENT
    if ranges is not None:
        assert [wanted for _, wanted in server.requests] == ranges


@pytest.mark.parametrize(
    ("behaviour", "paths"),
    [
        ({"ignores_range": True, "breaks_after": [100_000]}, ["/a.zip"]),
        ({"hides_length": True}, ["/a.zip"]),
        ({}, ["/absent.zip", "/reversed.zip", "/a.zip"]),
    ],
    ids=["no range: starts over", "no length: checksum", "mirrors in turn"],
)
def test_file_arrives_from_a_poor_server(
    server: Server, tmp_path: Path, behaviour: dict[str, Any], paths: list[str]
) -> None:
    vars(server).update(behaviour)
    path = get(tmp_path / "a.zip", *(server.url + path for path in paths))
    assert path.read_bytes() == CONTENT


def test_broken_download_is_continued_where_it_broke(server: Server, tmp_path: Path) -> None:
    server.breaks_after = [100_000, 200_000]
    assert get(tmp_path / "a.zip", server.url + "/a.zip").read_bytes() == CONTENT
    assert [wanted for _, wanted in server.requests] == [None, "bytes=100000-", "bytes=300000-"]


def test_failure_says_why_for_each_mirror(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DeepWeedsError, match=r"^.*HTTP 404.*wrong MD5.*$"):
        get(tmp_path / "a.zip", server.url + "/absent.zip", server.url + "/wrong.zip")
    assert list(tmp_path.iterdir()) == []


def test_unreachable_server_is_one_line(tmp_path: Path) -> None:
    with serving() as gone:
        url = gone.url
    with pytest.raises(DeepWeedsError, match="cannot be reached: Connection refused"):
        get(tmp_path / "a.zip", url + "/a.zip")


@pytest.mark.parametrize(
    ("behaviour", "max_bytes", "words", "kept"),
    [
        ({"breaks_after": [1000] * 4}, 2**21, "after 4,000 of 1,024,000 bytes", CONTENT[:4000]),
        ({}, 1000, "more than the 1,000", None),
        ({"hides_length": True}, 1000, "more than the 1,000", None),
        ({"content_type": "text/html; charset=utf-8"}, 2**21, "web page", None),
    ],
    ids=["breaks off always", "too long", "too long and does not say so", "web page"],
)
def test_server_that_never_gives_the_file_is_told(
    server: Server,
    tmp_path: Path,
    behaviour: dict[str, Any],
    max_bytes: int,
    words: str,
    kept: bytes | None,
) -> None:
    vars(server).update(behaviour)
    with pytest.raises(DeepWeedsError, match=words):
        get(tmp_path / "a.zip", server.url + "/a.zip", max_bytes=max_bytes)
    if kept is not None:
        assert (tmp_path / "a.zip.part").read_bytes() == kept
