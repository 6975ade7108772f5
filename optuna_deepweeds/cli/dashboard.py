"""`dashboard`: optuna-dashboard on the storage of the studies."""

from __future__ import annotations

import contextlib
import ipaddress
import socketserver
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import click
from optuna.trial import FrozenTrial

from optuna_deepweeds import attributes
from optuna_deepweeds.cli._complete import complete_study
from optuna_deepweeds.cli._output import info, storage_option
from optuna_deepweeds.errors import DeepWeedsError, NotFoundError

_FORESEEN = "foreseen"
"""Attribute that the dashboard shows of each trial: where it is, or was, expected to end."""


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

    Each study has a note (learning curves, progress, best trials, failures, how to go on) and
    files: its best network and, once it is evaluated, its confusion matrix. There is no
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
    _make_readable()
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


def _make_readable() -> None:
    """Let the dashboard show attributes as text, and what is foreseen of each trial."""
    from optuna_dashboard import _app, _serializer

    from optuna_deepweeds.report.view import StudyView

    of_attrs, of_study = _serializer.serialize_attrs, _app.serialize_study_detail

    def attrs(stored: dict[str, Any]) -> Any:
        return of_attrs({k: _told(v) for k, v in stored.items() if v is not None})

    def detail(study: Any, best: Any, trials: Sequence[FrozenTrial], *rest: Any) -> Any:
        found = of_study(study, best, trials, *rest)
        # A page asks for all trials when it opens, then for the last ones.
        if len(study.directions) == 1 and trials and trials[0].number == 0:
            view = StudyView(
                study.study_name,
                study.directions[0],
                str(study.user_attrs.get(attributes.SPEC, {}).get("metric")),
                study.user_attrs,
                tuple(trials),
            )
            found["union_user_attrs"].append({"key": _FORESEEN, "sortable": False})
            for told, trial in zip(found["trials"], trials, strict=True):
                f = view.outlook.get(trial.number)
                more = {_FORESEEN: f and f"{f.expected:.4g} ({f.low:.4g} to {f.high:.4g})"}
                more["train it again"] = view.again(trial)
                told["user_attrs"][:0] = attrs(more)
        return found

    _serializer.serialize_attrs, _app.serialize_study_detail = attrs, detail


def _told(value: Any) -> Any:
    """What a stored attribute says; of a dictionary what is there."""
    from optuna_deepweeds.report.tables import cell

    if isinstance(value, dict):
        value = {k: v for k, v in value.items() if v not in (None, "", [], {})}
    return cell(value) if isinstance(value, (dict, list)) else value


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
