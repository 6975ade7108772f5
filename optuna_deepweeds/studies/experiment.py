"""An experiment: a grid of samplers, pruners and seeds at equal budget, one study a cell.

The grid is a TOML file; its studies are ordinary ones, so that an experiment goes on where it
was interrupted, any worker may join a cell, and every other command reads it.

| key | meaning |
|---|---|
| name | start of the studies' names |
| dataset, space, epochs, fold | as for `study run` |
| samplers, pruners, seeds | the grid |
| trials, seconds, total_epochs | budget of each study, at least one of them |
| thaw | whether DORA continues stopped trials |
| priors | table with `files`, `samplers` (all by default) and `enqueue_best` |
| evaluate | table with `seeds` and `recipe`: test each study's best network once all have run |
"""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna

from optuna_deepweeds import attributes
from optuna_deepweeds.errors import InvalidInputError, NotFoundError
from optuna_deepweeds.studies.accounting import best_trial, progress
from optuna_deepweeds.studies.ending import is_over
from optuna_deepweeds.studies.manager import check_name, study_budget
from optuna_deepweeds.studies.spec import MAX_EPOCHS, Budget, StudySpec
from optuna_deepweeds.tasks.evaluation import RECIPES

_TYPES: dict[str, type | tuple[type, ...]] = {
    "name": str,
    "dataset": str,
    "space": str,
    "epochs": int,
    "fold": int,
    "samplers": list,
    "pruners": list,
    "seeds": list,
    "trials": int,
    "seconds": (int, float),
    "total_epochs": int,
    "thaw": bool,
    "priors": dict,
    "evaluate": dict,
}
_REQUIRED = ("name", "dataset", "samplers", "pruners", "seeds")
_PRIOR_TYPES: dict[str, type | tuple[type, ...]] = {
    "files": list,
    "samplers": list,
    "enqueue_best": int,
}
_EVALUATE_TYPES: dict[str, type | tuple[type, ...]] = {"seeds": int, "recipe": str}


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
        n_seeds: Trainings of each.
        recipe: One of `tasks.evaluation.RECIPES`.
    """

    n_seeds: int = 1
    recipe: str = "study"

    def __post_init__(self) -> None:
        if self.n_seeds < 1:
            raise InvalidInputError(f"`evaluate seeds >= 1` must hold, but got {self.n_seeds}.")
        if self.recipe not in RECIPES:
            raise InvalidInputError(
                f"the recipe must be one of {', '.join(RECIPES)}, but is {self.recipe!r}."
            )

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
            and n_trained >= self.n_seeds
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


_SHIPPED = Path(__file__).with_name("experiments")
_CHECKOUT = Path(__file__).parents[2]


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
    _check(path, content, _TYPES, _REQUIRED)
    priors = content.get("priors", {})
    _check(path, priors, _PRIOR_TYPES, ("files",) if priors else ())
    for key in ("samplers", "pruners", "seeds"):
        if not content[key] or len(set(map(str, content[key]))) < len(content[key]):
            raise InvalidInputError(
                f"{path}: {key} must be a list of different entries, but is {content[key]!r}."
            )
    evaluate = content.get("evaluate")
    _check(path, evaluate or {}, _EVALUATE_TYPES, ())
    try:
        evaluation = (
            None
            if evaluate is None
            else EvaluationPlan(evaluate.get("seeds", 1), evaluate.get("recipe", "study"))
        )
        cells = [
            _cell(path, content, sampler, pruner, seed)
            for seed in content["seeds"]
            for sampler in content["samplers"]
            for pruner in content["pruners"]
        ]
    except (InvalidInputError, TypeError) as error:
        raise InvalidInputError(f"{path}: {error}") from None
    return Experiment(content["name"], tuple(cells), evaluation)


def is_finished(study: optuna.Study) -> bool:
    """Whether the study's budget is spent and no trial is under way."""
    state = progress(study.get_trials(deepcopy=False), study.direction)
    return is_over(study_budget(study), state)


