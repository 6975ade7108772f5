"""Devices, backend flags and memory of a training run; every global change is undone."""

from __future__ import annotations

import gc
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from optuna_deepweeds.errors import InvalidInputError

_EXPECTED_WARNINGS = (
    # The optimiser's first steps before a capture, and the last, smaller one of every epoch.
    "This instance was constructed with capturable=True",
    # Of pooling, see `backend`.
    ".*does not have a deterministic implementation",
)


def choose_device(name: str | None) -> torch.device:
    """The named device, or CUDA where there is any and else the CPU.

    Raises:
        InvalidInputError: If there is no such device.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InvalidInputError(
            f"device must be `cpu`, `cuda` or `cuda:N`, but is {name!r}."
        ) from None
    if device.type not in ("cpu", "cuda"):
        raise InvalidInputError(f"device must be `cpu`, `cuda` or `cuda:N`, but is {name!r}.")
    if device.type == "cuda":
        n_devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= n_devices:
            raise InvalidInputError(
                f"device must exist, but is {name!r} with {n_devices} CUDA devices here."
            )
    return device


def has_bfloat16(device: torch.device) -> bool:
    """Whether `device` multiplies numbers of 16 bits faster than those of 32."""
    # Of a private name, for want of a public one in all versions of torch; without it, no.
    return device.type == "cuda" or getattr(torch.cpu, "_is_avx512_bf16_supported", bool)()


@contextmanager
def backend(device: torch.device, *, deterministic: bool) -> Iterator[None]:
    """Set torch's global flags, and CUDA's current device, for a run and restore them."""
    if device.type != "cuda":
        yield  # the CPU operations in use are deterministic for a fixed number of threads
        return
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    if deterministic:
        # cuBLAS reads it when its handle is made; without it deterministic products warn.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        # Only a warning, as torch counts gradients of pooling among the doubtful operations in
        # some versions; windows that do not overlap, as ours, have nothing to add up.
        torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with (
            torch.cuda.device(device),
            # No trying out of kernels: it takes time in every new shape and batch size, and on
            # an H100 epochs were no faster by it.
            torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=deterministic),
            warnings.catch_warnings(),
        ):
            for message in _EXPECTED_WARNINGS:
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])


@contextmanager
def freed_memory(device: torch.device) -> Iterator[None]:
    """Give the allocator's cached CUDA memory back at the end, for other workers of the GPU."""
    if device.type == "cuda":
        gc.collect()  # What an earlier run left in circles; seldom collected, see `cli.main`.
    try:
        yield
    finally:
        if device.type == "cuda":
            torch.cuda.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """True if `error` is one of the ways in which torch says that memory ran out."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error)
    # The last two come from CUDA itself and from its libraries, which allocate on their own.
    signs = ("not enough memory", "can't allocate memory", "out of memory", "ALLOC_FAILED")
    return any(sign in text for sign in signs)
