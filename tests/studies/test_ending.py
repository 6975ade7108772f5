"""When a study ends: one row a situation, and the whole life of studies played by the rules."""

from __future__ import annotations

import random
from typing import Any

import pytest

from optuna_deepweeds.studies.accounting import Progress
from optuna_deepweeds.studies.ending import (
    Close,
    Continue,
    Ending,
    Start,
    Wait,
    is_over,
    outlook,
    raised,
    reached,
    time_left,
    verdict,
)
from optuna_deepweeds.studies.spec import Budget
from optuna_deepweeds.tasks.run import Allowance

FULL = 9


def at(**counts: Any) -> Progress:
    """Where a study stands; what is not named is 0."""
    names = "complete pruned failed running waiting continued epochs seconds held".split()
    return Progress(**({name: 0 for name in names} | {"best": None} | counts))


def allowed(epochs: int | None = None, seconds: float | None = None) -> Allowance:
    return Allowance(epochs, seconds)


def to_the_end(epochs: int | None = None, seconds: float | None = None) -> Allowance:
    return Allowance(epochs, seconds, must_finish=True)


THAW = {"may_continue": True}
FLAT = {"is_flat": True}
AHEAD = {"may_continue": True, "best_is_unfinished": True}

# Name: budget, where the study stands, what is known besides, what a free worker does.
SITUATIONS: dict[str, tuple[Budget, Progress, dict[str, bool], Any]] = {
    # Trials, without and with thaw.
    "first trial": (Budget(trials=3), at(), {}, Start(allowed())),
    "failed trials do not count": (Budget(trials=1), at(failed=7), {}, Start(allowed())),
    "last place": (Budget(trials=3), at(complete=2), {}, Start(allowed())),
    "all places taken": (Budget(trials=3), at(complete=1, running=2), {}, Wait()),
    "total reached": (Budget(trials=3), at(complete=1, pruned=2), {}, Ending.TOTAL),
    "total lowered": (Budget(trials=3), at(complete=9), {}, Ending.TOTAL),
    "total reached, one left waiting": (Budget(trials=1), at(complete=1, waiting=1), {},
                                        Ending.TOTAL),
    "stopped": (Budget(trials=3), at(), {"asked_to_stop": True}, Ending.STOPPED),
    "stopped at the end": (Budget(trials=1), at(complete=1), {"asked_to_stop": True},
                           Ending.STOPPED),
    "something may go on": (Budget(trials=9), at(pruned=3), AHEAD, Continue(allowed())),
    "what waits comes first": (Budget(trials=9), at(pruned=3, waiting=1), AHEAD,
                               Start(allowed())),
    "the only trial of a study": (Budget(trials=1), at(), AHEAD, Close(to_the_end(), True)),
    "last place, nothing finished": (Budget(trials=3), at(pruned=2), AHEAD,
                                     Close(to_the_end(), True)),
    "last place, best unfinished": (Budget(trials=3), at(complete=1, pruned=1), AHEAD,
                                    Close(to_the_end(), True)),
    "last place, best finished": (Budget(trials=3), at(complete=1, pruned=1), THAW,
                                  Continue(allowed(), True)),
    "last place, others may still stop ahead": (
        Budget(trials=4), at(complete=1, pruned=1, running=1), AHEAD, Wait()),
    "last place, best finished, others run": (
        Budget(trials=4), at(complete=2, running=1), THAW, Wait()),
    "last place, one waits, nothing finished": (
        Budget(trials=3), at(pruned=2, waiting=1), AHEAD, Start(to_the_end(), True)),
    "last place, one waits, best unfinished": (
        Budget(trials=3), at(complete=2, waiting=1), AHEAD, Start(allowed(), True)),
    "last place but one, four workers": (
        Budget(trials=5), at(running=3), AHEAD, Continue(allowed())),
    "the closing trial was put back": (
        Budget(trials=3), at(complete=1, pruned=1, waiting=2), AHEAD | {"closing_waits": True},
        Close(to_the_end())),
    "the closing trial was put back, total raised": (
        Budget(trials=9), at(complete=1, running=2, waiting=1), THAW | {"closing_waits": True},
        Close(to_the_end())),
    "a closing trial waits for a place": (
        Budget(trials=3), at(complete=2, running=1, waiting=1), THAW | {"closing_waits": True},
        Wait()),
    "a closing trial waits, total reached": (
        Budget(trials=3), at(complete=3, waiting=1), THAW | {"closing_waits": True},
        Ending.TOTAL),
    # The rest promises little.
    "flat": (Budget(trials=9), at(complete=5, running=2), FLAT, Ending.FLAT),
    "flat, one left waiting": (Budget(trials=9), at(complete=5, waiting=2), FLAT, Ending.FLAT),
    "flat, total reached": (Budget(trials=5), at(complete=5), FLAT, Ending.TOTAL),
    "flat, best finished": (Budget(trials=9), at(complete=1, pruned=4), FLAT | THAW, Ending.FLAT),
    "flat, best unfinished": (Budget(trials=9), at(complete=1, pruned=4), FLAT | AHEAD,
                              Close(to_the_end(), True)),
    "flat, best unfinished, one waits": (
        Budget(trials=9, epochs=90), at(complete=1, pruned=4, waiting=1, epochs=20), FLAT | AHEAD,
        Close(to_the_end(9), True)),
    "flat, others may still stop ahead": (
        Budget(trials=9), at(complete=1, pruned=4, running=1), FLAT | THAW, Wait()),
    "flat, the closing trial was put back": (
        Budget(trials=9), at(complete=1, waiting=1), FLAT | THAW | {"closing_waits": True},
        Close(to_the_end())),
    # Epochs.
    "epochs for a training": (Budget(epochs=30), at(), {}, Start(allowed(9))),
    "epochs of running trials are spent": (Budget(epochs=30), at(running=2, held=18), {},
                                           Start(allowed(4))),
    "the total ends inside a trial": (Budget(epochs=10), at(complete=1, epochs=9), {},
                                      Start(allowed(1))),
    "all epochs held": (Budget(epochs=18), at(running=2, held=18), {}, Wait()),
    "more held than there is": (Budget(epochs=18), at(running=3, held=27), {}, Wait()),
    "fewer than workers": (Budget(epochs=12), at(running=4, epochs=6, held=4), {},
                           Start(allowed(1))),
    "epochs spent": (Budget(epochs=18), at(complete=2, epochs=18), {}, Ending.EPOCHS),
    "epochs spent, one left waiting": (Budget(epochs=10), at(complete=1, waiting=1, epochs=10),
                                       {}, Ending.EPOCHS),
    "epochs exceeded by an earlier version": (Budget(epochs=10), at(epochs=12), {},
                                              Ending.EPOCHS),
    "one training is kept back": (Budget(epochs=12), at(), AHEAD, Continue(allowed(3))),
    "one training is kept back from four": (
        Budget(epochs=40), at(running=3, held=15), AHEAD, Continue(allowed(4))),
    "last epochs, nothing finished": (Budget(epochs=12), at(pruned=3, epochs=3), AHEAD,
                                      Close(to_the_end(9), True)),
    "last epochs, nothing finished, one waits": (
        Budget(epochs=12), at(pruned=3, epochs=3, waiting=5), AHEAD, Close(to_the_end(9), True)),
    "last epochs, best unfinished, one waits": (
        Budget(epochs=30), at(complete=1, epochs=22, waiting=5), AHEAD,
        Close(to_the_end(8), True)),
    "last epochs, best finished": (Budget(epochs=30), at(complete=1, epochs=22), THAW,
                                   Continue(allowed(8), True)),
    "last epochs, best finished, one waits": (
        Budget(epochs=30), at(complete=1, epochs=22, waiting=1), THAW, Start(allowed(8), True)),
    "last epochs, others run": (Budget(epochs=30), at(complete=1, running=1, epochs=20, held=3),
                                AHEAD, Wait()),
    "last epochs held by others": (Budget(epochs=30), at(running=2, epochs=9, held=18), AHEAD,
                                   Wait()),
    "no training fits in": (Budget(epochs=5), at(pruned=2, epochs=3), AHEAD,
                            Continue(allowed(2))),
    "no training fits in, spent": (Budget(epochs=5), at(pruned=3, epochs=5), AHEAD,
                                   Ending.EPOCHS),
    "a whole training and nothing else": (Budget(epochs=9), at(), AHEAD,
                                          Close(to_the_end(9), True)),
    "the closing trial is short of epochs": (
        Budget(epochs=12), at(pruned=3, epochs=9, waiting=1), AHEAD | {"closing_waits": True},
        Close(to_the_end(3))),
    "last place before the last epochs": (
        Budget(trials=3, epochs=90), at(pruned=2, epochs=2), AHEAD, Close(to_the_end(9), True)),
    # Seconds, of which an epoch took 10 and a training takes 90; one is for putting back.
    "time is left": (Budget(seconds=600), at(complete=1, epochs=9, seconds=90), {},
                     Start(allowed(seconds=509))),
    "time is over": (Budget(seconds=600), at(complete=1, running=2, epochs=60, seconds=600), {},
                     Ending.TIME),
    "less time than a training takes": (
        Budget(seconds=600), at(complete=1, epochs=59, seconds=590), {},
        Start(allowed(seconds=9))),
    "nothing is known of the pace": (Budget(seconds=60), at(), AHEAD,
                                     Continue(allowed(seconds=59))),
    "last minutes, nothing finished": (
        Budget(seconds=600), at(pruned=4, epochs=43, seconds=430), AHEAD,
        Close(to_the_end(seconds=169), True)),
    "last minutes, best unfinished": (
        Budget(seconds=600), at(complete=1, pruned=4, epochs=43, seconds=430), AHEAD,
        Close(to_the_end(seconds=169), True)),
    "last minutes, best finished": (
        Budget(seconds=600), at(complete=1, pruned=4, epochs=43, seconds=430), THAW,
        Continue(allowed(seconds=169), True)),
    "last minutes, nothing finished, others run": (
        Budget(seconds=600), at(pruned=4, running=1, epochs=43, seconds=430), AHEAD, Wait()),
    "last minutes, best unfinished, others run": (
        Budget(seconds=600), at(complete=1, pruned=4, running=1, epochs=43, seconds=430), AHEAD,
        Close(to_the_end(seconds=169), True)),
    "workers share the last minutes": (
        Budget(seconds=900), at(complete=1, pruned=4, running=3, epochs=43, seconds=430), AHEAD,
        Close(to_the_end(seconds=469), True)),
    "few trials tell little of the pace": (
        Budget(seconds=600), at(pruned=3, epochs=43, seconds=430), AHEAD,
        Continue(allowed(seconds=169))),
    "no training fits into the time": (
        Budget(seconds=80), at(pruned=4, epochs=4, seconds=40), AHEAD,
        Continue(allowed(seconds=39))),
    # All limits at once: the first one reached.
    "trials first": (Budget(2, 600, 90), at(complete=2, epochs=18, seconds=99), {}, Ending.TOTAL),
    "epochs first": (Budget(9, 600, 18), at(complete=2, epochs=18, seconds=99), {},
                     Ending.EPOCHS),
    "time first": (Budget(9, 99, 90), at(complete=2, epochs=18, seconds=99), {}, Ending.TIME),
    "all limits allow": (Budget(9, 600, 90), at(complete=2, epochs=18, seconds=100), {},
                         Start(allowed(9, 499))),
}  # fmt: skip


