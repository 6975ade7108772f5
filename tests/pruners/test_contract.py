"""The pruner contract, held against DORA and against Optuna's own pruners."""

from __future__ import annotations

import optuna
import pytest

from optuna_deepweeds.pruners import DoraPruner, make_pruner
from tests.pruners.contract import MAX_RESOURCE, Make, PrunerTestCase, random_curves


class TestDora(PrunerTestCase):
    @pytest.fixture
    def make(self) -> Make:
        return lambda: DoraPruner(max_resource=MAX_RESOURCE)


class TestDoraWithPriorCurves(PrunerTestCase):
    @pytest.fixture
    def make(self) -> Make:
        # Symmetric around zero, so that mirrored studies may share them.
        curves = random_curves(10, seed=5) - 0.5
        return lambda: DoraPruner(
            max_resource=MAX_RESOURCE, related_curves=[[*curves, *(-curves)]]
        )


class TestDoraWithFineRungs(PrunerTestCase):
    @pytest.fixture
    def make(self) -> Make:
        return lambda: DoraPruner(max_resource=MAX_RESOURCE, min_resource=2, reduction_factor=2)


class TestMedian(PrunerTestCase):
    is_strict_bool = False  # Optuna returns numpy.bool here; `make_pruner` mends it.

    @pytest.fixture
    def make(self) -> Make:
        return lambda: optuna.pruners.MedianPruner()


class TestAsha(PrunerTestCase):
    @pytest.fixture
    def make(self) -> Make:
        return lambda: make_pruner("asha", max_resource=MAX_RESOURCE)

    # Optuna marks a rung at the first question and lets the trial pass at the second.
    test_same_question_has_the_same_answer = None  # type: ignore[assignment]
