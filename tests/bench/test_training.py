"""`bench training`: a real measurement in small, and wrong arguments."""

from __future__ import annotations

import pytest

from optuna_deepweeds.bench import training as bench
from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.spaces import SPACES


def test_configurations_lie_in_the_course_space() -> None:
    assert list(bench.CONFIGS) == ["published-best", "small", "median", "batch-7"]
    for name, config in bench.CONFIGS.items():
        assert SPACES["course"].problem(config) is None, name
        assert SPACES["course"].unknown(config) == [], name


def test_operations_are_those_of_the_layers() -> None:
    config = {**bench.CONFIGS["small"], "n_channels_conv_0": 16, "n_channels_conv_1": 16}
    first = 2 * 3 * 9 * 16 * 32 * 32
    second = 2 * 16 * 9 * 16 * 16 * 16
    dense = 2 * (16 * 64 + 64 * bench.N_CLASSES)
    # Forward, gradient of weights, gradient of inputs; the images themselves need none.
    assert bench.flops_an_image(config) == 2 * first + 3 * second + 3 * dense


@pytest.mark.parametrize(
    ("names", "options", "words"),
    [
        (["huge"], {}, "no configuration 'huge'"),
        (["small"], {"epochs": 0}, "epochs >= 1"),
        (["small"], {"usual_epochs": -1}, "usual_epochs >= 0"),
        (["small"], {"workers": 0}, "workers >= 1"),
        (["small"], {"device": "cuda:99"}, "device must"),
    ],
)
def test_wrong_arguments(names: list[str], options: dict[str, int], words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        next(bench.measure(names, **options))  # type: ignore[arg-type]


@pytest.mark.slow
def test_measures_both_pipelines() -> None:
    (result,) = bench.measure(
        ["small"], device="cpu", epochs=2, usual_epochs=1, n_train=128, n_valid=32
    )
    for kind in ("", "cpu_"):
        ratio = result[f"usual_{kind}seconds"] / (result[f"{kind}seconds"] / 2)
        assert result[f"{kind}ratio"] == pytest.approx(ratio) and ratio > 0
    assert result["images_per_second"] == pytest.approx(256 / result["seconds"])
    assert result["seconds_of_20"] == pytest.approx(10 * result["seconds"])
    assert 0 < result["limit_share"] < 1.5
    assert result["peak_mib"] > 50