@pytest.mark.parametrize("name", SITUATIONS)
def test_what_a_free_worker_does_and_that_it_leaves_exactly_at_a_limit(name: str) -> None:
    budget, progress, known, expected = SITUATIONS[name]
    found = verdict(budget, progress, full=FULL, **known)
    assert (type(found), found) == (type(expected), expected)
    if not known.keys() & {"asked_to_stop", "is_flat"}:
        assert (reached(budget, progress) is not None) == isinstance(expected, Ending)
        assert is_over(budget, progress) == (isinstance(expected, Ending) and not progress.running)


@pytest.mark.parametrize(
    ("budget", "progress", "options"),
    [
        (Budget(trials=3), at(complete=2), ""),
        (Budget(trials=3), at(complete=3), " --trials 6"),
        (Budget(epochs=30), at(epochs=30), " --total-epochs 60"),
        (Budget(seconds=90), at(seconds=90.4), " --timeout 180s"),
        (Budget(seconds=21600), at(seconds=21600), None),  # 6 h are the most.
        (Budget(2, 90, 9), at(complete=2, epochs=9, seconds=50), " --trials 4 --total-epochs 18"),
    ],
)
def test_the_hint_how_a_study_goes_on_fits_its_end(
    budget: Budget, progress: Progress, options: str | None
) -> None:
    assert raised(budget, progress) == options


