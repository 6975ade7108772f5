"""Triton kernels of batch norm, max pooling and ReLU in one; `fused_norm.py` tells what they do.

An image batch is a matrix here: its channels-last memory has a row for every pixel and a column
for every channel. A window is the one pixel or the 2x2 pixels that become one pixel of the
output; `PIXELS` (1 or 4) of them are numbered by `k` in reading order. C = 8 * `n_octets`: the
factor tells the compiler how wide it may read. Sums are float32 throughout.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_TILE_ROWS, _TILE_COLUMNS = 64, 64
_FEWEST_COLUMNS = 32
_TILES_A_PROGRAM = 4  # of a reduction, whose sums another kernel adds up: it takes time as well
_MOST_PROGRAMS = 1024  # several for each multiprocessor of any GPU
_NO_GRADIENT = tl.constexpr(4)  # as number of a pixel: ReLU gave zero

# Compiled once for all sizes: a search meets too many of them.
_compiled = triton.jit(do_not_specialize=["n_rows", "n_programs", "n_octets", "width"])


@triton.jit
def _tile(n_rows, first, n_octets, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Offsets of a tile of a matrix, and which of them lie inside; int64 for large batches."""
    C = n_octets * 8
    rows = first + tl.arange(0, ROWS)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = (rows < n_rows)[:, None] & (columns < C)[None, :]
    return rows, columns, rows.to(tl.int64)[:, None] * C + columns[None, :], inside


