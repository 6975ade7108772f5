"""`bench accuracy`: configurations of the spaces, scored on test images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from optuna_deepweeds.bench.accuracy import CONFIGS, compare, measure
from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.spaces import SPACES
from tests.training.conftest import make_squares


def test_configurations_lie_in_their_spaces() -> None:
    for name, config in CONFIGS.items():
        space = SPACES[name] if name in SPACES else SPACES[name.split("-")[0]]
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


def test_changes_are_compared_seed_by_seed_without_the_test_images() -> None:
    data = make_squares()
    data = replace(data, train=data.train[:16], valid=data.valid[:8], test=data.test[:0])
    seen: list[tuple[str, int, float]] = []
    changes = ["optimizer=adamw,shift=1", "width=16"]
    rows = compare(
        "modern-small", changes, data, range(2), epochs=1, device="cpu",
        on_value=lambda *values: seen.append(values),
    )  # fmt: skip
    assert [row["change"] for row in rows] == ["as it is", *changes]
    assert (rows[0]["gain"], rows[0]["error"]) == (0, 0)
    first, second = seen[1][2] - seen[0][2], seen[4][2] - seen[3][2]
    assert rows[1]["gain"] == pytest.approx((first + second) / 2)
    assert rows[1]["error"] == pytest.approx(abs(first - second) / 2)
    for wrong, part in (("width", "KEY=VALUE"), ("optimizer=lion", "optimizer in")):
        with pytest.raises(InvalidInputError, match=part):
            compare("modern-small", [wrong], data, range(1), epochs=1, device="cpu")
