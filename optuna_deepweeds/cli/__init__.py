"""The command line: commands parse, call one function and print.

Data goes to stdout, progress and logs to stderr. An error of `errors.py`, and what the system says
about a file, become one line and an exit code; anything else is a bug and keeps its traceback.
"""

from __future__ import annotations

import atexit
import gc
import logging
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from optuna_deepweeds import __version__
from optuna_deepweeds.cli._lazy import LazyGroup
from optuna_deepweeds.cli._output import info, log_as
from optuna_deepweeds.errors import DeepWeedsError, NotFoundError

_ROOM = "optuna_deepweeds.cli"
_LONGEST_ERROR = 500
"""Characters of an error message."""

_EPILOG = """
\b
Examples:
  optuna-deepweeds data info
  optuna-deepweeds study run first --sampler rf_ei --pruner dora
  optuna-deepweeds study status first
  optuna-deepweeds dashboard

\b
Completion of commands and options in bash (zsh and fish likewise):
  eval "$(_OPTUNA_DEEPWEEDS_COMPLETE=bash_source optuna-deepweeds)"

Exit codes: 0 done, 1 failed, 2 usage, 3 no such study, trial or file, 4 the study exists with
another specification, 5 storage, 129, 130 and 143 interrupted (the running trial is put back).
"""


@click.group(
    cls=LazyGroup,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 99,
        "show_default": True,
    },
    epilog=_EPILOG,
    lazy={
        "study": (f"{_ROOM}.study:study", "Run, resume, inspect and compare studies."),
        "worker": (f"{_ROOM}.worker:worker", "Join a study from this machine."),
        "data": (f"{_ROOM}.data:data", "Get and describe the image data sets."),
        "spaces": (f"{_ROOM}.spaces:spaces", "Show search spaces, one's own too."),
        "priors": (f"{_ROOM}.priors:priors", "List, import and export earlier trials."),
        "experiment": (f"{_ROOM}.experiment:experiment", "Compare methods on a grid of studies."),
        "predict": (f"{_ROOM}.predict:predict", "Classify photographs with a saved network."),
        "dashboard": (f"{_ROOM}.dashboard:dashboard", "Browse the studies with optuna-dashboard."),
        "bench": (f"{_ROOM}.bench:bench", "Measure samplers, pruners, training and storage."),
    },
)
@click.version_option(__version__, prog_name="optuna-deepweeds")
@click.option(
    "-v", "--verbose", count=True, show_default=False,
    help="Log more to stderr; twice for debugging.",
)  # fmt: skip
@click.option(
    "--log-format", type=click.Choice(["text", "json"]), default="text",
    help="What stderr gets: text, or a JSON object a line.",
)  # fmt: skip
def cli(verbose: int, log_format: str) -> None:
    """Search neural networks for the DeepWeeds images with Optuna studies.

    A study lives in a database, learns from earlier trials, stops hopeless networks early,
    survives crashes and can be browsed.
    """
    log_as(log_format)
    levels = (logging.WARNING, logging.INFO, logging.DEBUG)
    level = levels[min(verbose, len(levels) - 1)]
    line = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    logging.basicConfig(
        level=level,
        handlers=[_LogHandler()],
        format=line if log_format == "text" else "%(message)s",
    )
    # Optuna logs every trial by a handler of its own; our progress lines say the same.
    import optuna

    optuna.logging.set_verbosity(max(level, logging.WARNING) if verbose < 2 else logging.DEBUG)


class _LogHandler(logging.Handler):
    """Logs among what else is told, so that neither breaks the other's lines."""

    def emit(self, record: logging.LogRecord) -> None:
        info(self.format(record), event="log", level=record.levelname, logger=record.name)


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and leave the process with its exit code."""
    # Trials by the thousand are no garbage: to look through them for some, again and again and
    # once more at the end, took a third of the time of a command that reads.
    gc.set_threshold(100_000, 20, 20)
    atexit.register(gc.freeze)
    try:
        result = cli.main(args=args, prog_name="optuna-deepweeds", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except (click.Abort, KeyboardInterrupt) as stop:
        # An abort leaves the line of a question.
        click.echo("\n" * isinstance(stop, click.Abort) + "Interrupted.", err=True)
        sys.exit(130)
    except click.ClickException as error:
        ctx: click.Context | None = getattr(error, "ctx", None)
        where = f" See: {ctx.command_path} --help" if ctx is not None else ""
        _refuse(error.format_message(), error.exit_code, where)
    except DeepWeedsError as error:
        _refuse(str(error), error.exit_code)
    except BrokenPipeError:
        # The reader of stdout went away (`| head`); keep the interpreter from complaining.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if error.filename is None:
            raise
        # A name too long, a disk full, a folder without permission: the system's words will do.
        logging.getLogger(__name__).debug("The traceback:", exc_info=True)
        code = NotFoundError.exit_code if isinstance(error, FileNotFoundError) else 1
        _refuse(f"{error.filename}: {error.strerror}.", code)
    sys.exit(result if isinstance(result, int) else 0)


def _refuse(message: str, exit_code: int, where: str = "") -> NoReturn:
    """Print an error as one line, cut where it echoes a long input, and leave."""
    text = "".join(c if c.isprintable() else " " for c in " ".join(message.split()))
    if len(text) > _LONGEST_ERROR:
        text = f"{text[: _LONGEST_ERROR // 2]} … {text[-_LONGEST_ERROR // 2 :]}"
    info(f"Error: {text}{where}", event="error", exit_code=exit_code)
    sys.exit(exit_code)
