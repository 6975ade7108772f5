"""Small sets of photographs and label files in the official form, and a server that misbehaves."""

from __future__ import annotations

import csv
import io
import os
import threading
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from optuna_deepweeds.datasets.prepare import LABEL_FILES

SHARED = Path(
    os.environ.get("DEEPWEEDS_SHARED", Path(__file__).resolve().parents[2].parent / "shared")
)

needs_real_file = pytest.mark.skipif(
    not (SHARED / "data" / "deepweeds32.npz").is_file(),
    reason=f"the real prepared file is not in {SHARED / 'data'}",
)
needs_originals = pytest.mark.skipif(
    not (SHARED / "data" / "deepweeds" / "images").is_dir(),
    reason=f"the original photographs are not in {SHARED / 'data' / 'deepweeds'}",
)


def photograph(seed: int, side: int = 40) -> bytes:
    """A small JPEG file of random colours."""
    pixels = np.random.default_rng(seed).integers(
        0, 256, (side // 8, side // 8, 3), dtype=np.uint8
    )
    file = io.BytesIO()
    Image.fromarray(pixels).resize((side, side)).save(file, "JPEG")
    return file.getvalue()


def png_chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content).to_bytes(4, "big")
    return len(content).to_bytes(4, "big") + kind + content + checksum


def png(side: int, bits: int, rows: bytes, *more: bytes) -> bytes:
    """A PNG whose header claims `side` by `side` colours; `more` chunks behind the rows."""
    header = side.to_bytes(4, "big") * 2 + bytes([bits, 2, 0, 0, 0])
    chunks = [png_chunk(b"IHDR", header), png_chunk(b"IDAT", zlib.compress(rows)), *more]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + png_chunk(b"IEND", b"")


def names(n: int) -> list[str]:
    return [f"20170101-{i:06d}-0.jpg" for i in range(n)]


def write_photographs(directory: Path, n: int) -> Path:
    directory.mkdir()
    for i, name in enumerate(names(n)):
        (directory / name).write_bytes(photograph(i))
    return directory


def write_zip(path: Path, entries: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


def write_labels(directory: Path, n: int) -> Path:
    """n photographs, classes in turn; in fold f, photograph i tests if i % 5 == f, and so on."""
    directory.mkdir()
    for file in LABEL_FILES:
        write_rows(directory / file, [])
    write_rows(directory / "labels.csv", [(name, i % 9, "x") for i, name in enumerate(names(n))])
    for fold in range(5):
        parts: dict[str, list[tuple[object, ...]]] = {"train": [], "val": [], "test": []}
        for i, name in enumerate(names(n)):
            part = {0: "test", 1: "val"}.get((i - fold) % 5, "train")
            parts[part].append((name, i % 9))
        for part, rows in parts.items():
            write_rows(directory / f"{part}_subset{fold}.csv", rows)
    return directory


def write_rows(path: Path, rows: list[tuple[object, ...]]) -> None:
    header = (
        ("Filename", "Label", "Species") if path.name == "labels.csv" else ("Filename", "Label")
    )
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


@dataclass
class Server:
    """What a local HTTP server offers, how it misbehaves, and what it was asked for."""

    url: str
    files: dict[str, bytes] = field(default_factory=dict)
    breaks_after: list[int] = field(default_factory=list)
    ignores_range: bool = False
    hides_length: bool = False
    content_type: str = "application/octet-stream"
    requests: list[tuple[str, str | None]] = field(default_factory=list)


@contextmanager
def serving() -> Iterator[Server]:
    """A server on this machine; `breaks_after` cuts one response for each of its entries."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            server.requests.append((self.path, wanted))
            content = server.files.get(self.path)
            if content is None:
                self.send_error(404)
                return
            start = 0
            if wanted and not server.ignores_range:
                start = int(wanted.removeprefix("bytes=").rstrip("-"))
                if start >= len(content):
                    self.send_error(416)
                    return
                self.send_response(206)
                self.send_header(
                    "Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}"
                )
            else:
                self.send_response(200)
            if not server.hides_length:
                self.send_header("Content-Length", str(len(content) - start))
            self.send_header("Content-Type", server.content_type)
            self.end_headers()
            stop = start + server.breaks_after.pop(0) if server.breaks_after else len(content)
            self.wfile.write(content[start:stop])

        def log_message(self, *args: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = False
    server = Server(f"http://127.0.0.1:{httpd.server_port}")
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        httpd.shutdown()
        thread.join()
        httpd.server_close()
