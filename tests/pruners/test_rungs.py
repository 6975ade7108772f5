"""Rungs: where they lie, what a trial is worth there, and who passes."""

from __future__ import annotations

import math

import numpy as np
import pytest

from optuna_deepweeds.pruners.rungs import (
    first_trusted,
    misleads,
    promotion_rates,
    rung_steps,
    value_at,
)

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
    ("curve", "rung", "window", "expected"),
    [
        ({1: 0.1, 2: 0.2, 3: 0.6}, 3, 1, 0.6),
        ({1: 0.1, 2: 0.2, 3: 0.6}, 3, 2, 0.4),
        ({3: 0.6, 1: 0.1, 2: 0.2}, 3, 2, 0.4),
        ({1: 0.1, 2: 0.2, 3: 0.6}, 1, 2, 0.1),
        ({1: 0.1, 5: 0.5, 9: 0.9}, 3, 1, 0.5),
        ({1: 0.1, 2: 0.2}, 3, 1, NAN),
        ({2: NAN, 3: 0.5}, 3, 1, 0.5),
        ({2: NAN, 3: 0.5}, 3, 2, NAN),
        ({}, 1, 1, NAN),
    ],
)
def test_value_at(curve: dict[int, float], rung: int, window: int, expected: float) -> None:
    assert value_at(curve, rung, window) == pytest.approx(expected, nan_ok=True)


def test_quotas_give_every_upper_rung_equal_epochs() -> None:
    rungs, end = [1, 3, 9, 27], 50
    rates = promotion_rates(rungs, end, 0.25)
    assert rates[0] == 0.25
    spans = np.diff([*rungs, end])[1:]
    assert np.array(rates[1:]) * spans == pytest.approx([0.25] * 3)


def _at(values: list[float]) -> dict[int, float]:
    return dict(enumerate(values))


RISING = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (RISING, RISING, False),
        (RISING, RISING[::-1], True),
        (RISING, RISING[:0:-1], False),  # seven trials are too few to tell
        (RISING, [0.5] * 8, False),
        (RISING, [0.4, 0.3, 0.6, 0.1, 0.8, 0.5, 0.2, 0.7], False),  # no order is not the opposite
        ([*RISING[:7], math.nan], [*RISING[:0:-1], 0.9], True),  # NaN is worst, and led after all
    ],
)
def test_rung_misleads_when_the_order_turns_round(
    first: list[float], second: list[float], expected: bool
) -> None:
    assert misleads(_at(first), _at(second)) is expected


def test_rungs_up_to_the_last_misleading_one_are_not_trusted() -> None:
    rising, falling = _at(RISING), _at(RISING[::-1])
    rungs = ([], [rising] * 3, [rising, falling, falling], [rising, rising, falling])
    assert [first_trusted(values) for values in rungs] == [0, 0, 1, 2]
