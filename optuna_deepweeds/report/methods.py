"""Studies grouped into methods: what all studies of one share is their specification but the seed.

Studies of other programs form groups of their own by name.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from optuna_deepweeds import attributes
from optuna_deepweeds.report.incumbent import Trajectory, trajectory
from optuna_deepweeds.report.published import PUBLISHED, Published
from optuna_deepweeds.report.view import StudyView

_NAMING = ("sampler", "pruner")
_EXTRA = ("thaw", "priors", "dataset", "fold", "space", "epochs", "sources")
# Fields that never make two studies different methods.
_NEVER = ("seed", "dataset_fingerprint", "direction", "metric", "folder", "space_data")


@dataclass(frozen=True)
class Method:
    """The studies of one method.

    Attributes:
        label: Its name in tables and legends.
        views: Seed -> study.
    """

    label: str
    views: Mapping[Hashable, StudyView]

    @cached_property
    def runs(self) -> dict[Hashable, Trajectory]:
        """Seed -> the study's incumbent over what it cost."""
        return {seed: trajectory(view) for seed, view in self.views.items()}

    @property
    def final(self) -> dict[Hashable, float]:
        """Seed -> the study's last incumbent; studies without a finished trial are left out."""
        return {s: float(run.values[-1]) for s, run in self.runs.items() if len(run.values)}

    @property
    def tested(self) -> dict[Hashable, float]:
        """Seed -> accuracy of the best network on the test split, where it was evaluated."""
        found = {s: tested_accuracy(view) for s, view in self.views.items()}
        return {s: value for s, value in found.items() if value is not None}

    @property
    def published(self) -> Published | None:
        """The published method that is this one, if there is one."""
        view = next(iter(self.views.values()))
        sampler = str(view.spec.get("sampler")) + (" with priors" if view.has_priors else "")
        key = (sampler, view.spec.get("pruner"))
        return next((p for p in PUBLISHED if (p.sampler, p.pruner) == key), None)


def tested_accuracy(view: StudyView) -> float | None:
    """Mean test accuracy of the best trial that `study evaluate` stored, or None."""
    trials = view.stored(attributes.EVALUATION).get("trials")
    value = trials[0].get("mean") if trials else None
    return float(value) if isinstance(value, (int, float)) else None


def recipe(view: StudyView) -> str | None:
    """How its best network was trained again before the test, or None if it never was."""
    stored = view.stored(attributes.EVALUATION)
    return str(stored.get("recipe", "study")) if tested_accuracy(view) is not None else None


def group(views: Sequence[StudyView]) -> list[Method]:
    """`views` by method, in the order in which they first appear."""
    facts = [_facts(view) for view in views]
    fields = [*_NAMING, *_EXTRA]
    fields += sorted({name for f in facts for name in f if name not in fields})
    differing = [name for name in fields if len(_values(facts, name)) > 1]
    groups: dict[str, dict[Hashable, StudyView]] = {}
    for view, fact in zip(views, facts, strict=True):
        members = groups.setdefault(_label(view, fact, differing), {})
        seed: Hashable = view.spec.get("seed", view.name)
        # A second study of the same seed is a repetition of its own.
        members[seed if seed not in members else f"{seed} ({view.name})"] = view
    return [Method(label, members) for label, members in groups.items()]


def _facts(view: StudyView) -> dict[str, Any]:
    if not view.spec:
        return {}
    facts = {k: v for k, v in view.spec.items() if k not in _NEVER}
    return {**facts, "priors": view.has_priors}


def _values(facts: Sequence[Mapping[str, Any]], name: str) -> set[str]:
    """The different values of a field."""
    # Only DORA can thaw: where all its studies do, the pruner's name says enough.
    apt = [f for f in facts if f and (name != "thaw" or f.get("pruner") == "dora")]
    return {repr(f.get(name)) for f in apt}


def _label(view: StudyView, facts: Mapping[str, Any], differing: Sequence[str]) -> str:
    if not facts:
        return view.name
    informed = " with priors" if "priors" in differing and facts["priors"] else ""
    label = f"{facts.get('sampler')}{informed} + {facts.get('pruner')}"
    for name in differing:
        value = facts.get(name)
        if name in (*_NAMING, "priors") or value is None:
            continue
        if isinstance(value, bool):
            label += f" + {name}" if value else ""
        else:
            label += f", {name} {', '.join(value) or 'none' if isinstance(value, list) else value}"
    return label
