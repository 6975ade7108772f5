"""Files that appear whole or not at all, and locks between processes."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from optuna_deepweeds.errors import InvalidInputError

_POLL_SECONDS = 0.02


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A new empty file beside `path`, which takes its name when the block ends without an error.

    A reader sees the old file or the new one, never half, also after a loss of power. The file
    has the rights of any new file; folders that are missing are made. Its name begins with
    `.NAME.` and ends with `.part`, by which remains of killed processes can be told.

    Raises:
        InvalidInputError: The file cannot be written: no such place, no right, no room.
    """
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.touch(exist_ok=False)
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be written: {error.strerror or error}.") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a text (as UTF-8) or bytes to `path`, as `whole` does.

    Raises:
        InvalidInputError: The file cannot be written.
    """
    with whole(path) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)


def is_out_of_room(error: BaseException) -> bool:
    """Whether a file could not be written since the disk is full or cannot be written now."""
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, OSError) and link.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            return True
        link = link.__cause__
    return False


@contextmanager
def locked(path: Path, *, timeout: float | None = None) -> Iterator[bool]:
    """Hold the lock of the file `path`, which is made where it is missing, during the block.

    The system gives the lock back whenever the process ends, however it ends. It also keeps out
    other threads, and is not taken twice by one.

    Args:
        path: The file; its content does not matter and stays.
        timeout: Seconds to wait for it; 0 tries once, None waits for ever.

    Yields:
        Whether the lock is held.

    Raises:
        InvalidInputError: The file cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be written: {error.strerror or error}.") from error
    try:
        # Not POSIX locks: those are dropped when any descriptor of the file is closed.
        if timeout is None:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield True
            return
        until = time.monotonic() + timeout
        while not (is_held := _try(descriptor)) and time.monotonic() < until:
            time.sleep(_POLL_SECONDS)
        yield is_held
    finally:
        os.close(descriptor)  # This also releases the lock.


def _try(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
