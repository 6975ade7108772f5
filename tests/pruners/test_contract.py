"""The pruner contract, held against DORA and against Optuna's own pruners."""

from __future__ import annotations

from functools import partial
from typing import Any

import optuna
import pytest

from optuna_deepweeds.pruners import DoraPruner, make_pruner
from tests.pruners.contract import MAX_RESOURCE, Make, PrunerTestCase


class TestDora(PrunerTestCase):
    @pytest.fixture(
        params=[
            {},
            {"min_resource": 2, "reduction_factor": 2},
        ],
        ids=["plain", "fine rungs"],
    )
    def make(self, request: pytest.FixtureRequest) -> Make:
        options: dict[str, Any] = request.param
        return partial(DoraPruner, max_resource=MAX_RESOURCE, **options)


class TestMedian(PrunerTestCase):
    @pytest.fixture
    def make(self) -> Make:
        return optuna.pruners.MedianPruner

    test_answers_with_a_bool = None  # type: ignore[assignment] # Optuna returns numpy.bool here.


class TestAsha(PrunerTestCase):
    @pytest.fixture
    def make(self) -> Make:
        return partial(make_pruner, "asha", max_resource=MAX_RESOURCE)

    # Optuna marks a rung at the first question and lets the trial pass at the second.
    test_same_question_has_the_same_answer = None  # type: ignore[assignment]
