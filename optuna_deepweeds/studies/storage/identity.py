"""Which process a worker is, so that another one on the same machine can tell that it is gone.

A heartbeat shows a death only after the grace period; whoever resumes a killed study on the same
machine should not have to wait for that.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

_SEPARATOR = "/"


def this_worker() -> str:
    """Identity of this process: host, process number and, on Linux, start and name space."""
    parts = [socket.gethostname(), str(os.getpid())]
    start = _start_time(os.getpid())
    if start is not None:
        parts += [start, _pid_namespace()]
    return _SEPARATOR.join(parts)


def is_gone(identity: object) -> bool:
    """True if the process of that identity surely does not run any more.

    False where it runs, and where nobody here can tell: on another host, in another container,
    on another system than Linux, or from what another program has written.
    """
    parts = identity.split(_SEPARATOR) if isinstance(identity, str) else []
    if len(parts) != 4 or not parts[1].isdigit():
        return False
    host, pid, start, namespace = parts
    if host != socket.gethostname() or not namespace or namespace != _pid_namespace():
        return False
    return _start_time(int(pid)) != start


def _start_time(pid: int) -> str | None:
    """When process `pid` started, in ticks since boot; None if there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The second field is the command in parentheses and may hold spaces and parentheses.
    fields = stat.rpartition(")")[2].split()
    is_zombie = fields[0] in ("Z", "X")
    return None if is_zombie else fields[19]


def _pid_namespace() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}:{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""
