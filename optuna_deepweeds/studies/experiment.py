"""An experiment: a grid of samplers, pruners and seeds at equal budget, one study a cell.

The grid is a TOML file; its studies are ordinary ones, so that an experiment goes on where it
was interrupted, any worker may join a cell, and every other command reads it.

| key | meaning |
|---|---|
| name | start of the studies' names |
| dataset, size, group_by, fold | as for `study run`, but `./photos` lies beside the file |
| space, epochs | as for `study run` |
| samplers, pruners, seeds | the grid |
| trials, seconds, total_epochs | budget of each study, at least one of them |
| thaw | whether DORA continues stopped trials |
| priors | table with `files`, `samplers` (all by default) and `enqueue_best` |
| evaluate | table with `seeds` and `recipe`: test each study's best network once all have run |
"""

from __future__ import annotations

import math
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.storages import BaseStorage

from optuna_deepweeds import attributes
from optuna_deepweeds.errors import InvalidInputError, NotFoundError
from optuna_deepweeds.priors import SHIPPED
from optuna_deepweeds.schema import choose, load, require
from optuna_deepweeds.studies.accounting import best_trial, progress
from optuna_deepweeds.studies.ending import is_over
from optuna_deepweeds.studies.manager import check_name, load_plain, study_budget, study_names
from optuna_deepweeds.studies.spec import MAX_EPOCHS, Budget, StudySpec
from optuna_deepweeds.tasks.evaluation import RECIPES


@dataclass(frozen=True)
class Cell:
    """One study of an experiment.

    Attributes:
        name: Of the study.
        spec: Of the study, without the fingerprint of the images.
        budget: Of the study.
        priors: Files or URL#STUDY to import first.
        enqueue_best: How many of them to train again.
    """

    name: str
    spec: StudySpec
    budget: Budget
    priors: tuple[str, ...] = ()
    enqueue_best: int = 0


@dataclass(frozen=True)
class EvaluationPlan:
    """How the best trial of each study is tested once all studies have run.

    Attributes:
        seeds: Number of trainings of each.
        recipe: One of `tasks.evaluation.RECIPES`.
    """

    seeds: int = 1
    recipe: str = "study"

    def __post_init__(self) -> None:
        require(self.seeds >= 1, "seeds >= 1", seeds=self.seeds)
        choose("recipe", self.recipe, RECIPES)

    def is_done(self, study: optuna.Study) -> bool:
        """Whether the study's present best trial was tested so."""
        stored = study.user_attrs.get(attributes.EVALUATION)
        best = best_trial(study.get_trials(deepcopy=False), study.direction)
        if not isinstance(stored, Mapping) or best is None or not stored.get("trials"):
            return False
        tested = stored["trials"][0]
        n_trained = len(tested.get("seeds") or ()) + len(tested.get("failures") or ())
        return (
            tested.get("trial") == best.number
            and stored.get("recipe") == self.recipe
            and n_trained >= self.seeds
        )


@dataclass(frozen=True)
class Experiment:
    """A grid of studies; cells of one seed stand together, so that seeds finish one by one.

    Attributes:
        name: Of the grid.
        cells: Its studies, in the order in which they run.
        evaluation: How the best networks are tested; None if they are not.
    """

    name: str
    cells: tuple[Cell, ...]
    evaluation: EvaluationPlan | None = None

    def studies(self, storage: BaseStorage) -> dict[str, optuna.Study]:
        """Its studies that exist, by name, in the order of the cells."""
        there = set(study_names(storage))
        names = [cell.name for cell in self.cells if cell.name in there]
        return {name: load_plain(name, storage) for name in names}

    def state(self, study: optuna.Study) -> str:
        """How far one of its studies is: "begun", "done", or "tested" as well."""
        if not is_finished(study):
            return "begun"
        is_tested = self.evaluation is not None and self.evaluation.is_done(study)
        return "tested" if is_tested else "done"


@dataclass(frozen=True)
class _Priors:
    files: tuple[str, ...]
    samplers: tuple[str, ...] | None = None
    enqueue_best: int = 0


@dataclass(frozen=True)
class _File:
    """The keys of an experiment's file, as above."""

    name: str
    dataset: str
    samplers: tuple[str, ...]
    pruners: tuple[str, ...]
    seeds: tuple[int, ...]
    space: str = "course"
    epochs: int = MAX_EPOCHS
    fold: int = 0
    size: int = 32
    group_by: str = ""
    trials: int | None = None
    seconds: float | None = None
    total_epochs: int | None = None
    thaw: bool = True
    priors: _Priors | None = None
    evaluate: EvaluationPlan | None = None

    def __post_init__(self) -> None:
        for key, entries in (
            ("samplers", self.samplers), ("pruners", self.pruners), ("seeds", self.seeds)
        ):  # fmt: skip
            if not entries or len(set(entries)) < len(entries):
                raise InvalidInputError(
                    f"{key} must be a list of different entries, but is {list(entries)!r}."
                )


_SHIPPED = Path(__file__).with_name("experiments")


