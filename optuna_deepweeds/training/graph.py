"""Capturing a training step as a CUDA graph.

Small networks and small batches are bound by the host, which launches some hundred kernels a
step; a graph replays them with one launch.

Source: "Whole-network capture" in the notes on CUDA semantics of the PyTorch documentation.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

_logger = logging.getLogger(__name__)
_SWITCH = "DEEPWEEDS_CUDA_GRAPHS"
_WARM_UP_STEPS = 3


class CapturedStep:
    """A step that the device repeats on the current content of the tensors that it reads."""

    def __init__(self, graph: torch.cuda.CUDAGraph) -> None:
        self._graph = graph

    def replay(self) -> None:
        """Run the step once more."""
        self._graph.replay()


def capture(
    step: Callable[[], None],
    weights: Sequence[Tensor],
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
) -> CapturedStep | None:
    """Capture `step`, leaving weights and optimiser state as they were.

    Args:
        step: Device operations only; it is run a few times first, as the allocator and the
            choice of kernels need it.
        weights: Every tensor of the networks that `step` changes.
        optimizer: Its state may not exist yet; state that the first runs made is set to zero,
            which is what every optimiser in use starts from.
        generator: The generator on the device that `step` draws from.

    Returns:
        The captured step, or None where capturing is switched off by DEEPWEEDS_CUDA_GRAPHS=0 or
        not possible, which is logged: the caller then runs the step itself.
    """
    if os.environ.get(_SWITCH) == "0":
        return None
    saved_weights = [tensor.clone() for tensor in weights]
    saved_state = {id(tensor): tensor.clone() for tensor in _state(optimizer)}
    graph = torch.cuda.CUDAGraph()
    captured: CapturedStep | None = None
    try:
        side = torch.cuda.Stream(device=generator.device)
        side.wait_stream(torch.cuda.current_stream(generator.device))
        with torch.cuda.stream(side):
            for _ in range(_WARM_UP_STEPS):
                step()
        torch.cuda.current_stream(generator.device).wait_stream(side)
        optimizer.zero_grad(set_to_none=True)  # gradients must come from the graph's own memory
        _register(graph, generator)
        # On the stream of the first runs, which the autograd nodes remember, and on this device,
        # which torch's own capture stream need not belong to.
        with torch.cuda.graph(graph, stream=side):
            step()
        captured = CapturedStep(graph)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        _logger.warning("Training without CUDA graphs, as capturing failed: %s", reason)
        optimizer.zero_grad(set_to_none=True)
    with torch.no_grad():
        for tensor, value in zip(weights, saved_weights, strict=True):
            tensor.copy_(value)
        for tensor in _state(optimizer):
            if id(tensor) in saved_state:
                tensor.copy_(saved_state[id(tensor)])
            else:
                tensor.zero_()
    return captured


def _register(graph: torch.cuda.CUDAGraph, generator: torch.Generator) -> None:
    """Let every replay draw anew from `generator`; newer versions of torch do so by themselves."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if hasattr(graph, "register_generator_state"):
            graph.register_generator_state(generator)


def _state(optimizer: torch.optim.Optimizer) -> Iterator[Tensor]:
    for values in optimizer.state.values():
        for value in values.values():
            if isinstance(value, Tensor):
                yield value