@triton.jit
def _pixel(rows, columns, width, k: tl.constexpr, C, PIXELS: tl.constexpr):
    """Offsets of the pixels numbered `k` in the windows `rows`; `width` is the output's."""
    if PIXELS == 1:
        source = rows.to(tl.int64)
    else:
        # Row t of the output's pixels, over all images, has the rows 2t and 2t + 1 of the input.
        t = (rows // width).to(tl.int64)
        source = (2 * t + k // 2) * (2 * width) + 2 * (rows % width) + k % 2
    return source[:, None] * C + columns[None, :]


@_compiled
def statistics(x, partial, n_rows, n_octets, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Number, mean and sum of squared deviations of a share of the rows, (3, programs, C).

    Source: Chan et al. 1979, "Updating formulae and a pairwise algorithm for computing sample
    variances", equation 2.1.
    """
    C = n_octets * 8
    program, n_programs = tl.program_id(0), tl.num_programs(0)
    count = 0.0
    mean = tl.zeros([COLUMNS], tl.float32)
    squares = tl.zeros([COLUMNS], tl.float32)
    for first in range(program * ROWS, n_rows, n_programs * ROWS):
        rows, columns, offsets, inside = _tile(n_rows, first, n_octets, ROWS, COLUMNS)
        values = tl.load(x + offsets, inside, other=0.0).to(tl.float32)
        n = tl.minimum(n_rows - first, ROWS).to(tl.float32)
        tile_mean = tl.sum(values, 0) / n
        deviations = tl.where(inside, values - tile_mean[None, :], 0.0)
        change = tile_mean - mean
        share = n / (count + n)
        squares += tl.sum(deviations * deviations, 0) + change * change * count * share
        mean += change * share
        count += n
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    target = partial + program * C + columns
    plane = n_programs * C
    tl.store(target, tl.zeros([COLUMNS], tl.float32) + count, columns < C)
    tl.store(target + plane, mean, columns < C)
    tl.store(target + 2 * plane, squares, columns < C)


@_compiled
def finish_statistics(
    partial, mean_out, invstd_out, running_mean, running_var, tracked, momentum, eps,
    n_programs, n_rows, n_octets, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Mean and 1 / standard deviation of each channel (C,); moves the running ones."""
    C = n_octets * 8
    plane = n_programs * C
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    mean = tl.zeros([COLUMNS], tl.float32)
    for first in range(0, n_programs, ROWS):
        _, _, offsets, inside = _tile(n_programs, first, n_octets, ROWS, COLUMNS)
        count = tl.load(partial + offsets, inside, other=0.0)
        mean += tl.sum(count * tl.load(partial + plane + offsets, inside, other=0.0), 0)
    mean /= n_rows
    squares = tl.zeros([COLUMNS], tl.float32)
    for first in range(0, n_programs, ROWS):
        _, _, offsets, inside = _tile(n_programs, first, n_octets, ROWS, COLUMNS)
        count = tl.load(partial + offsets, inside, other=0.0)
        change = tl.load(partial + plane + offsets, inside, other=0.0) - mean[None, :]
        squares += tl.sum(tl.load(partial + 2 * plane + offsets, inside, other=0.0), 0)
        squares += tl.sum(tl.where(inside, count * change * change, 0.0), 0)
    valid = columns < C
    tl.store(mean_out + columns, mean, valid)
    tl.store(invstd_out + columns, 1.0 / tl.sqrt(squares / n_rows + eps), valid)
    old_mean = tl.load(running_mean + columns, valid, other=0.0)
    old_var = tl.load(running_var + columns, valid, other=0.0)
    variance = squares / (n_rows - 1)
    tl.store(running_mean + columns, old_mean + momentum * (mean - old_mean), valid)
    tl.store(running_var + columns, old_var + momentum * (variance - old_var), valid)
    if tl.program_id(1) == 0:
        tl.store(tracked, tl.load(tracked) + 1)


@_compiled
def apply(
    x, mean, invstd, weight, bias, y, chosen, kept, n_rows, width, n_octets,
    PIXELS: tl.constexpr, RELU: tl.constexpr, SAVE: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """The output `y`, and for the gradient which pixel it came from and that pixel's input."""
    C = n_octets * 8
    rows, columns, offsets, inside = _tile(
        n_rows, tl.program_id(0) * ROWS, n_octets, ROWS, COLUMNS
    )
    valid = columns < C
    scale = tl.load(weight + columns, valid, other=0.0)
    scale *= tl.load(invstd + columns, valid, other=0.0)
    shift = tl.load(bias + columns, valid, other=0.0)
    shift -= scale * tl.load(mean + columns, valid, other=0.0)
    source = tl.load(x + _pixel(rows, columns, width, 0, C, PIXELS), inside, other=0.0)
    value = source.to(tl.float32)
    best = value * scale[None, :] + shift[None, :]
    number = tl.zeros([ROWS, COLUMNS], tl.int32)
    for k in tl.static_range(1, PIXELS):
        source = tl.load(x + _pixel(rows, columns, width, k, C, PIXELS), inside, other=0.0)
        other = source.to(tl.float32)
        result = other * scale[None, :] + shift[None, :]
        better = result > best
        best = tl.where(better, result, best)
        value = tl.where(better, other, value)
        number = tl.where(better, k, number)
    if RELU:
        # Comparisons with NaN are false: it stays NaN, as it must to be noticed.
        number = tl.where(best <= 0.0, _NO_GRADIENT, number)
        best = tl.where(best <= 0.0, 0.0, best)
    tl.store(y + offsets, best.to(y.dtype.element_ty), inside)
    if SAVE:
        tl.store(chosen + offsets, number.to(tl.uint8), inside)
        if PIXELS > 1:
            tl.store(kept + offsets, value.to(kept.dtype.element_ty), inside)


@_compiled
def gradient_sums(
    dy, chosen, kept, mean, partial, n_rows, n_octets, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):
    """Sums of the gradient and of gradient x (input - mean) over a share of the windows."""
    C = n_octets * 8
    program, n_programs = tl.program_id(0), tl.num_programs(0)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    center = tl.load(mean + columns, columns < C, other=0.0)
    plain = tl.zeros([COLUMNS], tl.float32)
    weighted = tl.zeros([COLUMNS], tl.float32)
    for first in range(program * ROWS, n_rows, n_programs * ROWS):
        _, _, offsets, inside = _tile(n_rows, first, n_octets, ROWS, COLUMNS)
        flows = tl.load(chosen + offsets, inside, other=4) < _NO_GRADIENT
        # A condition on data in the load itself would have it read value by value.
        gradient = tl.load(dy + offsets, inside, other=0.0).to(tl.float32)
        gradient = tl.where(flows, gradient, 0.0)
        value = tl.load(kept + offsets, inside, other=0.0).to(tl.float32)
        plain += tl.sum(gradient, 0)
        weighted += tl.sum(gradient * (value - center[None, :]), 0)
    target = partial + program * C + columns
    tl.store(target, plain, columns < C)
    tl.store(target + n_programs * C, weighted, columns < C)


@_compiled
def finish_gradient_sums(
    partial, invstd, d_weight, d_bias, n_programs, n_octets,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Gradients of weight and bias (C,)."""
    C = n_octets * 8
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    plain = tl.zeros([COLUMNS], tl.float32)
    weighted = tl.zeros([COLUMNS], tl.float32)
    for first in range(0, n_programs, ROWS):
        _, _, offsets, inside = _tile(n_programs, first, n_octets, ROWS, COLUMNS)
        plain += tl.sum(tl.load(partial + offsets, inside, other=0.0), 0)
        plane = n_programs * C
        weighted += tl.sum(tl.load(partial + plane + offsets, inside, other=0.0), 0)
    valid = columns < C
    tl.store(d_bias + columns, plain, valid)
    tl.store(d_weight + columns, weighted * tl.load(invstd + columns, valid, other=0.0), valid)


@_compiled
def input_gradient(
    dy, chosen, x, mean, invstd, weight, d_weight, d_bias, dx, n_rows, width, n_octets,
    PIXELS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Gradient of the input: Ioffe & Szegedy 2015, "Batch Normalization", section 3."""
    C = n_octets * 8
    rows, columns, offsets, inside = _tile(
        n_rows, tl.program_id(0) * ROWS, n_octets, ROWS, COLUMNS
    )
    valid = columns < C
    n_values = n_rows.to(tl.float32) * PIXELS
    inverse = tl.load(invstd + columns, valid, other=0.0)
    scale = inverse * tl.load(weight + columns, valid, other=0.0)
    slope = scale * inverse * tl.load(d_weight + columns, valid, other=0.0) / n_values
    level = scale * tl.load(d_bias + columns, valid, other=0.0) / n_values
    level -= slope * tl.load(mean + columns, valid, other=0.0)
    number = tl.load(chosen + offsets, inside, other=4)
    gradient = tl.load(dy + offsets, inside, other=0.0).to(tl.float32) * scale[None, :]
    for k in tl.static_range(PIXELS):
        pixels = _pixel(rows, columns, width, k, C, PIXELS)
        value = tl.load(x + pixels, inside, other=0.0).to(tl.float32)
        result = tl.where(number == k, gradient, 0.0) - value * slope[None, :] - level[None, :]
        tl.store(dx + pixels, result.to(dx.dtype.element_ty), inside)


def _columns(C: int) -> int:
    return _TILE_COLUMNS if C > _FEWEST_COLUMNS else _FEWEST_COLUMNS


def _grid(n_rows: int, C: int) -> tuple[int, int]:
    """One program for each tile."""
    return triton.cdiv(n_rows, _TILE_ROWS), triton.cdiv(C, _columns(C))


def _reduction_grid(n_rows: int, C: int) -> tuple[int, int]:
    """Programs that share the rows; as many as `finish_...` reads at once cost nothing there."""
    n_tiles, n_columns = _grid(n_rows, C)
    n = min(n_tiles // _TILES_A_PROGRAM, _MOST_PROGRAMS // n_columns)
    return min(n_tiles, max(_TILE_ROWS, n)), n_columns


def batch_statistics(
    x: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    tracked: Tensor,
    momentum: float,
    eps: float,
) -> tuple[Tensor, Tensor]:
    """Mean and 1 / standard deviation (C,) of `x` (n, C, h, w); moves the running ones."""
    C = x.shape[1]
    n_rows = x.numel() // C
    tile = {"ROWS": _TILE_ROWS, "COLUMNS": _columns(C)}
    programs, n_columns = _reduction_grid(n_rows, C)
    partial = torch.empty(3, programs, C, device=x.device)
    mean, invstd = torch.empty(2, C, device=x.device)
    statistics[programs, n_columns](x, partial, n_rows, C // 8, **tile)
    finish_statistics[1, n_columns](
        partial, mean, invstd, running_mean, running_var, tracked, momentum, eps,
        programs, n_rows, C // 8, **tile,
    )  # fmt: skip
    return mean, invstd


def forward(
    x: Tensor,
    mean: Tensor,
    invstd: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    window: int,
    relu: bool,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Output (n, C, h / window, w / window), and `chosen` and `kept` for `backward`."""
    n, C, height, width = x.shape
    shape = (n, C, height // window, width // window)
    y = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    chosen, kept = x, x
    if save:
        chosen = torch.empty_like(y, dtype=torch.uint8)
        kept = x if window == 1 else torch.empty_like(y)
    n_rows = y.numel() // C
    apply[_grid(n_rows, C)](
        x, mean, invstd, weight, bias, y, chosen, kept, n_rows, shape[3], C // 8,
        PIXELS=window * window, RELU=relu, SAVE=save, ROWS=_TILE_ROWS, COLUMNS=_columns(C),
    )  # fmt: skip
    return y, chosen, kept


def backward(
    dy: Tensor,
    x: Tensor,
    chosen: Tensor,
    kept: Tensor,
    mean: Tensor,
    invstd: Tensor,
    weight: Tensor,
    *,
    window: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of input, weight and bias for the gradient `dy` of the output."""
    C = x.shape[1]
    n_rows = dy.numel() // C
    tile = {"ROWS": _TILE_ROWS, "COLUMNS": _columns(C)}
    programs, n_columns = _reduction_grid(n_rows, C)
    partial = torch.empty(2, programs, C, device=x.device)
    d_weight, d_bias = torch.empty(2, C, device=x.device)
    gradient_sums[programs, n_columns](dy, chosen, kept, mean, partial, n_rows, C // 8, **tile)
    finish_gradient_sums[1, n_columns](partial, invstd, d_weight, d_bias, programs, C // 8, **tile)
    dx = torch.empty_like(x)
    input_gradient[_grid(n_rows, C)](
        dy, chosen, x, mean, invstd, weight, d_weight, d_bias, dx, n_rows, dy.shape[3], C // 8,
        PIXELS=window * window, **tile,
    )  # fmt: skip
    return dx, d_weight, d_bias
