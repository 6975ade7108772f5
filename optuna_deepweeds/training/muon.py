"""Muon: orthogonal updates for the kernels of hidden convolutions, AdamW for all the rest."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from optuna_deepweeds.training.runtime import has_bfloat16

_COEFFICIENTS = 3.4445, -4.7750, 2.0315
_N_ITERATIONS = 5
_ADAM_RMS = 0.2
"""Root mean square of an entry of AdamW's usual update; ours has the same, so that one range of
learning rates suits both."""
_DECAY_1, _DECAY_2, _EPSILON = 0.9, 0.999, 1e-8
_N_COLOURS = 3


class Muon(torch.optim.Optimizer):
    """Replaces each kernel's momentum by the nearest matrix with orthogonal rows or columns.

    All directions of a kernel then move alike, also those whose gradients are small. The first
    convolution, the dense layers, biases and batch norm are trained by AdamW at the same rate.

    Every operation stays on the device, so a step can be captured as a CUDA graph.

    Args:
        groups: Parameter groups, each with its `weight_decay`.
        lr: () learning rate, on the parameters' device; read at every step.
        momentum: Of the kernels, Nesterov's.

    Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"; scale
    of the update after Liu et al. 2025, "Muon is Scalable for LLM Training", equation 4. torch's
    own `Muon` takes matrices only, and its step reads the rate on the host.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], lr: Tensor, momentum: float) -> None:
        super().__init__(groups, {"lr": lr, "momentum": momentum, "weight_decay": 0.0})

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a state; torch leaves what is called `step` where it was, on the host."""
        super().load_state_dict(state_dict)
        for parameter, values in self.state.items():
            if "step" in values:
                values["step"] = values["step"].to(parameter.device)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            moved = [p for p in group["params"] if p.grad is not None]
            for parameter in moved:
                if not self.state[parameter]:
                    self._start(parameter)
            if group["weight_decay"]:
                torch._foreach_mul_(moved, 1.0 - group["lr"] * group["weight_decay"])
            self._orthogonal_step([p for p in moved if _is_hidden_kernel(p)], group)
            self._adam_step([p for p in moved if not _is_hidden_kernel(p)], group)

    def _start(self, parameter: Tensor) -> None:
        state = self.state[parameter]
        state["mean"] = torch.zeros_like(parameter)
        if not _is_hidden_kernel(parameter):
            state["square"] = torch.zeros_like(parameter)
            state["step"] = torch.zeros((), device=parameter.device)

    def _orthogonal_step(self, kernels: list[Tensor], group: dict[str, Any]) -> None:
        if not kernels:
            return
        gradients = _gradients(kernels)
        means = [self.state[kernel]["mean"] for kernel in kernels]
        torch._foreach_lerp_(means, gradients, 1.0 - group["momentum"])
        alike: dict[torch.Size, list[int]] = defaultdict(list)
        for i, kernel in enumerate(kernels):
            alike[kernel.shape].append(i)
        ahead = torch._foreach_lerp(gradients, means, group["momentum"])
        moved: list[Tensor] = []
        updates: list[Tensor] = []
        for shape, members in alike.items():
            # As rows in the order of channels-last memory, which a view gives: the order of a
            # matrix' columns does not matter to its singular values.
            rows = [ahead[i].permute(0, 2, 3, 1).flatten(1) for i in members]
            size = _ADAM_RMS * max(rows[0].shape) ** 0.5
            result = orthogonal(torch.stack(rows)) * (size * group["lr"])
            n_out, n_in, height, width = shape
            result = result.view(-1, n_out, height, width, n_in).permute(0, 1, 4, 2, 3)
            moved += [kernels[i] for i in members]
            updates += list(result)
        torch._foreach_sub_(moved, updates)

    def _adam_step(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        if not parameters:
            return
        gradients = _gradients(parameters)
        means, squares, steps = (
            [self.state[parameter][name] for parameter in parameters]
            for name in ("mean", "square", "step")
        )
        torch._foreach_add_(steps, 1.0)
        torch._foreach_lerp_(means, gradients, 1.0 - _DECAY_1)
        torch._foreach_mul_(squares, _DECAY_2)
        torch._foreach_addcmul_(squares, gradients, gradients, 1.0 - _DECAY_2)
        # By hand: torch's AdamW would be a second optimiser, with a state of its own to capture,
        # to save and to resume. All parameters have made as many steps.
        rate = group["lr"] / (1.0 - _DECAY_1 ** steps[0])
        scale = (1.0 - _DECAY_2 ** steps[0]).sqrt()
        updates = torch._foreach_sqrt(squares)
        torch._foreach_div_(updates, scale)
        torch._foreach_add_(updates, _EPSILON)
        updates = torch._foreach_div(means, updates)
        torch._foreach_mul_(updates, rate)
        torch._foreach_sub_(parameters, updates)


def orthogonal(matrices: Tensor) -> Tensor:
    """(k, m, n) matrices with about the singular vectors of `matrices`, singular values near 1.

    In bfloat16, which suffices, where that is faster; else in their own precision.

    Source: the quintic Newton-Schulz iteration of Jordan et al. 2024.
    """
    a, b, c = _COEFFICIENTS
    X = matrices.bfloat16() if has_bfloat16(matrices.device) else matrices
    is_tall = X.shape[1] > X.shape[2]
    if is_tall:
        X = X.mT
    X = X / (X.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(_N_ITERATIONS):
        gram = X @ X.mT
        gram = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        X = torch.baddbmm(X, gram, X, beta=a)
    return (X.mT if is_tall else X).to(matrices.dtype)


def _gradients(parameters: list[Tensor]) -> list[Tensor]:
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


def _is_hidden_kernel(parameter: Tensor) -> bool:
    return parameter.ndim == 4 and parameter.shape[1] > _N_COLOURS