def shipped_experiments() -> list[str]:
    """Names of the grids that come with the package."""
    return sorted(path.stem for path in _SHIPPED.glob("*.toml"))


def read_experiment(path: Path) -> Experiment:
    """Read an experiment's file, or the shipped grid of that name.

    Relative prior files are taken from the file's own folder; those of a shipped grid come with
    the package.

    Raises:
        NotFoundError: The file does not exist.
        InvalidInputError: It is not TOML, or a key is unknown, missing or of a wrong kind.
    """
    if str(path) in shipped_experiments() and not path.exists():
        path = _SHIPPED / f"{path}.toml"
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NotFoundError(
            f"the experiment file {path} does not exist. "
            f"Shipped grids: {', '.join(shipped_experiments())}."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{path} cannot be read as text: {error}.") from None
    try:
        content = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, ValueError, RecursionError) as error:
        raise InvalidInputError(f"{path} must be TOML, but {error}.") from None
    grid = load(_File, content, str(path))
    try:
        cells = [
            _cell(path.parent, grid, sampler, pruner, seed)
            for seed in grid.seeds
            for sampler in grid.samplers
            for pruner in grid.pruners
        ]
    except InvalidInputError as error:
        raise InvalidInputError(f"{path}: {error}") from None
    return Experiment(grid.name, tuple(cells), grid.evaluate)


def is_finished(study: optuna.Study) -> bool:
    """Whether the study's budget is spent, or it is flat, and no trial is under way."""
    state = progress(study.get_trials(deepcopy=False), study.direction)
    is_flat = bool(study.user_attrs.get(attributes.FLAT)) and not state.running
    return is_flat or is_over(study_budget(study), state)


def cost_sentence(grid: Experiment, studies: Mapping[str, optuna.Study]) -> str:
    """What the grid may spend, and what is left at the pace of its `studies` so far."""
    first = grid.cells[0]
    limits = [f"{first.budget.trials:,} trials"] if first.budget.trials else []
    limits += [f"{first.budget.epochs:,} epochs"] if first.budget.epochs else []
    limits += [f"{first.budget.seconds / 60:g} minutes"] if first.budget.seconds else []
    n = len(grid.cells)
    text = f"{n} studies of at most {' or '.join(limits)}, {first.spec.epochs} "
    text += "epoch a network" if first.spec.epochs == 1 else "epochs a network"
    n_tests = n * grid.evaluation.seeds if grid.evaluation is not None else 0
    if n_tests:
        text += f", then {n_tests} trainings to test the best networks"
    text += "."
    states = [progress(s.get_trials(deepcopy=False), s.direction) for s in studies.values()]
    epochs, seconds = sum(s.epochs for s in states), sum(s.seconds for s in states)
    under_way = [
        s for s, study in zip(states, studies.values(), strict=True) if not is_finished(study)
    ]
    n_left = n - len(states) + len(under_way)
    if first.budget.seconds:
        left = n_left * first.budget.seconds - sum(s.seconds for s in under_way)
        return f"{text} At most {_hours(left)} left, one study after another."
    if not epochs:
        return text
    pace = seconds / epochs
    if first.budget.epochs:
        n_open = float(n_left * first.budget.epochs - sum(s.epochs for s in under_way))
    else:
        n_open = float(n_left * (first.budget.trials or 0) - sum(s.finished for s in under_way))
        n_open *= epochs / max(1, sum(s.finished for s in states))
    n_tested = sum(grid.state(study) == "tested" for study in studies.values())
    n_open += n_tests * (1 - n_tested / n) * first.spec.epochs
    rest = _hours(max(0.0, n_open * pace))
    return f"{text} About {rest} left at {pace:.2g} s an epoch, one study after another."


def _hours(seconds: float) -> str:
    if seconds < 5400:
        return f"{math.ceil(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"


def _cell(folder: Path, grid: _File, sampler: str, pruner: str, seed: int) -> Cell:
    name = f"{grid.name}-{sampler}-{pruner}-seed{seed}"
    check_name(name)
    budget = Budget(grid.trials, grid.seconds, grid.total_epochs)
    if budget == Budget():
        raise InvalidInputError("one of trials, seconds and total_epochs must be set.")
    priors = grid.priors or _Priors(())
    takes_priors = priors.samplers is None or sampler in priors.samplers
    return Cell(
        name=name,
        spec=StudySpec(
            dataset=os.path.abspath(folder / grid.dataset)
            if os.sep in grid.dataset
            else grid.dataset,
            size=grid.size,
            group_by=grid.group_by,
            space=grid.space,
            epochs=grid.epochs,
            fold=grid.fold,
            sampler=sampler,
            pruner=pruner,
            seed=seed,
            thaw=pruner == "dora" and grid.thaw,
        ),
        budget=budget,
        priors=tuple(_place(folder, file) for file in priors.files if takes_priors),
        enqueue_best=priors.enqueue_best,
    )


def _place(folder: Path, file: str) -> str:
    if "://" in file:
        return file
    return str((SHIPPED if folder == _SHIPPED else folder) / file)
