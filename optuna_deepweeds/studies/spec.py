"""What makes a study this study: its specification, and the budget that may grow."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from optuna_deepweeds import attributes
from optuna_deepweeds.errors import InvalidInputError, SpecMismatchError
from optuna_deepweeds.pruners import PRUNERS
from optuna_deepweeds.samplers import SAMPLERS
from optuna_deepweeds.schema import choose, load, require, require_whole
from optuna_deepweeds.spaces import SPACES, SearchSpace
from optuna_deepweeds.spaces.load import from_data

KINDS = ("images", "objective", "script")
KEEP = ("last", "best")
MAX_EPOCHS = 20
"""Epochs a network may be trained for; the comparison with published results rests on it."""
MAX_SECONDS = 6 * 3600.0
"""Seconds a study may take."""
COMPANION_SUFFIX = ":priors"
"""Follows a study's name in that of the study that holds its imported trials."""


@dataclass(frozen=True)
class StudySpec:
    """Everything that decides which trials a study runs; stored in the study and never changed.

    Attributes:
        dataset: Name of a data set, or a folder; of another kind of task, the objective or the
            command. Known to whoever makes the task.
        fold: Official fold of the data set; 0 for data sets with one split.
        size: Sides of the images, in pixels.
        group_by: Regular expression of what keeps images of a folder in one split; "" for none.
        space: Name of a search space, or where it was read from; "" for an objective that
            suggests for itself.
        sampler: Name of a sampler.
        pruner: Name of a pruner.
        seed: Seed of sampler, pruner and every training run.
        epochs: Epochs of a network, or steps of a task, that is trained to the end.
        thaw: Whether stopped trials may be continued from their checkpoint (`dora` alone).
        sources: Studies of other tasks, in the same storage, that inform the sampler as
            weighted sources.
        priors: The companion study, in the same storage, whose imported trials of the same task
            inform it likewise, and dora by their learning curves; named when the study is
            created, made when there are some.
        dataset_fingerprint: Digest of images, labels and split; of another kind of task, of its
            file.
        direction: "maximize" or "minimize".
        metric: What a trial reports.
        kind: Of its task, one of `KINDS`.
        folder: What a task's relative files are relative to; "" for images.
        keep: The epoch of a training whose network and validation accuracy are the trial's:
            "last", or "best".
        space_data: The space as `spaces.load.to_data` writes it, unless `space` is a known name.
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
    priors: str = ""
    dataset_fingerprint: str = ""
    direction: str = "maximize"
    metric: str = "validation accuracy"
    size: int = 32
    group_by: str = ""
    kind: str = "images"
    folder: str = ""
    keep: str = "last"
    space_data: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        choose("kind of task", self.kind, KINDS)
        if self.space_data is None and (self.space or self.kind != "objective"):
            choose("space", self.space, SPACES)
        choose("sampler", self.sampler, SAMPLERS)
        choose("pruner", self.pruner, PRUNERS)
        choose("keep", self.keep, KEEP)
        choose("direction", self.direction, ("maximize", "minimize"))
        require(0 <= self.seed < 2**32, "0 <= seed < 2**32", seed=self.seed)
        require(0 <= self.fold <= 4, "0 <= fold <= 4", fold=self.fold)
        require_whole("epochs", self.epochs)
        is_long = self.kind == "images" and self.epochs > MAX_EPOCHS
        rule = "1 <= epochs <= 20" if self.kind == "images" else "epochs >= 1"
        require(self.epochs >= 1 and not is_long, rule, epochs=self.epochs)
        if self.thaw and self.pruner != "dora":
            raise InvalidInputError(
                f"only the pruner 'dora' continues stopped trials, but got {self.pruner!r}."
            )

    @property
    def search_space(self) -> SearchSpace | None:
        """The space that `space` names; None if the objective suggests for itself."""
        if self.space_data is not None:
            return from_data(self.space, self.space_data)
        return SPACES[self.space] if self.space else None

    def to_json(self) -> dict[str, Any]:
        """A dictionary of plain values, as stored in the study."""
        return {**asdict(self), "sources": list(self.sources)}

    @classmethod
    def from_json(cls, stored: Any) -> StudySpec:
        """The inverse of `to_json`.

        Raises:
            InvalidInputError: If `stored` is not a specification that this version can run.
        """
        return load(cls, stored, "the study's stored specification")

    def differences(self, asked: StudySpec) -> list[str]:
        """One phrase for each field in which `asked` differs from this stored specification.

        Nobody asks for a companion by name, so that may differ.
        """
        mine, theirs = self.to_json(), replace(asked, priors=self.priors).to_json()
        phrases = {
            "space_data": f"what is in the space {self.space!r} has changed",
            "dataset_fingerprint": "the task has changed (--accept-changes goes on with it)",
        }
        names = [name for name in mine if mine[name] != theirs[name]]
        # Of another space or task, the content is another one too.
        images = {"dataset", "fold", "size", "group_by"}
        follows = {"space_data": {"space"}, "dataset_fingerprint": images}
        return [
            phrases.get(name, f"{name} is {mine[name]!r}, asked for {theirs[name]!r}")
            for name in names
            if not follows.get(name, set()) & set(names)
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
            require(value is None or value >= 1, f"{name} >= 1", **{name: value})
        if self.seconds is not None:
            is_time = math.isfinite(self.seconds) and self.seconds > 0
            require(is_time, "timeout > 0", timeout=self.seconds)
            require(self.seconds <= MAX_SECONDS, "timeout <= 6h", timeout=self.seconds)

    def to_json(self) -> dict[str, Any]:
        """A dictionary of plain values, as stored in the study."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Any) -> Budget:
        """The inverse of `to_json`; no stored budget is no limit.

        Raises:
            InvalidInputError: If `stored` is no budget.
        """
        return cls() if stored is None else load(cls, stored, "the study's stored budget")

    def updated(self, other: Budget) -> Budget:
        """This budget with every limit that `other` sets."""
        return replace(self, **{k: v for k, v in asdict(other).items() if v is not None})


def named_companions(specs: Iterable[Any]) -> set[str]:
    """Names of the companions in stored specifications, damaged ones included."""
    return {
        str(spec["priors"]) for spec in specs if isinstance(spec, Mapping) and "priors" in spec
    }


def refuse_old_form(name: str, user_attrs: Mapping[str, Any]) -> None:
    """Refuse a study of the version before, which holds imported trials among its own.

    Raises:
        SpecMismatchError: It does; names the command that brings it over.
    """
    spec = user_attrs.get(attributes.SPEC)
    has_priors = bool(user_attrs.get(attributes.PRIOR_SUMMARY))
    if has_priors and isinstance(spec, Mapping) and "priors" not in spec:
        quoted = shlex.quote(name)
        raise SpecMismatchError(
            f"study {name!r} is of an earlier version, which kept priors among its trials; "
            f"`study fork {quoted} {shlex.quote(name + '-2')}` copies it into the present form."
        )
