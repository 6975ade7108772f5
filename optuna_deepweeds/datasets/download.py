"""Downloading one file: resumed where it broke off, checked, from one mirror after another."""

from __future__ import annotations

import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from optuna_deepweeds.errors import DeepWeedsError

_BLOCK = 2**18
_ATTEMPTS = 4
_TIMEOUT_SECONDS = 60

Progress = Callable[[int, int | None], None]
"""Called with (bytes here, bytes in all or None)."""


class _MirrorError(Exception):
    """This mirror does not have the file, or not the right one; the message says why."""


class _BrokenOffError(_MirrorError):
    """The connection broke; what has come is kept and the next attempt continues it."""


def download(
    urls: Sequence[str],
    path: Path,
    *,
    algorithm: str,
    checksum: str,
    max_bytes: int,
    progress: Progress | None = None,
) -> Path:
    """Make `path` the file with this checksum and return it.

    A sound file that is there already is kept. What comes is collected in `<path>.part`, which
    survives a broken connection or an interrupted program and is continued by the next call;
    `path` itself is never incomplete.

    Args:
        urls: http or https addresses of the same file, tried in turn.
        path: Where to put it; its directory is made.
        algorithm: Name of the checksum's algorithm, as hashlib knows it.
        checksum: Hexadecimal.
        max_bytes: A server that sends more is not believed.
        progress: Called after every block.

    Raises:
        DeepWeedsError: No mirror gave the file; the message says why for each.
    """
    reasons = []
    part = path.with_name(path.name + ".part")
    try:
        if path.exists() and _digest(path, algorithm) == checksum:
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        for url in urls:
            try:
                _fetch(url, part, algorithm, checksum, max_bytes, progress)
            except _MirrorError as error:
                reasons.append(f"{urlsplit(url).netloc}: {error}")
            else:
                part.replace(path)
                return path
    except OSError as error:
        raise DeepWeedsError(f"{path} cannot be written: {error.strerror or error}.") from None
    raise DeepWeedsError(f"{path.name} could not be downloaded ({'; '.join(reasons)}).")


def _fetch(
    url: str, part: Path, algorithm: str, checksum: str, max_bytes: int, progress: Progress | None
) -> None:
    """Complete `part` from one mirror and check it."""
    attempt = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            _receive(url, part, before, max_bytes, progress)
        except _BrokenOffError:
            attempt += 1
            if attempt == _ATTEMPTS:
                raise
            continue
        actual = _digest(part, algorithm)
        if actual == checksum:
            return
        part.unlink()
        # What was there before may have been damaged or another mirror's: once more from zero.
        if not before:
            raise _MirrorError(f"wrong {algorithm.upper()} {actual}, expected {checksum}")


def _receive(url: str, part: Path, before: int, max_bytes: int, progress: Progress | None) -> None:
    """Append to `part` what follows its first `before` bytes; start over if the server must."""
    headers = {"User-Agent": "optuna-deepweeds", "Accept-Encoding": "identity"}
    if before:
        headers["Range"] = f"bytes={before}-"
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=_TIMEOUT_SECONDS
        ) as response:
            if response.headers.get_content_type() == "text/html":
                raise _MirrorError("sent a web page instead of the file")
            resumed = response.status == http.HTTPStatus.PARTIAL_CONTENT
            if resumed and not response.headers.get("Content-Range", "").startswith(
                f"bytes {before}-"
            ):
                part.unlink()
                raise _BrokenOffError("continued at another place than asked for")
            have = before if resumed else 0
            length = response.headers.get("Content-Length", "")
            total = have + int(length) if length.isdigit() else None
            if total is not None and total > max_bytes:
                raise _MirrorError(f"has {total:,} bytes, more than the {max_bytes:,} expected")
            with part.open("ab" if resumed else "wb") as file:
                _copy(response, file, have, total, max_bytes, progress)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and before:
                # All bytes are here, as after an interruption just before the checksum.
                return
            raise _MirrorError(f"HTTP {error.code} {error.reason}".strip()) from None
    except urllib.error.URLError as error:
        reason = error.reason
        text = getattr(reason, "strerror", None) or str(reason)
        raise _BrokenOffError(f"cannot be reached: {text}") from None
    except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
        raise _BrokenOffError(f"broke off: {str(error) or type(error).__name__}") from None


def _copy(
    response: Any,
    file: Any,
    have: int,
    total: int | None,
    max_bytes: int,
    progress: Progress | None,
) -> None:
    while block := response.read(_BLOCK):
        file.write(block)
        have += len(block)
        if have > max_bytes:
            raise _MirrorError(f"sent more than the {max_bytes:,} bytes expected")
        if progress is not None:
            progress(have, total)
    # A bounded read at the end of a broken connection returns nothing instead of raising.
    if total is not None and have < total:
        raise _BrokenOffError(f"broke off after {have:,} of {total:,} bytes")


def _digest(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        # MD5 is what the publisher gives; it guards against accidents here, not attackers.
        return hashlib.file_digest(
            file, lambda: hashlib.new(algorithm, usedforsecurity=False)
        ).hexdigest()
