"""Runs the studies of an experiment, in this process or in several, and tests their networks.

Processes share the grid by file locks: each takes the next study that nobody holds, and the system
releases what a killed one held.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from optuna_deepweeds.cli._output import info
from optuna_deepweeds.cli._progress import console
from optuna_deepweeds.cli._signals import StopFlag, restore
from optuna_deepweeds.cli._values import WorkerOptions
from optuna_deepweeds.cli._work import run_workers
from optuna_deepweeds.files import locked
from optuna_deepweeds.priors import PriorTrial
from optuna_deepweeds.report.dashboard_note import publish
from optuna_deepweeds.report.standing import standing_of
from optuna_deepweeds.studies import manager
from optuna_deepweeds.studies.accounting import progress
from optuna_deepweeds.studies.experiment import Cell, Experiment, is_finished
from optuna_deepweeds.studies.storage import ResilientStorage
from optuna_deepweeds.tasks import ImageTask

_PROGRAM = (sys.executable, "-m", "optuna_deepweeds", "experiment", "run")
_MAX_JOBS = 4


@dataclass(frozen=True)
class GridRun:
    """What the studies of a grid are run with.

    Attributes:
        grid: The experiment.
        task: Of all its studies.
        priors: Source -> its rows.
        storage: Where the studies lie.
        options: The workers of each study.
        claims: Folder of the locks that processes of one run share; None for one process.
    """

    grid: Experiment
    task: ImageTask
    priors: Mapping[str, Sequence[PriorTrial]]
    storage: ResilientStorage
    options: WorkerOptions
    claims: Path | None = None

    def run(self) -> int:
        """Run what is left of the studies, then of the tests; returns the exit code."""
        for is_testing in (False, True) if self.grid.evaluation is not None else (False,):
            for i, cell in enumerate(self.grid.cells, start=1):
                with self._claimed(cell.name) as is_mine:
                    if not is_mine:
                        continue
                    head = f"[{i}/{len(self.grid.cells)}] {cell.name}"
                    code = self._test(cell, head) if is_testing else self._run(cell, head)
                if code:
                    return code
        return 0

    def _run(self, cell: Cell, head: str) -> int:
        spec = replace(cell.spec, dataset_fingerprint=self.task.fingerprint)
        study, _ = manager.create(
            cell.name, spec, cell.budget, self.storage, stop_when_flat=self.options.stop_when_flat
        )
        if is_finished(study):
            return 0
        if self.claims is None:
            info(head)
        if cell.priors:
            rows = [row for source in cell.priors for row in self.priors[source]]
            manager.add_priors(study, rows, enqueue_best=cell.enqueue_best)
        study = manager.equip(study)
        stop = StopFlag()
        is_quiet = self.claims is not None
        code, _ = run_workers(study, self.task, self.options, stop, quiet=is_quiet)
        publish(study, task=self.task)
        info(f"{head}: {standing_of(study)}")
        # Between two studies nothing is under way that would have to be put back.
        restore()
        return code

    def _claimed(self, name: str) -> AbstractContextManager[bool]:
        """Whether this process holds the study `name` while the block runs."""
        if self.claims is None:
            return nullcontext(True)
        return locked(self.claims / name.replace(os.sep, "_"), timeout=0)

    def _test(self, cell: Cell, head: str) -> int:
        from optuna_deepweeds.cli.evaluate import evaluate_study, store_evaluation

        plan = self.grid.evaluation
        study = manager.load_plain(cell.name, self.storage)
        best = progress(study.get_trials(deepcopy=False), study.direction).best
        if plan is None or best is None or not is_finished(study) or plan.is_done(study):
            return 0
        evaluation = evaluate_study(
            study, self.task, n_seeds=plan.seeds, recipe=plan.recipe, device=self.options.device
        )
        store_evaluation(study, evaluation)
        tested = evaluation.trials[0]
        scores = ", ".join(f"{accuracy:.4f}" for accuracy in tested.accuracies)
        info(f"{head}: trial {tested.trial} on the test images: {scores or 'no training ended'}")
        return 0


def run_jobs(run: GridRun, file: Path, jobs: int, url: str) -> int:
    """Run the grid of `file` by so many processes of this machine; returns the exit code."""
    from optuna_deepweeds.studies.launch import WorkerCommand, launch

    stop = StopFlag()
    line = console.status("")

    def show() -> None:
        if console.is_terminal:
            line.update(_progress(run))

    with tempfile.TemporaryDirectory(prefix="deepweeds-grid-") as claims:
        n_tests = run.grid.evaluation.seeds if run.grid.evaluation is not None else 0
        arguments = ["--claims", claims, "--jobs", "1", "--test-seeds", str(n_tests)]
        arguments += run.options.arguments()
        command = WorkerCommand(str(file), url, tuple(arguments), _PROGRAM)
        with line:
            launch(
                "local", command, jobs, device=run.options.device, should_stop=stop, on_tick=show
            )
    if stop():
        return stop.exit_code
    restore()
    # What crashed processes left; an error that ended them is told here.
    return run.run()


def default_jobs(device: str, n_open: int) -> int:
    """Studies to run at a time: one on a GPU, else one a core, since small networks need no more;
    never more than the `n_open` that are not finished or tested."""
    if device != "cpu":
        return 1
    affinity = getattr(os, "sched_getaffinity", None)
    n_cores = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    return max(1, min(_MAX_JOBS, n_cores, n_open))


def _progress(run: GridRun) -> str:
    """How far the processes are."""
    studies = run.grid.studies(run.storage).values()
    states = Counter(map(run.grid.state, studies))
    n_epochs = sum(progress(s.get_trials(deepcopy=False), s.direction).epochs for s in studies)
    n_done = states["done"] + states["tested"]
    text = f"{n_done} of {len(run.grid.cells)} studies, {n_epochs} epochs"
    return text if run.grid.evaluation is None else f"{text}, {states['tested']} tested"
