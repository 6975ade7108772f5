"""`bench accuracy`: configurations of the spaces, scored on test images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from optuna_deepweeds.bench.accuracy import CONFIGS, measure
from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.spaces import SPACES
from tests.training.conftest import make_squares


def test_configurations_lie_in_their_spaces() -> None:
    for name, config in CONFIGS.items():
        space = SPACES[name.split("-")[0]]
        assert space.problem(config) is None, name
    assert SPACES["modern"].unknown(CONFIGS["modern"]) == []
    # What the published space fixes stays as it is.
    assert "optimizer" not in CONFIGS["course"]
    assert "label_smoothing" not in CONFIGS["course"]


def test_measures_on_the_test_images_and_one_seed_at_a_time_alike() -> None:
    data = make_squares()
    data = replace(data, train=data.train[:16], valid=data.valid[:8])
    together = measure("course", data, range(2), epochs=1, device="cpu")
    assert len(together.accuracies) == 2
    assert together.confusion.sum() == 2 * len(data.test)
    assert together.network is not None
    assert together.network.config == CONFIGS["course"]
    second = measure("course", data, range(1, 2), epochs=1, device="cpu")
    assert [score.seed for score in second.scores] == [1]
    assert np.array_equal(second.scores[0].confusion, together.scores[1].confusion)


def test_an_unknown_configuration_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="ancient"):
        measure("ancient", make_squares(), range(1))
