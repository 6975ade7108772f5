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


@pytest.mark.parametrize("switch", ["DEEPWEEDS_CUDA_GRAPHS", "DEEPWEEDS_FUSED_NORM"])
@pytest.mark.parametrize(
    "extra",
    [{}, EVERYTHING, {"optimizer": "adamw", "ema_decay": 0.9}, {"optimizer": "muon"}],
)
def test_captured_steps_and_fused_layers_train_as_plain_ones(
    many: Dataset,
    small: dict[str, Any],
    extra: dict[str, Any],
    switch: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = {**small, **extra, "dropout_rate": 0.0}
    fast = train(config, many, seed=0, epochs=2, device="cuda")
    monkeypatch.setenv(switch, "0")
    plain = train(config, many, seed=0, epochs=2, device="cuda")
    assert fast.train_losses == pytest.approx(plain.train_losses, rel=0.05)


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "muon"])
def test_capturing_succeeds(
    many: Dataset, small: dict[str, Any], caplog: pytest.LogCaptureFixture, optimizer: str
) -> None:
    config = {**small, **EVERYTHING, "optimizer": optimizer}
    train(config, many, seed=0, epochs=1, device="cuda")
    assert not caplog.records  # neither the graph nor the fused layers were given up


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
    wide = {**small, "batch_size": 256, "n_channels_conv_0": 512, "n_channels_conv_1": 512}
    total = torch.cuda.get_device_properties("cuda").total_memory
    torch.cuda.set_per_process_memory_fraction((before + 2**28) / total)
    try:
        with pytest.raises(OutOfMemoryError):
            train(wide, many, seed=0, epochs=1, device="cuda")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    gc.collect()
    assert torch.cuda.memory_allocated() <= before + 2**20
