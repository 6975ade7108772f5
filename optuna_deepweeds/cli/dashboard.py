"""`dashboard`: optuna-dashboard on the storage of the studies."""

from __future__ import annotations

import contextlib
import ipaddress
import socketserver
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import click

from optuna_deepweeds.cli._complete import complete_study
from optuna_deepweeds.cli._output import info, storage_option
from optuna_deepweeds.errors import DeepWeedsError, NotFoundError


@click.command()
@click.argument("name", required=False, shell_complete=complete_study)
@click.option("--host", default="127.0.0.1", help="Address to listen on.")
@click.option("--port", default=8080, help="Port to listen on.")
@click.option("--read-only", is_flag=True, help="Refuse every change to the studies.")
@click.option(
    "--artifacts",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Folder of the studies' artifacts (networks, confusion matrices).  [default: "
    "DEEPWEEDS_ARTIFACTS where set, else artifacts/ beside a SQLite file]",
)
@storage_option
def dashboard(
    name: str | None,
    host: str,
    port: int,
    read_only: bool,
    artifacts: Path | None,
    storage_url: str | None,
) -> None:
    """Browse the studies, or study NAME, in a web browser, with optuna-dashboard.

    Each study has a note (settings, progress, best trials, failures, how to go on), saved figures
    and files: its best network and, once it is evaluated, its confusion matrix. There is no
    authentication; the page is for this machine unless --host says otherwise. Ctrl-C ends it.
    """
    from optuna_dashboard import wsgi

    from optuna_deepweeds.report.artifacts import artifact_folder
    from optuna_deepweeds.studies.manager import load_plain, study_names
    from optuna_deepweeds.studies.storage import open_storage, redact

    try:
        storage = open_storage(storage_url, must_exist=True)
    except NotFoundError as error:
        raise NotFoundError(
            f"there is no study to show yet: {error} `study run` makes one."
        ) from error
    n_studies = len(study_names(storage))
    if n_studies == 0:
        raise NotFoundError("there is no study to show yet; `study run` makes one.")
    page = "" if name is None else f"dashboard/studies/{load_plain(name, storage)._study_id}"
    store = None
    folder = artifacts or artifact_folder(str(storage.url))
    if folder is not None:
        from optuna.artifacts import FileSystemArtifactStore

        if not read_only:
            with contextlib.suppress(OSError):
                folder.mkdir(parents=True, exist_ok=True)
        store = FileSystemArtifactStore(folder)
    app = wsgi(storage, artifact_store=store)
    if read_only:
        app = _read_only(app)
    try:
        server = make_server(host, port, app, server_class=_Server, handler_class=_QuietHandler)
    except (OSError, OverflowError) as error:
        raise DeepWeedsError(
            f"the dashboard must be able to listen on {host}:{port}, but: {error}. "
            "Choose another --port."
        ) from error
    if not _is_loopback(host):
        info(
            f"Warning: the dashboard has no authentication, and {host} can be reached from other "
            "machines: whoever reaches it can "
            + ("read the studies." if read_only else "delete studies; --read-only forbids that.")
        )
    info(
        f"{n_studies} studies of {redact(str(storage.url))}\n"
        f"Dashboard: http://{host}:{server.server_port}/{page} (Ctrl-C ends it)"
    )
    with server:
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            info("\nDashboard ended.")


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    """A page asks for several things at once; one slow answer must not hold up the others."""

    daemon_threads = True


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not worth a line each."""


def _read_only(app: WSGIApplication) -> WSGIApplication:
    """`app`, refusing every request that could change something."""

    def guarded(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD", "OPTIONS"):
            start_response("403 Forbidden", [("Content-Type", "application/json")])
            return [b'{"reason": "This dashboard is read-only."}']
        return app(environ, start_response)

    return guarded


def _is_loopback(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"
