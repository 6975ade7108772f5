"""What only a GPU can show: graphs, memory and agreement with the CPU."""

from __future__ import annotations

import gc
from typing import Any

import pytest
import torch

from optuna_deepweeds.datasets.dataset import Dataset
from optuna_deepweeds.errors import OutOfMemoryError
from optuna_deepweeds.training import train
from tests.training.conftest import make_squares
from tests.training.test_train import EVERYTHING

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device."),
]


@pytest.fixture(scope="module")
def many() -> Dataset:
    return make_squares(512)


@pytest.mark.parametrize(
    "extra",
    [{}, EVERYTHING, {"optimizer": "adamw", "ema_decay": 0.9}, {"optimizer": "muon"}],
)
def test_captured_steps_train_as_plain_ones(
    many: Dataset, small: dict[str, Any], extra: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {**small, **extra, "dropout_rate": 0.0}
    captured = train(config, many, seed=0, epochs=2, device="cuda")
    monkeypatch.setenv("DEEPWEEDS_CUDA_GRAPHS", "0")
    plain = train(config, many, seed=0, epochs=2, device="cuda")
    assert captured.train_losses == pytest.approx(plain.train_losses, rel=0.05)


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "muon"])
def test_capturing_succeeds(
    many: Dataset, small: dict[str, Any], caplog: pytest.LogCaptureFixture, optimizer: str
) -> None:
    config = {**small, **EVERYTHING, "optimizer": optimizer}
    train(config, many, seed=0, epochs=1, device="cuda")
    assert "CUDA graphs" not in caplog.text


def test_deterministic_runs_agree_exactly(many: Dataset, small: dict[str, Any]) -> None:
    first, again = (
        train(small, many, seed=0, epochs=3, device="cuda", deterministic=True) for _ in range(2)
    )
    assert first.train_losses == again.train_losses
    assert first.curve == again.curve


def test_memory_is_given_back(many: Dataset, small: dict[str, Any]) -> None:
    train(small, many, seed=0, epochs=1, device="cuda")
    gc.collect()
    before = torch.cuda.memory_allocated()
    huge = {**small, "batch_size": 1000, "global_avg_pooling": False, "n_channels_fc_0": 2**28}
    with pytest.raises(OutOfMemoryError):
        train(huge, many, seed=0, epochs=1, device="cuda")
    gc.collect()
    assert torch.cuda.memory_allocated() <= before + 2**20
