"""Options and their types that the commands share."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from optuna_deepweeds.schema import require
from optuna_deepweeds.studies.launch import ENGINES
from optuna_deepweeds.studies.spec import Budget, StudySpec

_Command = TypeVar("_Command", bound=Callable[..., Any])
_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?")


@dataclass(frozen=True, kw_only=True)
class WorkerOptions:
    """What a command is told about its workers: how many, where, on what.

    An option that reaches training is a field here, an entry in `_WORKER_OPTIONS` and one in
    `training`.
    """

    workers: int = 1
    engine: str = "local"
    gpus: float = 0.0
    device: str | None = None
    deterministic: bool = False
    data_dir: Path | None = None
    accept_changes: bool = False
    trial_timeout: float | None = None
    stop_when: str | None = None

    def __post_init__(self) -> None:
        require(self.trial_timeout != 0, "trial_timeout > 0", trial_timeout=self.trial_timeout)
        # Here too, since torch takes seconds to say so.
        device = self.device is None or re.fullmatch(r"cpu|cuda(:\d+)?", self.device)
        require(bool(device), "device is cpu, cuda or cuda:N", device=repr(self.device))
        require(1 <= self.workers <= 256, "1 <= workers <= 256", workers=self.workers)
        require(0 <= self.gpus <= 64, "0 <= gpus <= 64", gpus=self.gpus)

    def arguments(self) -> list[str]:
        """The options of `worker` that hand these on to a worker started elsewhere."""
        place = None if self.data_dir is None else self.data_dir.resolve()
        own = {name: getattr(self, name) for name in ("device", "trial_timeout", "stop_when")}
        own |= {"data_dir": place}
        words = []
        for name, value in (self.training | own).items():
            if value not in (None, False):
                option = f"--{name.replace('_', '-')}"
                words += [option] if value is True else [option, str(value)]
        return words

    @property
    def stop_when_flat(self) -> bool:
        """Whether a study ends once the rest of its budget promises little."""
        return self.stop_when == "flat"

    @property
    def training(self) -> dict[str, Any]:
        """Those that `training.train` takes."""
        return {"deterministic": self.deterministic}

    @property
    def are_elsewhere(self) -> bool:
        """Whether the workers are other processes than this one."""
        return self.workers > 1 or self.engine != "local"


class Duration(click.ParamType):
    """Seconds, or a text such as 90s, 30m, 1h30m."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        match = _DURATION.fullmatch(value.strip().lower())
        if match is None or not any(match.groups()):
            self.fail(f"{value!r} must be a time such as 90s, 30m or 1h30m.", param, ctx)
        hours, minutes, seconds = (float(group or 0) for group in match.groups())
        return hours * 3600 + minutes * 60 + seconds


data_dir_option = click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    help="Where the images lie, also those of a folder that was moved.  [default: DEEPWEEDS_DATA "
    "where set, else the user's cache directory]",
)
size_option = click.option(
    "--size", default=StudySpec.size, help="Sides of a folder's images: 16, 32, 64, 96 or 128."
)
group_by_option = click.option(
    "--group-by",
    default="",
    show_default=False,
    metavar="REGEX",
    help="Images of a folder in whose CLASS/FILE it finds the same, such as a day, come into one "
    "split.",
)
_WORKER_OPTIONS = {
    "workers": click.option("--workers", default=1, help="Number of worker processes."),
    "engine": click.option(
        "--engine",
        type=click.Choice(ENGINES),
        default="local",
        help="What starts the workers: this machine, a Ray cluster or Slurm.",
    ),
    "gpus": click.option(
        "--gpus", default=0.0, help="With ray and slurm: GPUs a worker; a fraction shares one."
    ),
    "device": click.option(
        "--device", help="cpu, cuda or cuda:N; the default is CUDA where there is one."
    ),
    "deterministic": click.option(
        "--deterministic", is_flag=True, help="Reproducible kernels on CUDA, slower."
    ),
    "data_dir": data_dir_option,
    "accept_changes": click.option(
        "--accept-changes",
        is_flag=True,
        help="Go on although the study's objective, script or images have changed.",
    ),
    "trial_timeout": click.option(
        "--trial-timeout",
        type=Duration(),
        help="Training time of one trial, such as 90s, 30m; one that takes longer fails.",
    ),
    "stop_when": click.option(
        "--stop-when",
        type=click.Choice(["flat"]),
        help="End the study early, once the rest of its budget promises hardly any gain.",
    ),
}


def together(
    target: str, make: Callable[..., Any], options: dict[str, Callable[[Any], Any]]
) -> Callable[[_Command], _Command]:
    """Add `options`, each by its parameter, and pass on as `target` what `make` makes of them."""

    def decorate(command: _Command) -> _Command:
        @functools.wraps(command)
        def wrapped(**values: Any) -> Any:
            own = {name: values.pop(name) for name in options}
            return command(**{target: make(**own)}, **values)

        for option in reversed(options.values()):
            option(wrapped)
        return wrapped  # type: ignore[return-value]

    return decorate


def worker_options(*names: str, without: Sequence[str] = ()) -> Callable[[_Command], _Command]:
    """Add the named fields of `WorkerOptions`, without names all others, passed as `options`."""
    chosen = {n: _WORKER_OPTIONS[n] for n in names or _WORKER_OPTIONS if n not in without}
    return together("options", WorkerOptions, chosen)


_BUDGET_OPTIONS = {
    "trials": click.option(
        "--trials",
        type=int,
        help="Finished trials in all, over every run.  [default of a new study: 100]",
    ),
    "timeout": click.option(
        "--timeout",
        type=Duration(),
        help="Running time in all, such as 90s, 30m, 6h (the most).  [default of a new study: "
        "6h; 4m on demo without a GPU; none for an own task]",
    ),
    "total_epochs": click.option(
        "--total-epochs", type=int, help="Epochs in all, over every trial."
    ),
}
budget_options = together(
    "budget",
    lambda trials, timeout, total_epochs: Budget(trials, timeout, total_epochs),
    _BUDGET_OPTIONS,
)
"""Adds `--trials`, `--timeout` and `--total-epochs`, passed on as `budget`."""


class Output(click.Path):
    """A file, or a folder, or either, that a command writes at its end: refused at once if it
    cannot be."""

    def __init__(self, *, is_folder: bool | None = False) -> None:
        super().__init__(
            path_type=Path, file_okay=is_folder is not True, dir_okay=is_folder is not False
        )

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        problem = write_problem(path)
        if problem:
            self.fail(problem, param, ctx)
        return path


page_option = click.option(
    "-o", "--output", type=Output(), help="The HTML file.  [default: reports/NAME.html]"
)
png_option = click.option(
    "--png",
    "png_folder",
    type=Output(is_folder=True),
    help="Also draw every figure as a PNG into this folder.",
)


def write_problem(path: Path) -> str:
    """Why nothing can be written at `path`, whose folders may be made; "" if it can."""
    if not path.name:
        return "a file must have a name."
    if str(path) == "-":
        return "a file must have a name; writing to standard output is not possible."
    try:
        there = next(p for p in (path, *path.absolute().parents) if p.exists())
    except OSError as error:
        return f"{path} cannot be written: {error.strerror}."
    if there != path and not there.is_dir():
        return f"{path} must lie in a folder, but {there} is a file."
    return "" if os.access(there, os.W_OK) else f"{there} must be writable."
