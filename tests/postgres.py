"""A PostgreSQL server of our own in a temporary folder, for tests and `bench storage`."""

from __future__ import annotations

import glob
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from optuna_deepweeds.errors import NotFoundError, StorageError

_SERVER_USER = "postgres"
_START_SECONDS = 60


def find_programs() -> Path | None:
    """The folder with `initdb` and `pg_ctl`; None if the server is not installed."""
    candidates = sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True)
    on_path = shutil.which("pg_ctl")
    if on_path is not None:
        candidates.insert(0, str(Path(on_path).resolve().parent))
    for folder in candidates:
        if all(Path(folder, program).exists() for program in ("initdb", "pg_ctl")):
            return Path(folder)
    return None


class LocalPostgres:
    """A server on a free port of the loopback address, open to every local user."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.port = _free_port()
        self._data = folder / "data"
        self._folder = folder
        self._programs = programs
        self._n_databases = 0
        self._run("initdb", "-D", str(self._data), "-U", _SERVER_USER, "-A", "trust", "-E", "UTF8")
        self.start()

    def url(self, database: str = "postgres") -> str:
        """URL of a database of this server."""
        return f"postgresql://{_SERVER_USER}@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        """URL of a new empty database."""
        import psycopg

        self._n_databases += 1
        name = f"studies_{self._n_databases}"
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def start(self) -> None:
        """Start the server and wait until it answers."""
        # Losing data in a power failure does not matter here; kills and restarts lose nothing.
        options = (
            f"-p {self.port} -c listen_addresses=127.0.0.1 -c fsync=off "
            f"-c unix_socket_directories={self._folder}"
        )
        log = str(self._folder / "server.log")
        timeout = str(_START_SECONDS)
        self._run(
            "pg_ctl", "-D", str(self._data), "-l", log, "-o", options, "-w", "-t", timeout, "start"
        )

    def stop(self) -> None:
        """Stop the server, breaking all its connections."""
        self._run("pg_ctl", "-D", str(self._data), "-m", "fast", "-w", "stop")

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), *arguments]
        if os.geteuid() == 0:  # The server refuses to run as root.
            command = ["runuser", "-u", _SERVER_USER, "--", *command]
        # pg_ctl's child keeps standard output open: a pipe would never end.
        with open(self._folder / f"{program}.log", "ab") as log:
            done = subprocess.run(command, stdout=log, stderr=log, cwd=self._folder, check=False)
        if done.returncode != 0:
            lines = Path(log.name).read_text(errors="replace").strip().splitlines()
            raise StorageError(f"{program} must succeed, but said: {lines[-1] if lines else ''}")


@contextmanager
def local_postgres() -> Iterator[LocalPostgres]:
    """A running server, removed with its data at the end.

    Raises:
        NotFoundError: PostgreSQL's server programs are not installed.
    """
    programs = find_programs()
    if programs is None:
        raise NotFoundError(
            "PostgreSQL's server programs (initdb, pg_ctl) must be on PATH or in "
            "/usr/lib/postgresql, but none are installed."
        )
    # A short path of its own: the socket's path is limited to about 100 characters, and the
    # server's user must be able to reach it.
    folder = Path(tempfile.mkdtemp(prefix="deepweeds-pg-"))
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, _SERVER_USER)
        server = LocalPostgres(folder, programs)
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