@pytest.mark.parametrize(
    ("budget", "progress", "expected"),
    [
        (Budget(trials=9), at(), None),
        (Budget(seconds=60), at(), 59),
        (Budget(trials=9), at(complete=3, seconds=30), 60),
        (Budget(trials=9, seconds=50), at(complete=3, seconds=30), 19),
        (Budget(epochs=9), at(epochs=3, seconds=3), 6),
        (Budget(seconds=60), at(seconds=61), 0),
    ],
)
def test_time_left_is_estimated_as_soon_as_anything_is_known(
    budget: Budget, progress: Progress, expected: float | None
) -> None:
    assert time_left(budget, progress) == expected


def ranked(n: int, *, top: float) -> list[float]:
    """n values of which the first half is at most 1, and the rest within a hundredth of `top`."""
    return [i / n for i in range(n // 2)] + [top + 0.01 * i / n for i in range(n // 2)]


@pytest.mark.parametrize(
    ("values", "budget", "is_flat"),
    [
        (ranked(40, top=2), Budget(trials=110), True),
        (ranked(40, top=2), Budget(epochs=1_100), True),
        (ranked(18, top=2), Budget(trials=110), None),  # Too few to say.
        (ranked(40, top=2), Budget(trials=130), None),  # Less than a third is spent.
        ([1.2**n for n in range(40)], Budget(trials=110), False),
        ([1.2**n for n in range(40)], Budget(trials=41), True),  # Hardly anything is left.
        ([*range(40), 99], Budget(trials=110), False),  # The best stands alone.
        ([0.5] * 40, Budget(trials=110), True),
    ],
)
def test_a_study_is_flat_once_its_best_are_alike(
    values: list[float], budget: Budget, is_flat: bool | None
) -> None:
    state = at(complete=40, epochs=400, seconds=40)
    found = outlook(budget, state, [(value, True) for value in values])
    assert (found and found.is_flat) == is_flat
    if found is not None:
        # Whatever the unit of the objective, and wherever its zero is.
        other = outlook(budget, state, [(1e6 * value - 7e8, True) for value in values])
        assert other is not None and other.gain == pytest.approx(1e6 * found.gain, rel=1e-6)
        assert other.is_flat == found.is_flat
        # What was stopped is not compared with what was trained to the end.
        assert outlook(budget, state, [*((v, True) for v in values), (1e9, False)]) == found
    assert outlook(budget, state, [(value, False) for value in values]) is None
    bounds = outlook(Budget(trials=110, epochs=900, seconds=80), state, [(0.0, True)] * 40)
    assert bounds is not None and (bounds.epochs, bounds.seconds) == (400, 40)


class Play:
    """A study of trials whose training is drawn, and workers that are killed now and then.

    The pruner stops each trial after a drawn number of epochs; a stopped one may go on.
    """

    def __init__(self, seed: int, workers: int, budget: Budget, *, thaw: bool) -> None:
        self.draw = random.Random(seed)
        self.budget, self.thaw = budget, thaw
        self.running: list[dict[str, Any] | None] = [None] * workers
        self.stopped: list[int] = []  # epochs of each
        self.waiting: list[dict[str, Any]] = []
        self.complete = self.pruned = self.epochs = 0
        self.ending: Ending | None = None

    def progress(self) -> Progress:
        running = [trial for trial in self.running if trial is not None]
        return at(
            complete=self.complete,
            pruned=self.pruned,
            running=len(running),
            waiting=len(self.waiting),
            epochs=self.epochs,
            held=sum(trial["left"] for trial in running),
        )

    def is_unfinished(self) -> bool:
        return not self.complete or self.draw.random() < 0.3

    def step(self, worker: int) -> None:
        trial = self.running[worker]
        if trial is None:
            self.running[worker] = self.claim()
        elif self.draw.random() < 0.05:  # killed, and retried from its checkpoint
            self.waiting.append(trial)
            self.running[worker] = None
        else:
            self.running[worker] = self.train(trial)

    def claim(self) -> dict[str, Any] | None:
        closing = next((trial for trial in self.waiting if trial["must_finish"]), None)
        found = verdict(
            self.budget,
            self.progress(),
            full=FULL,
            may_continue=self.thaw,
            best_is_unfinished=self.thaw and self.is_unfinished(),
            closing_waits=closing is not None,
        )
        if isinstance(found, Ending):
            self.ending = found
        if isinstance(found, Ending | Wait):
            return None
        trial: dict[str, Any] = {"epoch": 0, "must_finish": False}
        if closing is not None:
            self.waiting.remove(trial := closing)
        elif isinstance(found, Continue) and self.stopped and self.draw.random() < 0.5:
            trial["epoch"] = self.stopped.pop(self.draw.randrange(len(self.stopped)))
        elif self.waiting:
            trial = self.waiting.pop(0)
        trial["must_finish"] |= found.allowance.must_finish
        trial["left"] = min(found.allowance.epochs or FULL, FULL - trial["epoch"])
        return trial

    def train(self, trial: dict[str, Any]) -> dict[str, Any] | None:
        trial["epoch"] += 1
        trial["left"] -= 1
        self.epochs += 1
        if trial["epoch"] == FULL:
            self.complete += 1
        elif not trial["must_finish"] and (self.draw.random() < 0.5 or not trial["left"]):
            if self.thaw or trial["left"]:
                self.pruned += 1
                self.stopped.append(trial["epoch"])
            else:
                self.waiting.append(trial)
        elif not trial["left"]:
            self.waiting.append(trial)
        else:
            return trial
        return None


@pytest.mark.parametrize("thaw", [False, True], ids=["", "thaw"])
@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize(
    "budget",
    [Budget(trials=12), Budget(epochs=50), Budget(epochs=5), Budget(7, None, 40)],
    ids=str,
)
def test_totals_are_exact_whoever_is_killed(budget: Budget, workers: int, thaw: bool) -> None:
    for seed in range(40):
        play = Play(seed, workers, budget, thaw=thaw)
        while play.ending is None or any(trial is not None for trial in play.running):
            play.step(play.draw.randrange(workers))
            progress = play.progress()
            assert budget.trials is None or progress.finished + progress.running <= budget.trials
            assert budget.epochs is None or progress.epochs + progress.held <= budget.epochs
        if play.ending == Ending.EPOCHS:
            assert play.epochs == budget.epochs
        else:
            assert play.complete + play.pruned == budget.trials
        if thaw and (budget.epochs is None or budget.epochs >= FULL):
            assert play.complete
