"""Networks from configurations: one builder per search space, chosen by the keys.

Weights are drawn from a given generator and never from torch's global one: the network is laid
out on the meta device, without values, and then filled.

The network of the `modern` space: a stem, then `n_stages` stages; each widens and halves the
resolution with one convolution and goes on with `n_blocks` residual blocks of two convolutions; at
the end the largest activation of each channel, dropout and the classifier.

| key | meaning |
|---|---|
| `stem_stride` | 2: the stem halves the resolution, which saves three quarters of the time |
| `activation` | `relu` or `gelu` |
| `n_stages` | halvings of the resolution |
| `n_blocks` | blocks of two convolutions in each stage |
| `width` | channels of the stem |
| `width_factor` | channels of a stage over those of the one before |
| `dropout_rate` | before the classifier |

Source: the layout follows the ResNet-9 of Page (2018), "How to train your ResNet", with a free
number of blocks; pooling stands before batch norm, where it costs a quarter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.schema import choose, require

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": lambda: nn.ReLU(inplace=True),
    "gelu": nn.GELU,
}
_MULTIPLE = 8  # channel counts that vector units and tensor cores divide evenly
# Of the newest batch in batch norm's running statistics. With torch's .1 a network that makes ten
# steps an epoch is judged by those that it began with, and its first epochs by chance.
_NORM_MOMENTUM = 0.3


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
    config: Mapping[str, Any],
    n_classes: int,
    generator: torch.Generator | None = None,
    *,
    image_size: int = 32,
) -> nn.Module:
    """The network that `config` describes, on the CPU.

    Args:
        config: A configuration of the `course` or the `modern` space.
        n_classes: Number of outputs.
        generator: Draws the initial weights; without one they are left uninitialised, for a
            caller that loads weights.
        image_size: Sides of the images, in pixels.

    Returns:
        A module from images (n, 3, image_size, image_size) float, normalised, to logits
        (n, n_classes).

    Raises:
        InvalidInputError: If `config` belongs to no known space or lacks a key, or if its halvings
            leave nothing of an image.
    """
    builders: dict[str, Callable[[Mapping[str, Any], int, int], nn.Module]] = {
        "n_conv_layers": _course,
        "n_stages": _modern,
    }
    found = [build for key, build in builders.items() if key in config]
    if len(found) != 1:
        raise InvalidInputError(
            f"a configuration must have exactly one of {sorted(builders)}, which tell its space, "
            f"but its keys are {sorted(config)}."
        )
    try:
        with torch.device("meta"):
            network = found[0](config, n_classes, image_size)
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


def _course(config: Mapping[str, Any], n_classes: int, size: int) -> nn.Module:
    """Convolution blocks, optional global average pooling, dense layers, classifier."""
    layers: list[nn.Module] = []
    channels, kernel, n_halvings = 3, int(config["kernel_size"]), int(config["n_conv_layers"])
    _check_size(size, n_halvings)
    for i in range(n_halvings):
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


class _Conv(nn.Sequential):
    """Convolution, optional 2x2 max pooling, batch norm and, unless it ends a block, `active`."""

    def __init__(
        self,
        n_in: int,
        n_out: int,
        active: Callable[[], nn.Module] | None,
        *,
        stride: int = 1,
        pool: bool = False,
    ) -> None:
        layers: list[nn.Module] = [nn.Conv2d(n_in, n_out, 3, stride, padding=1, bias=False)]
        if pool:
            layers.append(nn.MaxPool2d(2))
        layers.append(nn.BatchNorm2d(n_out, momentum=_NORM_MOMENTUM))
        if active is not None:
            layers.append(active())
        super().__init__(*layers)


class _Residual(nn.Module):
    """x + f(x), f of two convolutions, and the activation."""

    def __init__(self, channels: int, active: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.first = _Conv(channels, channels, active)
        self.second = _Conv(channels, channels, None)
        self.active = active()

    def forward(self, x: Tensor) -> Tensor:
        return self.active(x + self.second(self.first(x)))


class _GlobalMaxPool(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.amax(dim=(2, 3))


def _modern(config: Mapping[str, Any], n_classes: int, size: int) -> nn.Module:
    n_stages, stride = int(config["n_stages"]), int(config.get("stem_stride", 1))
    for name, value, most in (("n_stages", n_stages, 5), ("stem_stride", stride, 2)):
        require(1 <= value <= most, f"1 <= {name} <= {most}", **{name: value})
    _check_size(size, n_stages + stride - 1)
    active = _ACTIVATIONS[choose("activation", config.get("activation", "relu"), _ACTIVATIONS)]
    channels = _rounded(float(config["width"]))
    layers: list[nn.Module] = [_Conv(3, channels, active, stride=stride)]
    for stage in range(1, n_stages + 1):
        width = _rounded(float(config["width"]) * float(config["width_factor"]) ** stage)
        layers.append(_Conv(channels, width, active, pool=True))
        channels = width
        layers += [_Residual(channels, active) for _ in range(int(config["n_blocks"]))]
    dropout = SeededDropout(float(config["dropout_rate"]))
    layers += [_GlobalMaxPool(), dropout, nn.Linear(channels, n_classes)]
    return nn.Sequential(*layers)


def _rounded(channels: float) -> int:
    return max(_MULTIPLE, round(channels / _MULTIPLE) * _MULTIPLE)


def _check_size(size: int, n_halvings: int) -> None:
    rule = "image_size >= 2**n_halvings"
    require(size >= 2**n_halvings, rule, image_size=size, n_halvings=n_halvings)
