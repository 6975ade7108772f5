"""The network of the `modern` space.

A stem at full resolution, then `n_stages` stages; each widens and halves the resolution with
one convolution and goes on with `n_blocks` blocks of two convolutions; at the end the largest
activation of each channel, dropout and the classifier.

| key | meaning |
|---|---|
| `block` | `residual`: a block adds to its input; `plain`: it replaces it |
| `n_stages` | halvings of the resolution |
| `n_blocks` | blocks of two convolutions in each stage |
| `width` | channels of the stem |
| `width_factor` | channels of a stage over those of the one before |
| `dropout_rate` | before the classifier |

Source: the layout follows the ResNet-9 of Page (2018), "How to train your ResNet", with a free
number of blocks; pooling stands before batch norm, where it costs a quarter.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from optuna_deepweeds.errors import InvalidInputError

BLOCKS = ("residual", "plain")
_MULTIPLE = 8  # channel counts that vector units and tensor cores divide evenly


class _Conv(nn.Sequential):
    """Convolution, optional 2x2 max pooling, batch norm and, unless it ends a block, ReLU."""

    def __init__(self, n_in: int, n_out: int, *, pool: bool = False, relu: bool = True) -> None:
        layers: list[nn.Module] = [nn.Conv2d(n_in, n_out, 3, padding="same", bias=False)]
        if pool:
            layers.append(nn.MaxPool2d(2))
        layers.append(nn.BatchNorm2d(n_out))
        if relu:
            layers.append(nn.ReLU(inplace=True))
        super().__init__(*layers)


class _Residual(nn.Module):
    """x + f(x), f of two convolutions, and ReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _Conv(channels, channels)
        self.second = _Conv(channels, channels, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(x + self.second(self.first(x)), inplace=True)


class _GlobalMaxPool(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.amax(dim=(2, 3))


def modern_network(config: Mapping[str, Any], n_classes: int, dropout: nn.Module) -> nn.Module:
    """Build the network that `config` describes; `dropout` goes before the classifier.

    Raises:
        InvalidInputError: If the block is unknown or a size is out of range.
        KeyError: If a key is missing.
    """
    block = config["block"]
    if block not in BLOCKS:
        raise InvalidInputError(f"`block in {BLOCKS}` must hold, but got block={block!r}.")
    n_stages, n_blocks = int(config["n_stages"]), int(config["n_blocks"])
    if not 1 <= n_stages <= 5:
        raise InvalidInputError(f"`1 <= n_stages <= 5` must hold, but got n_stages={n_stages}.")
    channels = _rounded(float(config["width"]))
    layers: list[nn.Module] = [_Conv(3, channels)]
    for stage in range(1, n_stages + 1):
        width = _rounded(float(config["width"]) * float(config["width_factor"]) ** stage)
        layers.append(_Conv(channels, width, pool=True))
        channels = width
        for _ in range(n_blocks):
            if block == "residual":
                layers.append(_Residual(channels))
            else:
                layers += [_Conv(channels, channels), _Conv(channels, channels)]
    layers += [_GlobalMaxPool(), dropout, nn.Linear(channels, n_classes)]
    return nn.Sequential(*layers)


def _rounded(channels: float) -> int:
    return max(_MULTIPLE, round(channels / _MULTIPLE) * _MULTIPLE)
