"""Batch norm, 2x2 max pooling and ReLU in one pass over memory, for CUDA.

These layers do little arithmetic on large tensors: a GPU spends its time on moving them. One
after the other they move about two and a half times the bytes that all need together, and the
indices that torch keeps for pooling take four times the memory of the pooled values.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from types import ModuleType

_logger = logging.getLogger(__name__)
_SWITCH = "DEEPWEEDS_FUSED_NORM"
_OCTET = 8


class FusedNorm(nn.BatchNorm2d):
    """`nn.BatchNorm2d`, then max pooling over `window` x `window` pixels, then ReLU if asked for.

    It shares the tensors of the layer that it replaces, under the same names. Inputs that the
    kernels do not take (another memory format, channels that 8 does not divide, an odd side) are
    treated by torch's own operations.
    """

    def __init__(self, norm: nn.BatchNorm2d, kernels: ModuleType, window: int, relu: bool) -> None:
        super().__init__(norm.num_features, device="meta")
        self.eps, self.momentum = norm.eps, norm.momentum
        self.weight, self.bias = norm.weight, norm.bias
        for name, buffer in norm.named_buffers():
            setattr(self, name, buffer)
        self.train(norm.training)
        self._kernels, self._window, self._relu = kernels, window, relu

    def forward(self, input: Tensor) -> Tensor:
        if self._is_taken(input):
            return _Fused.apply(input, self.weight, self.bias, self)
        x = super().forward(input)
        if self._window > 1:
            x = F.max_pool2d(x, self._window)
        return F.relu(x) if self._relu else x

    def _is_taken(self, x: Tensor) -> bool:
        return (
            x.shape[1] % _OCTET == 0
            and x.shape[2] % self._window == 0
            and x.shape[3] % self._window == 0
            and x.numel() > x.shape[1]
            and x.is_contiguous(memory_format=torch.channels_last)
        )


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, layer: FusedNorm) -> Tensor:
        kernels = layer._kernels
        if layer.training:
            mean, invstd = kernels.batch_statistics(
                x,
                layer.running_mean,
                layer.running_var,
                layer.num_batches_tracked,
                layer.momentum,
                layer.eps,
            )
        else:
            mean = layer.running_mean
            assert layer.running_var is not None  # it is there as track_running_stats is on
            invstd = torch.rsqrt(layer.running_var + layer.eps)
        save = layer.training and any(ctx.needs_input_grad)
        y, chosen, kept = kernels.forward(
            x, mean, invstd, weight, bias, window=layer._window, relu=layer._relu, save=save
        )
        if save:
            ctx.save_for_backward(x, chosen, kept, mean, invstd, weight)
            ctx.kernels, ctx.window = kernels, layer._window
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        dy = dy.contiguous(memory_format=torch.channels_last)
        return *ctx.kernels.backward(dy, *ctx.saved_tensors, window=ctx.window), None


def fuse(network: nn.Module, device: torch.device) -> None:
    """Replace every batch norm in `network` by one that also does what follows it.

    What follows is max pooling over 2x2 pixels, then ReLU, each if it is there; placeholders keep
    the names of all other layers. Does nothing where the kernels cannot be compiled, or with
    DEEPWEEDS_FUSED_NORM=0.
    """
    kernels = None if os.environ.get(_SWITCH) == "0" else _load_kernels(device)
    if kernels is None:
        return
    for sequence in [m for m in network.modules() if isinstance(m, nn.Sequential)]:
        layers: Sequence[nn.Module] = [*sequence, nn.Identity(), nn.Identity()]
        for i in range(len(sequence)):
            norm = layers[i]
            if type(norm) is not nn.BatchNorm2d:
                continue
            pool = layers[i + 1]
            pools = isinstance(pool, nn.MaxPool2d) and pool.kernel_size == 2
            relu = i + 1 + pools
            rectifies = isinstance(layers[relu], nn.ReLU)
            sequence[i] = FusedNorm(norm, kernels, 2 if pools else 1, rectifies)
            if pools:
                sequence[i + 1] = nn.Identity()
            if rectifies:
                sequence[relu] = nn.Identity()


@functools.cache
def _load_kernels(device: torch.device) -> ModuleType | None:
    """The kernels' module, or None, said once, where they cannot be compiled."""
    try:
        from optuna_deepweeds.training import norm_kernels

        layer = FusedNorm(nn.BatchNorm2d(2 * _OCTET, device=device), norm_kernels, 2, True)
        x = torch.zeros(2, 2 * _OCTET, 4, 4, device=device, requires_grad=True)
        layer(x.to(memory_format=torch.channels_last)).sum().backward()
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # Triton and the compilers that it starts have many ways to fail.
        reason = str(error).strip().splitlines() or [type(error).__name__]
        _logger.warning("Training with torch's own batch norm, as Triton fails: %s", reason[0])
        return None
    return norm_kernels
