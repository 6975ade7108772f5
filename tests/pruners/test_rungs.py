"""Rungs: where they lie, what a trial is worth there, and who passes."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from optuna_deepweeds.pruners.rungs import Field, outlook, rung_steps
from optuna_deepweeds.trials import worths

NAN = math.nan


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((1, 27, 3), [1, 3, 9]),
        ((1, 28, 3), [1, 3, 9, 27]),
        ((1, 243, 3), [1, 3, 9, 27, 81]),
        ((2, 9, 2), [2, 4, 8]),
        ((1, 1, 3), []),
    ],
)
def test_rung_steps(arguments: tuple[int, int, int], expected: list[int]) -> None:
    assert rung_steps(*arguments) == expected


@pytest.mark.parametrize(
    ("curve", "rung", "expected"),
    [
        ({1: 0.1, 2: 0.2, 3: 0.6}, 1, 0.1),
        ({1: 0.1, 2: 0.2, 3: 0.6}, 2, 0.2),
        ({3: 0.6, 1: 0.1, 2: 0.2}, 3, 0.4),
        ({1: 0.1, 5: 0.5, 9: 0.9}, 4, 0.3),  # jumps over the rung
        ({1: 0.1, 2: 0.2}, 3, NAN),
        ({2: NAN, 3: 0.5, 4: 0.7}, 4, 0.6),
        ({2: NAN, 3: 0.5}, 3, -math.inf),
        ({}, 1, NAN),
    ],
)
def test_worth_is_the_mean_of_the_later_half(
    curve: dict[int, float], rung: int, expected: float
) -> None:
    assert worths(curve, [rung]) == pytest.approx([expected], nan_ok=True)


def field(
    *standings: tuple[list[float], str], rungs: tuple[int, ...] = (1, 2, 4, 8, 16, 20)
) -> Field:
    """Trials by their worth at the rungs so far, each "paused", "running" or "done"."""
    worth = np.full((len(standings), len(rungs)), NAN)
    for row, (values, _) in zip(worth, standings, strict=True):
        row[: len(values)] = values
    reached = np.array([len(values) - 1 for values, _ in standings])
    states = np.array([state for _, state in standings])
    return Field(
        rungs=rungs,
        numbers=np.arange(len(standings)),
        reached=reached,
        worth=worth,
        epochs=np.array([rungs[i] if i >= 0 else 0 for i in reached]),
        is_paused=states == "paused",
        is_running=states == "running",
        is_probe=np.zeros(len(standings), dtype=bool),
    )


def paused(*firsts: float) -> list[tuple[list[float], str]]:
    return [([value], "paused") for value in firsts]


def test_quotas_give_every_later_rung_equal_epochs() -> None:
    rates = field(*paused(0.1)).rates
    assert rates * np.array([1, 2, 4, 8, 4]) == pytest.approx([0.25] * 5)
    rates = field(*paused(0.1), rungs=(1, 3, 9, 20)).rates
    assert rates * np.array([1, 6, 11]) == pytest.approx([0.25] * 3)
    scaled = field(*paused(0.1), rungs=(3, 9, 27, 60)).rates
    assert scaled == pytest.approx(rates)


@pytest.mark.parametrize(
    ("standings", "expected"),
    [
        (paused(0.1, 0.3, 0.2), []),
        (paused(0.1, 0.3, 0.2, 0.0), [1]),
        (paused(0.3, 0.3, 0.2, 0.0), [0]),  # of equal ones the earlier
        ([([0.3], "running"), *paused(0.1, 0.4, 0.2)], [2]),
        ([([0.3], "running"), *paused(0.1, 0.3, 0.2)], []),  # an equal one is on its way
        ([([0.3, 0.1], "paused"), *paused(0.1, 0.3, 0.2)], [0]),  # half a place is one above
        ([([-math.inf], "done"), *paused(0.1, 0.3, 0.2)], [2]),
    ],
)
def test_the_best_quarter_goes_on(
    standings: list[tuple[list[float], str]], expected: list[int]
) -> None:
    assert list(field(*standings).within_quota()) == expected


def test_the_highest_rung_goes_first() -> None:
    standings = [([0.9, 0.5, 0.5], "paused"), ([0.8, 0.6], "paused"), *paused(*[0.1] * 14)]
    # 16 results: four places at the first rung, two at the second, one at the third.
    assert list(field(*standings).within_quota()) == [0, 1, 2, 3]


def test_leader_is_the_best_wherever_it_waits() -> None:
    here = field(([0.5, 0.6], "paused"), ([0.6], "paused"), ([0.9, 0.4], "paused"))
    assert here.leaders() == [0, 1, 2]


def test_leader_waits_until_first_steps_have_cost_half_a_training() -> None:
    assert [field(*paused(*[0.1] * n)).may_lead(None) for n in (9, 10)] == [False, True]
    short = (1, 2, 4)
    assert [field(*paused(*[0.1] * n), rungs=short).may_lead(None) for n in (3, 4)] == [
        False,
        True,
    ]


def test_first_leader_goes_alone_and_leaders_take_half_of_all_steps() -> None:
    ten = paused(*[0.1] * 10)
    assert not field(([0.9], "running"), *ten).may_lead(None)
    assert field(([], "running"), *ten).may_lead(None)
    finished = [([0.5] * 6, "done")] * 3
    # Less what the quotas allow for, they took 41 of 70 steps, or 16 of 100.
    assert not field(*finished, *ten).may_lead(0.5)
    assert field(*finished, *paused(*[0.1] * 40)).may_lead(0.5)


def test_probes_go_on_to_the_second_rung_if_it_is_near() -> None:
    def probes(rungs: tuple[int, ...]) -> list[int]:
        here = field(([0.1], "paused"), ([0.1, 0.1], "paused"), ([0.1] * 3, "paused"), rungs=rungs)
        return replace(here, is_probe=np.array([True, True, True])).probes()

    assert probes((1, 3, 9, 20)) == [0]
    assert probes((1, 3, 9, 14)) == []


def test_outlook_tells_what_a_study_costs() -> None:
    assert outlook(20) == (
        "pauses every trial after epochs 1, 3, 9 and goes on with the best: about 2.0 of "
        "20 epochs each, the first trained to the end once 10 have begun"
    )
    assert outlook(1) == "trainings are too short to stop any early"
    assert outlook(2) == "pauses every trial after epoch 1 and goes on with the best"
