"""When a study ends, and until then what a free worker does next: every rule of it, in one place.

Workers ask under the study's lock, so that what one is allowed counts as spent for the next.
Totals are therefore exact, whatever the number of workers and whoever is killed:

- Trials: a running trial holds its place until it ends.
- Epochs: a running trial holds the epochs that it was allowed. Where these end before its
  training does, it is put back to wait, with its checkpoint: the next worker goes on with it if
  others left some of theirs, else whoever raises the total.
- Seconds: a trial is put back likewise when the time is over, also within an epoch, and a little
  before, since that takes time too. Time counts once, however many trials ran in it.

A study that may continue stopped trials ends with its best network trained to the end: its last
trial, or its last epochs or minutes, go on with a stopped trial that is ahead of all that were
trained to the end (`Close`). For that, the epochs of one whole training are kept back. The last
trial and the last epochs begin when no other trial runs, since one that runs may still stop ahead.
What the closing trial leaves of them goes to trials that they carry to their ends, else to new
ones for a step each: one cut off on its way might be ahead, and nobody would have its end.
Trials that wait come before a study's close, unless its epochs are short.

A study may also end as flat, long before a limit, once the rest of its budget promises little
(`outlook`). The first worker that finds it so says so to all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from statistics import median

from optuna_deepweeds.studies.accounting import Progress
from optuna_deepweeds.studies.spec import MAX_SECONDS, Budget
from optuna_deepweeds.tasks.run import Allowance

_SETTLING = 1.0
"""Seconds for putting a trial back at the end; in a short budget less."""
_SLOW_NETWORK = 2.0
"""A study's best networks take longer than its mean; so many times as long is allowed for."""
_N_FOR_OUTLOOK = 20
"""Networks from which on something is foretold; their median is what a search begins with."""
_N_FINAL = 5
"""Networks trained to the end that it takes as well."""
_MOST_LEFT = 2.0
"""Of the budget, in units of what is spent."""
_WORTH = 0.1
"""Share of the way from there to the best that the rest of the budget must promise."""
_N_FOR_PACE = 4
"""Finished trials from which on their mean pace is trusted that far."""


class Ending(Enum):
    """Why a worker leaves."""

    TOTAL = "the study's total of trials is reached"
    TIME = "the study's time is spent"
    EPOCHS = "the study's epochs are spent"
    FLAT = "the study has become flat"
    STOPPED = "the study was asked to stop"
    INTERRUPTED = "this worker was asked to stop"


@dataclass(frozen=True)
class Start:
    """Run the first trial that waits, or a new one.

    Attributes:
        allowance: How far it may be trained. Where it must finish, that is stored on the trial,
            which stays a closing one whatever interrupts it.
        is_last: The study may end with it. If it stops ahead of all that were trained to the
            end, it goes on as a closing one.
    """

    allowance: Allowance
    is_last: bool = False


class Continue(Start):
    """Go on with a stopped trial if the pruner names one; else as `Start`."""


class Close(Continue):
    """Train to the end: a closing trial that waits, else the best that was stopped or put back."""


@dataclass(frozen=True)
class Wait:
    """Look again later: what is left is held by trials that run, or begins when they end."""


Verdict = Start | Wait | Ending


@dataclass(frozen=True)
class Outlook:
    """What the rest of a study's budget promises.

    Attributes:
        gain: By how much the best value is expected to improve.
        worth: The least gain to go on for: a share of the distance from the median of the first
            trials to the best of all, which any scale has.
        epochs: That the rest takes at the pace so far.
        seconds: Likewise.
    """

    gain: float
    worth: float
    epochs: int
    seconds: int

    @property
    def is_flat(self) -> bool:
        """Whether it is not worth while to go on."""
        return self.gain <= self.worth


