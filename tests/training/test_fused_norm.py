"""The fused layers against torch's own: on a GPU, or in Triton's interpreter (see conftest)."""

from __future__ import annotations

import copy
import importlib.util
import sys

import pytest
import torch
from torch import Tensor, nn

from optuna_deepweeds import training
from optuna_deepweeds.training import fused_norm
from optuna_deepweeds.training.fused_norm import FusedNorm, fuse
from optuna_deepweeds.training.networks import build_network
from tests.training.conftest import SMALL

_KERNELS = "optuna_deepweeds.training.norm_kernels"
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None,
    reason="Triton, which comes with torch for CUDA, is not installed.",
)


@pytest.fixture
def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _fused(
    channels: int, *, pool: bool = True, relu: bool = True, device: torch.device
) -> tuple[nn.Sequential, nn.Sequential]:
    """Usual layers, and the same ones fused."""
    layers: list[nn.Module] = [nn.BatchNorm2d(channels)]
    layers += [nn.MaxPool2d(2)] * pool + [nn.ReLU()] * relu
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        # Of either sign: a negative weight makes the smallest value of a window the largest.
        layers[0].weight.uniform_(-1.0, 2.0, generator=generator)
        layers[0].bias.normal_(generator=generator)
    usual = nn.Sequential(*layers).to(device)
    fused = copy.deepcopy(usual)
    fuse(fused, device)
    return usual, fused


def _batch(shape: tuple[int, ...], device: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    x = 5.0 + 3.0 * torch.randn(shape, generator=generator)
    return x.to(device).to(memory_format=torch.channels_last)


@pytest.mark.parametrize("shape", [(3, 8, 4, 6), (2, 72, 6, 2), (5, 40, 16, 16)])
@pytest.mark.parametrize("pool", [False, True])
@pytest.mark.parametrize("relu", [False, True])
def test_computes_what_the_layers_do(
    device: torch.device, shape: tuple[int, ...], pool: bool, relu: bool
) -> None:
    usual, fused = _fused(shape[1], pool=pool, relu=relu, device=device)
    assert isinstance(fused[0], FusedNorm)
    results = []
    for layers in (usual, fused):
        x = _batch(shape, device).requires_grad_()
        y = layers(x)
        weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(2)).to(device)
        (y * weights).sum().backward()
        gradients = [p.grad for p in layers.parameters()]
        results.append([y, x.grad, *gradients, *layers.state_dict().values()])
        results[-1].append(layers.eval()(x))
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_half_precision_is_rounded_once(device: torch.device) -> None:
    layers, fused = _fused(16, device=device)
    x = _batch((4, 16, 8, 8), device).bfloat16()
    torch.testing.assert_close(fused(x), layers(x.float()).bfloat16(), rtol=1e-2, atol=1e-3)


def test_names_and_tensors_stay(device: torch.device) -> None:
    network = build_network(
        {**SMALL, "dropout_rate": 0.0}, 4, torch.Generator().manual_seed(0)
    ).to(device)
    before = dict(network.state_dict(keep_vars=True))
    fuse(network, device)
    after = dict(network.state_dict(keep_vars=True))
    assert list(after) == list(before)
    assert all(after[name] is before[name] for name in before)
    assert not any(isinstance(layer, nn.MaxPool2d) for layer in network.modules())


def test_nan_goes_through(device: torch.device) -> None:
    _, layers = _fused(8, device=device)
    x = _batch((2, 8, 4, 4), device)
    x[0, 0, 0, 0] = float("nan")
    y = layers(x)
    assert y[:, 0].isnan().all()
    assert not y[:, 1:].isnan().any()


@pytest.mark.parametrize("shape", [(2, 8, 5, 4), (2, 9, 4, 4)])
def test_other_shapes_are_left_to_torch(device: torch.device, shape: tuple[int, ...]) -> None:
    usual, fused = _fused(shape[1], device=device)
    x = _batch(shape, device)
    torch.testing.assert_close(fused(x), usual(x))


def test_can_be_switched_off(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPWEEDS_FUSED_NORM", "0")
    _, fused = _fused(8, device=device)
    assert type(fused[0]) is nn.BatchNorm2d


def test_goes_on_without_a_compiler(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As where Triton is missing: an import that fails."""
    monkeypatch.setitem(sys.modules, _KERNELS, None)
    monkeypatch.delattr(training, "norm_kernels", raising=False)
    fused_norm._load_kernels.cache_clear()
    for _ in range(2):
        _, layers = _fused(8, device=torch.device("cpu"))
        assert type(layers[0]) is nn.BatchNorm2d
    fused_norm._load_kernels.cache_clear()
    assert caplog.text.count("Triton fails") == 1
