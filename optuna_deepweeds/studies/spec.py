"""What makes a study this study: its specification, and the budget that may grow."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.pruners import PRUNERS
from optuna_deepweeds.samplers import SAMPLERS
from optuna_deepweeds.spaces import SPACES, SearchSpace

MAX_EPOCHS = 20
"""Epochs a network may be trained for; the comparison with published results rests on it."""
MAX_SECONDS = 6 * 3600.0
"""Seconds a study may take."""


@dataclass(frozen=True)
class StudySpec:
    """Everything that decides which trials a study runs; stored in the study and never changed.

    Attributes:
        dataset: Name of a data set; known to whoever makes the task.
        fold: Official fold of the data set; 0 for data sets with one split.
        space: Name of a search space.
        sampler: Name of a sampler.
        pruner: Name of a pruner.
        seed: Seed of sampler, pruner and every training run.
        epochs: Epochs of a network that is trained to the end.
        thaw: Whether stopped trials may be continued from their checkpoint (`dora` alone).
        sources: Studies in the same storage that inform the sampler as weighted priors, and the
            forecasts of dora by their learning curves.
        dataset_fingerprint: Digest of images, labels and split.
        direction: "maximize" or "minimize".
        metric: What a trial reports.
    """

    dataset: str
    space: str = "course"
    sampler: str = "rf_ei"
    pruner: str = "dora"
    seed: int = 0
    fold: int = 0
    epochs: int = MAX_EPOCHS
    thaw: bool = False
    sources: tuple[str, ...] = ()
    dataset_fingerprint: str = ""
    direction: str = "maximize"
    metric: str = "validation accuracy"

    def __post_init__(self) -> None:
        _require_name("space", self.space, SPACES)
        _require_name("sampler", self.sampler, SAMPLERS)
        _require_name("pruner", self.pruner, PRUNERS)
        _require(0 <= self.seed < 2**32, "0 <= seed < 2**32", "seed", self.seed)
        _require(0 <= self.fold <= 4, "0 <= fold <= 4", "fold", self.fold)
        _require(1 <= self.epochs <= MAX_EPOCHS, "1 <= epochs <= 20", "epochs", self.epochs)
        _require_name("direction", self.direction, ("maximize", "minimize"))
        if self.thaw and self.pruner != "dora":
            raise InvalidInputError(
                f"only the pruner 'dora' continues stopped trials, but got {self.pruner!r}."
            )

    @property
    def search_space(self) -> SearchSpace:
        """The space that `space` names."""
        return SPACES[self.space]

    def to_json(self) -> dict[str, Any]:
        """A dictionary of plain values, as stored in the study."""
        return {**asdict(self), "sources": list(self.sources)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> StudySpec:
        """The inverse of `to_json`.

        Raises:
            InvalidInputError: If `stored` is not a specification that this version can run.
        """
        if not isinstance(stored, Mapping):
            raise InvalidInputError(
                f"the study's stored specification must be an object, but is {stored!r:.60}."
            )
        known = {f.name: f.default for f in fields(cls)}
        unknown = sorted(set(stored) - set(known))
        if unknown or "dataset" not in stored:
            raise InvalidInputError(
                "the study's stored specification must have the fields of this version, but "
                + (f"has {', '.join(unknown)} too." if unknown else "lacks 'dataset'.")
            )
        for name, value in stored.items():
            if name == "sources":
                is_right = isinstance(value, list) and all(isinstance(x, str) for x in value)
            else:
                is_right = type(value) is (str if name == "dataset" else type(known[name]))
            if not is_right:
                raise InvalidInputError(
                    f"the study's stored specification is damaged: its {name} is {value!r:.60}."
                )
        return cls(**{**stored, "sources": tuple(stored.get("sources", ()))})

    def differences(self, other: StudySpec) -> list[str]:
        """One phrase for each field in which `other` differs from this stored specification."""
        mine, theirs = self.to_json(), other.to_json()
        return [
            f"{name} is {mine[name]!r}, asked for {theirs[name]!r}"
            for name in mine
            if mine[name] != theirs[name]
        ]


@dataclass(frozen=True)
class Budget:
    """What a study may spend in all, over every run and worker; the first limit reached ends it.

    Attributes:
        trials: Finished trials (complete or pruned; priors and failures do not count).
        seconds: Time during which trials of the study ran; pauses do not count.
        epochs: Epochs trained, each counted once.
    """

    trials: int | None = None
    seconds: float | None = None
    epochs: int | None = None

    def __post_init__(self) -> None:
        for name in ("trials", "epochs"):
            value = getattr(self, name)
            _require(value is None or value >= 1, f"{name} >= 1", name, value)
        _require(
            self.seconds is None or (math.isfinite(self.seconds) and self.seconds > 0),
            "timeout > 0",
            "timeout",
            self.seconds,
        )
        _require(
            self.seconds is None or self.seconds <= MAX_SECONDS,
            "timeout <= 6h",
            "timeout",
            self.seconds,
        )

    def to_json(self) -> dict[str, Any]:
        """A dictionary of plain values, as stored in the study."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any] | None) -> Budget:
        """The inverse of `to_json`; no stored budget is no limit.

        Raises:
            InvalidInputError: If `stored` is no budget.
        """
        stored = {} if stored is None else stored
        kinds: dict[str, tuple[type, ...]] = {"seconds": (int, float)}
        names = {f.name for f in fields(cls)}
        is_right = (
            isinstance(stored, Mapping)
            and set(stored) <= names
            and all(
                stored.get(f.name) is None or type(stored[f.name]) in kinds.get(f.name, (int,))
                for f in fields(cls)
            )
        )
        if not is_right:
            raise InvalidInputError(f"the study's stored budget is damaged: {stored!r:.100}.")
        return cls(**{f.name: stored.get(f.name) for f in fields(cls)})

    def updated(self, other: Budget) -> Budget:
        """This budget with every limit that `other` sets."""
        given = {k: v for k, v in asdict(other).items() if v is not None}
        return Budget(**{**asdict(self), **given})


def _require(holds: bool, rule: str, name: str, value: Any) -> None:
    if not holds:
        raise InvalidInputError(f"`{rule}` must hold, but got {name}={value}.")


def _require_name(kind: str, name: str, known: Iterable[str]) -> None:
    names = sorted(known)
    if name not in names:
        close = difflib.get_close_matches(name, names, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise InvalidInputError(f"no {kind} {name!r}.{hint} Known: {', '.join(names)}.")