def verdict(
    budget: Budget,
    progress: Progress,
    *,
    full: int,
    may_continue: bool = False,
    best_is_unfinished: bool = False,
    closing_waits: bool = False,
    is_flat: bool = False,
    asked_to_stop: bool = False,
) -> Verdict:
    """What a free worker of a study does next.

    Args:
        budget: What the study may spend in all; at least one limit.
        progress: What it has spent.
        full: Epochs of a training to the end.
        may_continue: Whether stopped trials may be continued.
        best_is_unfinished: Whether one that was stopped or put back is ahead of all that were
            trained to the end.
        closing_waits: Whether a trial waits that was closing when it was interrupted.
        is_flat: Whether the study is to end because the rest would hardly gain anything.
        asked_to_stop: Whether the study is to end now.
    """
    if asked_to_stop:
        return Ending.STOPPED
    if (ending := reached(budget, progress)) is not None:
        return ending
    running = progress.running
    places = math.inf if budget.trials is None else budget.trials - progress.finished - running
    epochs = math.inf if budget.epochs is None else budget.epochs - progress.epochs - progress.held
    if places <= 0 or epochs <= 0:
        return Wait()

    def allow(epochs: float, *, must_finish: bool = False) -> Allowance:
        return Allowance(
            epochs=None if budget.epochs is None else int(min(epochs, full)),
            seconds=_seconds_left(budget, progress),
            must_finish=must_finish,
        )

    if closing_waits:
        return Close(allow(epochs, must_finish=True))
    if is_flat and not may_continue:
        return Ending.FLAT
    kept_back = full if may_continue and (budget.epochs or 0) >= full else 0
    epochs_are_short = epochs <= kept_back
    begins_alone = may_continue and (places == 1 or epochs_are_short or is_flat)
    is_last = begins_alone or (may_continue and _time_is_short(budget, progress, full))
    if is_last and running and (begins_alone or not progress.complete):
        return Wait()
    if is_last and (best_is_unfinished or not progress.complete):
        if epochs_are_short or is_flat or not progress.waiting:
            return Close(allow(epochs, must_finish=True), is_last)
        if not progress.complete:
            return Start(allow(epochs, must_finish=True), is_last)
    if is_flat:
        return Ending.FLAT
    if budget.epochs is not None and not epochs_are_short:
        # Shared out, so that nobody waits for what others hold and hardly ever use up.
        epochs = max(1, (epochs - kept_back) // (running + 1))
    kind = Continue if may_continue and not progress.waiting else Start
    return kind(allow(epochs), is_last)


def reached(budget: Budget, progress: Progress) -> Ending | None:
    """The limit that is reached, if any: no trial begins any more."""
    if budget.trials is not None and progress.finished >= budget.trials:
        return Ending.TOTAL
    if budget.epochs is not None and progress.epochs >= budget.epochs:
        return Ending.EPOCHS
    seconds = _seconds_left(budget, progress)
    return Ending.TIME if seconds is not None and seconds <= 0 else None


def outlook(
    budget: Budget, progress: Progress, ends: Sequence[tuple[float, bool]]
) -> Outlook | None:
    """What the rest of a study's budget promises, or None as long as too little is known.

    What a share as large of all that is spent has brought: in the mean over all
    orders of the networks, the k-th best is ahead of the next by a gap that lies in that share
    only if the k best all do. As a search nears its end it finds the best again and again, and
    the gaps close. Nothing is said before a third of the budget is spent.

    Args:
        ends: As `accounting.ends` tells them.
    """
    finals = sorted((value for value, is_final in ends if is_final), reverse=True)
    limits = (
        (budget.trials, progress.finished),
        (budget.epochs, progress.epochs),
        (budget.seconds, progress.seconds),
    )
    left = (limit / spent - 1 for limit, spent in limits if limit is not None and spent > 0)
    rest = min(left, default=math.inf)
    if len(ends) < _N_FOR_OUTLOOK or len(finals) < _N_FINAL or rest > _MOST_LEFT:
        return None
    share = rest / (1 + rest)
    gaps = (better - worse for better, worse in pairwise(finals))
    return Outlook(
        gain=sum(gap * share**k for k, gap in enumerate(gaps, start=1)),
        worth=_WORTH * (finals[0] - median(value for value, _ in ends[:_N_FOR_OUTLOOK])),
        epochs=round(rest * progress.epochs),
        seconds=round(rest * progress.seconds),
    )


def is_over(budget: Budget, progress: Progress) -> bool:
    """Whether a limit is reached and no trial is under way."""
    return reached(budget, progress) is not None and not progress.running


def raised(budget: Budget, progress: Progress) -> str | None:
    """Options with which `study resume` goes on: twice of each limit that is reached.

    None where the time is spent and there may be no more.
    """
    options = ""
    if budget.trials is not None and progress.finished >= budget.trials:
        options += f" --trials {2 * budget.trials}"
    if budget.epochs is not None and progress.epochs >= budget.epochs:
        options += f" --total-epochs {2 * budget.epochs}"
    left = _seconds_left(budget, progress)
    if budget.seconds is not None and left is not None and left <= 0:
        if budget.seconds >= MAX_SECONDS:
            return None
        options += f" --timeout {min(2 * budget.seconds, MAX_SECONDS):.0f}s"
    return options


def time_left(budget: Budget, progress: Progress) -> float | None:
    """Estimated seconds until a limit is reached, or None as long as nobody can tell."""
    seconds = _seconds_left(budget, progress)
    estimates = [] if seconds is None else [max(0.0, seconds)]
    for limit, spent in ((budget.trials, progress.finished), (budget.epochs, progress.epochs)):
        if limit is not None and spent > 0:
            estimates.append(max(0.0, (limit - spent) * progress.seconds / spent))
    return min(estimates, default=None)


def _seconds_left(budget: Budget, progress: Progress) -> float | None:
    if budget.seconds is None:
        return None
    return budget.seconds - min(_SETTLING, 0.02 * budget.seconds) - progress.seconds


def _time_is_short(budget: Budget, progress: Progress, full: int) -> bool:
    """Whether about the time of one whole training is left; it must fit into the budget."""
    if budget.seconds is None or progress.epochs == 0:
        return False
    # Workers share the seconds, and a training runs on one of them alone.
    training = full * progress.seconds / progress.epochs * (progress.running + 1)
    # The first epochs hold the start of everything, and a few of them tell little of the rest.
    margin = _SLOW_NETWORK if progress.finished >= _N_FOR_PACE else 1.0
    is_short = budget.seconds - progress.seconds <= margin * training
    return is_short and training <= budget.seconds
