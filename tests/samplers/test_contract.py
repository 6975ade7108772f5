"""Optuna's own contract, run on our samplers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
from optuna.samplers import BaseSampler
from optuna.testing.pytest_samplers import (
    BasicSamplerTestCase,
    RelativeSamplerTestCase,
    SingleOnlySamplerTestCase,
)

from optuna_deepweeds.samplers import DNGOSampler, RandomForestEISampler


class TestOurs(BasicSamplerTestCase, RelativeSamplerTestCase, SingleOnlySamplerTestCase):
    @pytest.fixture(params=[RandomForestEISampler, partial(DNGOSampler, n_networks=1)])
    def sampler(self, request: pytest.FixtureRequest) -> Callable[[], BaseSampler]:
        return partial(request.param, seed=0, n_startup_trials=0)