def cost_sentence(grid: Experiment, studies: Mapping[str, optuna.Study]) -> str:
    """What the grid may spend, and what is left at the pace so far.

    Args:
        grid: The grid.
        studies: Its studies that exist, by name.
    """
    first = grid.cells[0]
    limits = [f"{first.budget.trials:,} trials"] if first.budget.trials else []
    limits += [f"{first.budget.epochs:,} epochs"] if first.budget.epochs else []
    limits += [f"{first.budget.seconds / 60:g} minutes"] if first.budget.seconds else []
    n = len(grid.cells)
    text = f"{n} studies of at most {' or '.join(limits)}, {first.spec.epochs} epochs a network"
    n_tests = n * grid.evaluation.n_seeds if grid.evaluation is not None else 0
    if n_tests:
        text += f", then {n_tests} trainings to test the best networks"
    text += "."
    states = [progress(s.get_trials(deepcopy=False), s.direction) for s in studies.values()]
    epochs, seconds = sum(s.epochs for s in states), sum(s.seconds for s in states)
    if first.budget.seconds:
        left = n * first.budget.seconds - seconds
        return f"{text} At most {_hours(left)} left, one study after another."
    if not epochs:
        return text
    pace = seconds / epochs
    if first.budget.epochs:
        n_open = float(n * first.budget.epochs - epochs)
    else:
        finished = sum(s.finished for s in states)
        n_open = (n * (first.budget.trials or 0) - finished) * epochs / max(1, finished)
    n_evaluated = sum(
        grid.evaluation.n_seeds
        for s in studies.values()
        if grid.evaluation is not None and grid.evaluation.is_done(s)
    )
    n_open += (n_tests - n_evaluated) * first.spec.epochs
    rest = _hours(max(0.0, n_open * pace))
    return f"{text} About {rest} left at {pace:.2g} s an epoch, one study after another."


def _hours(seconds: float) -> str:
    if seconds < 5400:
        return f"{math.ceil(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"


def _cell(path: Path, content: Mapping[str, Any], sampler: str, pruner: str, seed: int) -> Cell:
    name = f"{content['name']}-{sampler}-{pruner}-seed{seed}"
    check_name(name)
    priors = content.get("priors", {})
    takes_priors = sampler in priors.get("samplers", content["samplers"])
    budget = Budget(content.get("trials"), content.get("seconds"), content.get("total_epochs"))
    if budget == Budget():
        raise InvalidInputError("one of trials, seconds and total_epochs must be set.")
    return Cell(
        name=name,
        spec=StudySpec(
            dataset=content["dataset"],
            space=content.get("space", "course"),
            epochs=content.get("epochs", MAX_EPOCHS),
            fold=content.get("fold", 0),
            sampler=sampler,
            pruner=pruner,
            seed=seed,
            thaw=pruner == "dora" and content.get("thaw", True),
        ),
        budget=budget,
        priors=tuple(_place(path, file) for file in priors.get("files", ()) if takes_priors),
        enqueue_best=priors.get("enqueue_best", 0),
    )


def _place(path: Path, file: str) -> str:
    if "://" in file:
        return file
    if path.parent == _SHIPPED and not (_SHIPPED / file).exists():
        return str(_CHECKOUT / file)  # A wheel carries the file beside the grid.
    return str(path.parent / file)


def _check(
    path: Path,
    content: Mapping[str, Any],
    types: Mapping[str, type | tuple[type, ...]],
    required: tuple[str, ...],
) -> None:
    for key, value in content.items():
        if key not in types:
            close = difflib.get_close_matches(key, list(types), n=1)
            hint = f" Did you mean {close[0]}?" if close else f" Keys: {', '.join(types)}."
            raise InvalidInputError(f"{path}: no key {key!r}.{hint}")
        kind = types[key]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise InvalidInputError(f"{path}: {key} is of a wrong kind: {value!r}.")
    missing = [key for key in required if key not in content]
    if missing:
        raise InvalidInputError(f"{path}: {', '.join(missing)} must be set, but is not.")
