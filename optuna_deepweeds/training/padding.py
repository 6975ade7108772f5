"""Channel counts rounded up for tensor cores, without changing what is trained.

Tensor cores want channel counts that 8 divides, and the `course` space has all others. A network
with more channels, whose additional weights are all zero, computes the same; their gradients are
zero as well, so no optimiser in use ever moves them. Files hold the network without them. Only
`muon`, whose steps grow with a kernel's size, takes somewhat larger ones in a widened kernel; the
`modern` space, which it is meant for, has no widths to round.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

_WIDTHS = "n_channels_"


class Padding:
    """Translates states between the network of a configuration and the widened one.

    Args:
        config: A configuration; widths that are no multiple of `multiple` are rounded up.
        network: The network of `config`; only its shapes are read.
        multiple: 1 changes nothing.
    """

    def __init__(self, config: Mapping[str, Any], network: nn.Module, multiple: int) -> None:
        self.config = {
            key: -(-int(value) // multiple) * multiple if key.startswith(_WIDTHS) else value
            for key, value in config.items()
        }
        self._shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
        self._parameters = [p.shape for group in parameter_groups(network) for p in group]

    def widened(self, state: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
        """The state of `network`, the widened one, that computes what `state` does."""
        shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
        return {name: _resized(tensor, shapes[name]) for name, tensor in state.items()}

    def cut(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The state of the configuration's own network."""
        return {name: _resized(tensor, self._shapes[name]) for name, tensor in state.items()}

    def widened_optimizer(self, state: Mapping[str, Any], network: nn.Module) -> dict[str, Any]:
        """As `widened`, for the state of an optimiser made from `parameter_groups`."""
        return _resized_optimizer(state, [p.shape for g in parameter_groups(network) for p in g])

    def cut_optimizer(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """As `cut`, for the state of an optimiser made from `parameter_groups`."""
        return _resized_optimizer(state, self._parameters)


def parameter_groups(network: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Kernels and matrices, which weight decay acts on, and all other parameters."""
    parameters = list(network.parameters())
    return [p for p in parameters if p.ndim > 1], [p for p in parameters if p.ndim <= 1]


def _resized_optimizer(state: Mapping[str, Any], shapes: Iterable[torch.Size]) -> dict[str, Any]:
    by_index = dict(enumerate(shapes))
    resized = {
        index: {
            # Numbers of steps are tensors without dimensions and stay as they are.
            name: _resized(value, by_index[index])
            if isinstance(value, Tensor) and value.ndim
            else value
            for name, value in values.items()
        }
        for index, values in state["state"].items()
    }
    return {**state, "state": resized}


def _resized(tensor: Tensor, shape: torch.Size) -> Tensor:
    """`tensor` cut to `shape`, or filled up with zeros.

    A dense layer behind a flattened image has its inputs ordered by channel first, so those of
    additional channels are the last ones.
    """
    if tensor.shape == shape:
        return tensor
    result = tensor.new_zeros(shape)
    common = tuple(slice(0, min(a, b)) for a, b in zip(tensor.shape, shape, strict=True))
    result[common] = tensor[common]
    return result
