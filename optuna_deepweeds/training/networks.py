"""Networks from configurations: one builder per search space, chosen by the keys.

Weights are drawn from a given generator and never from torch's global one: the network is laid
out on the meta device, without values, and then filled.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.training.modern_network import modern_network

IMAGE_SIZE = 32


class SeededDropout(nn.Module):
    """Dropout whose mask comes from `generator` (torch's own reads the global generator)."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.generator: torch.Generator | None = None

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0.0:
            return x
        keep = 1.0 - self.rate
        return x * torch.empty_like(x).bernoulli_(keep, generator=self.generator).div_(keep)


class GlobalAverage(nn.Module):
    """Mean over the image; torch's adaptive pooling has no deterministic gradient on CUDA."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3))


def build_network(
    config: Mapping[str, Any], n_classes: int, generator: torch.Generator | None = None
) -> nn.Module:
    """The network that `config` describes, on the CPU.

    Args:
        config: A configuration of the `course` or the `modern` space.
        n_classes: Number of outputs.
        generator: Draws the initial weights; without one they are left uninitialised, for a
            caller that loads weights.

    Returns:
        A module from images (n, 3, 32, 32) float, normalised, to logits (n, n_classes).

    Raises:
        InvalidInputError: If `config` belongs to no known space or lacks a key.
    """
    builders: dict[str, Callable[[Mapping[str, Any], int], nn.Module]] = {
        "n_conv_layers": _course,
        "block": _modern,
    }
    found = [build for key, build in builders.items() if key in config]
    if len(found) != 1:
        raise InvalidInputError(
            f"a configuration must have exactly one of {sorted(builders)}, which tell its space, "
            f"but its keys are {sorted(config)}."
        )
    try:
        with torch.device("meta"):
            network = found[0](config, n_classes)
    except KeyError as error:
        raise InvalidInputError(f"a configuration must have {error}.") from None
    network = network.to_empty(device="cpu")
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.reset_parameters()
        elif isinstance(module, nn.Conv2d | nn.Linear) and generator is not None:
            _initialise(module, generator)
    return network


def _initialise(module: nn.Conv2d | nn.Linear, generator: torch.Generator) -> None:
    """Torch's default initialisation, drawn from `generator`."""
    fan_in = module.weight[0].numel()
    bound = 1.0 / math.sqrt(fan_in)
    with torch.no_grad():
        module.weight.uniform_(-bound, bound, generator=generator)
        if module.bias is not None:
            module.bias.uniform_(-bound, bound, generator=generator)


def _modern(config: Mapping[str, Any], n_classes: int) -> nn.Module:
    return modern_network(config, n_classes, SeededDropout(float(config["dropout_rate"])))


def _course(config: Mapping[str, Any], n_classes: int) -> nn.Module:
    """Convolution blocks, optional global average pooling, dense layers, classifier."""
    layers: list[nn.Module] = []
    channels, size = 3, IMAGE_SIZE
    kernel = int(config["kernel_size"])
    for i in range(int(config["n_conv_layers"])):
        width = int(config[f"n_channels_conv_{i}"])
        use_bn = bool(config["use_BN"])
        # Batch norm takes the place of the bias.
        layers.append(nn.Conv2d(channels, width, kernel, padding="same", bias=not use_bn))
        if use_bn:
            layers.append(nn.BatchNorm2d(width))
        # Published as ReLU and then pooling; the two commute, and this order has the ReLU work
        # on a quarter of the values.
        layers += [nn.MaxPool2d(2), nn.ReLU(inplace=True)]
        channels, size = width, size // 2
    if config["global_avg_pooling"]:
        layers.append(GlobalAverage())
        size = 1
    else:
        layers.append(nn.Flatten())
    features = channels * size * size
    for i in range(int(config["n_fc_layers"])):
        width = int(config[f"n_channels_fc_{i}"])
        layers += [nn.Linear(features, width), nn.ReLU(inplace=True)]
        layers.append(SeededDropout(float(config["dropout_rate"])))
        features = width
    layers.append(nn.Linear(features, n_classes))
    return nn.Sequential(*layers)
