"""What only a GPU can show: graphs, memory and agreement with the CPU."""

from __future__ import annotations

import gc
from functools import partial
from typing import Any

import pytest
import torch

from optuna_deepweeds.errors import OutOfMemoryError
from tests.training.conftest import SMALL, Fit, make_squares
from tests.training.test_train import EVERYTHING

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device."),
]


@pytest.fixture(scope="module")
def many(fit: Fit) -> Fit:
    """`train` on 512 images on the GPU."""
    return partial(fit, data=make_squares(512), device="cuda")


@pytest.mark.parametrize("switch", ["DEEPWEEDS_CUDA_GRAPHS", "DEEPWEEDS_FUSED_NORM"])
@pytest.mark.parametrize(
    "extra",
    [{}, EVERYTHING, {"optimizer": "adamw"}, {"optimizer": "muon"}],
)
def test_captured_steps_and_fused_layers_train_as_plain_ones(
    many: Fit, extra: dict[str, Any], switch: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {**SMALL, **extra, "dropout_rate": 0.0}
    fast = many(config=config, epochs=2)
    monkeypatch.setenv(switch, "0")
    plain = many(config=config, epochs=2)
    assert fast.train_losses == pytest.approx(plain.train_losses, rel=0.05)


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "muon"])
def test_capturing_succeeds(many: Fit, caplog: pytest.LogCaptureFixture, optimizer: str) -> None:
    many(config={**SMALL, **EVERYTHING, "optimizer": optimizer})
    assert not caplog.records  # neither the graph nor the fused layers were given up


def test_deterministic_runs_agree_exactly(many: Fit) -> None:
    first, again = (many(epochs=3, deterministic=True) for _ in range(2))
    assert first.train_losses == again.train_losses
    assert first.curve == again.curve


def test_memory_is_given_back(many: Fit) -> None:
    many()
    gc.collect()
    before = torch.cuda.memory_allocated()
    wide = {**SMALL, "batch_size": 256, "n_channels_conv_0": 512, "n_channels_conv_1": 512}
    total = torch.cuda.get_device_properties("cuda").total_memory
    torch.cuda.set_per_process_memory_fraction((before + 2**28) / total)
    try:
        with pytest.raises(OutOfMemoryError):
            many(config=wide)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    gc.collect()
    assert torch.cuda.memory_allocated() <= before + 2**20
