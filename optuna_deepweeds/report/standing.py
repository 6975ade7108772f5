"""Where a study stands, in words; the one place that says it for terminal, page and note."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from functools import cache
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from optuna_deepweeds import attributes, trials
from optuna_deepweeds.studies.accounting import Progress, progress

STATES = {
    "COMPLETE": "complete", "PAUSED": "paused", "PRUNED": "stopped", "FAIL": "failed",
    "INTERRUPTED": "interrupted", "RUNNING": "running", "WAITING": "waiting",
}  # fmt: skip
"""The one word for what became of a trial. Complete, paused and stopped trials are finished."""


def state_of(trial: FrozenTrial) -> str:
    """The word of `STATES` for a trial: Optuna's state, and what paused or interrupted it."""
    if trials.is_paused(trial):
        return STATES["PAUSED"]
    return STATES["INTERRUPTED" if trials.was_interrupted(trial) else trial.state.name]


@cache  # A page has it ten thousand times.
def command(verb: str, study: str, storage: str | None = None) -> str:
    """The command of a study such as "resume", in a storage that is not the default one."""
    words = ["optuna-deepweeds", "study", verb, study]
    return shlex.join([*words, "--storage", storage] if storage else words)


def again(study: str, number: int, storage: str | None = None) -> str:
    """The command that trains a trial of a study again."""
    return f"{command('best', study, storage)} --trial {number} --save trial-{number}.pt"


def standing_of(study: optuna.Study) -> str:
    """`standing` of a study as it is in its storage now."""
    names = study.metric_names
    state = progress(study.get_trials(deepcopy=False), study.direction)
    return standing(state, names[0] if names else "value")


def standing(progress: Progress, metric: str = "value") -> str:
    """What a study's trials have come to and what is best, in one sentence or two."""
    p = progress
    if p.finished + p.failed + p.running == 0:
        return f"No trial has run yet{f'; {p.waiting} wait' if p.waiting else ''}."
    parts = []
    for n, word in (
        (p.complete, "complete"),
        (p.paused, "paused"), (p.stopped, "stopped"), (p.continued, "of them continued"),
        (p.failed, "failed"), (p.running, "running"), (p.waiting, "waiting"),
    ):  # fmt: skip
        parts += [f"{n} {word}"] * bool(n)
    head = counted(p.finished, "finished trial") if p.finished else "No finished trial"
    text = f"{head}: {', '.join(parts)}."
    if p.best is not None and p.best.value is not None:
        text += f" Best {metric}: {p.best.value:.4g} in trial {p.best.number}."
    elif p.finished:
        text += " None is complete yet."
    return text


def cost(progress: Progress, epochs: int | None) -> str:
    """What a study has spent, and what stopping saved where a network's `epochs` are known."""
    epochs_of = f"{counted(progress.epochs, 'epoch')} in" if progress.epochs else "Took"
    text = f"{epochs_of} {duration(progress.seconds)}"
    share = saved_share(progress, epochs)
    if share is not None:
        full = progress.without_stopping(epochs)
        text += f", {share:.0%} fewer than {full:,} without stopping"
    return f"{text}."


def flatness(user_attrs: Mapping[str, Any], metric: str = "value") -> str:
    """What a study saved that ended as flat, and what that was expected to gain; "" for others."""
    found = user_attrs.get(attributes.FLAT)
    if not isinstance(found, Mapping) or not {"gain", "worth", "epochs", "seconds"} <= {*found}:
        return ""
    epochs = f"{counted(found['epochs'], 'epoch')}, " if found["epochs"] else ""
    return (
        f"Saved by ending when flat: {epochs}{duration(found['seconds'])}, expected to gain "
        f"about {found['gain']:.2g} of {metric}, less than a tenth of all gains so far, "
        f"{found['worth']:.2g}."
    )


def saved_share(progress: Progress, epochs: int | None) -> float | None:
    """Share of the epochs of all networks begun that was not trained; None if none was saved."""
    full = progress.without_stopping(epochs)
    return 1 - progress.epochs / full if 0 < progress.epochs < full else None


def counted(n: int, noun: str, plural: str = "") -> str:
    """`n` with its noun, in the plural unless n is 1."""
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


def duration(seconds: float) -> str:
    """`seconds` as people write it: 42 s, 3 min 10 s, 2 h 05 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
