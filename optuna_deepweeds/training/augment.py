"""Batches of a resident uint8 image tensor, augmented and normalised on its device.

Shift, flips and rotation are one indexed read: the source row and column of every output pixel
are computed and the batch is gathered with them, so augmentation costs no copies of images.
"""

from __future__ import annotations

import torch
from torch import Tensor

from optuna_deepweeds.training.settings import Settings


class Batches:
    """Reads normalised batches from images that lie on a device.

    Attributes:
        images: (n, size, size, 3) uint8.
        mean: (3,) float32, of the training images in 0..255.
        std: (3,) float32, likewise.
    """

    def __init__(self, images: Tensor, mean: Tensor, std: Tensor) -> None:
        self.images = images
        self.mean = mean
        self.std = std
        self._grid = torch.arange(images.shape[1], device=images.device)

    def plain(self, index: Tensor) -> Tensor:
        """Images `index`, (batch, 3, size, size) float32 in channels-last memory."""
        return self._normalise(self.images[index])

    def augmented(self, index: Tensor, settings: Settings, generator: torch.Generator) -> Tensor:
        """As `plain`, each image changed at random as `settings` allow."""
        if not settings.augments:
            return self.plain(index)
        x = self._normalise(self._moved(index, settings, generator))
        if settings.color_jitter > 0:
            x = _jitter(x, settings.color_jitter, generator)
        if settings.cutout:
            x = self._cut(x, settings.cutout, generator)
        return x

    def _normalise(self, images: Tensor) -> Tensor:
        # A permuted view of (batch, size, size, 3) is channels-last memory already.
        return ((images - self.mean) / self.std).permute(0, 3, 1, 2)

    def _moved(self, index: Tensor, settings: Settings, generator: torch.Generator) -> Tensor:
        n, last = len(index), len(self._grid) - 1
        device = index.device
        rows, columns = self._grid.view(1, -1, 1), self._grid.view(1, 1, -1)
        flip_rows = flip_columns = torch.zeros(n, 1, 1, dtype=torch.bool, device=device)
        if settings.rotate90:
            turns = torch.randint(4, (n, 1, 1), generator=generator, device=device)
            rows, columns = (
                torch.where(turns % 2 == 1, columns, rows),
                torch.where(turns % 2 == 1, rows, columns),
            )
            flip_rows, flip_columns = turns >= 2, (turns == 1) | (turns == 2)
        if settings.flips:
            coins = torch.randint(2, (2, n, 1, 1), generator=generator, device=device) == 1
            flip_rows, flip_columns = flip_rows ^ coins[0], flip_columns ^ coins[1]
        rows = torch.where(flip_rows, last - rows, rows)
        columns = torch.where(flip_columns, last - columns, columns)
        if settings.shift:
            reach = 2 * settings.shift + 1
            steps = torch.randint(reach, (2, n, 1, 1), generator=generator, device=device)
            rows, columns = rows + steps[0] - settings.shift, columns + steps[1] - settings.shift
            rows = last - (last - rows.abs()).abs()  # mirrored at both borders
            columns = last - (last - columns.abs()).abs()
        return self.images[index.view(-1, 1, 1), rows, columns]

    def _cut(self, x: Tensor, side: int, generator: torch.Generator) -> Tensor:
        n, size = len(x), len(self._grid)
        corner = torch.randint(size + side, (2, n, 1), generator=generator, device=x.device)
        inside = (self._grid < corner) & (self._grid >= corner - side)  # (2, n, size)
        hole = inside[0].view(n, 1, size, 1) & inside[1].view(n, 1, 1, size)
        return x.masked_fill(hole, 0.0)  # the mean colour, after normalisation


def _jitter(x: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Random brightness, contrast and saturation of each normalised image."""
    draws = torch.rand(3, len(x), 1, 1, 1, generator=generator, device=x.device)
    brightness, contrast, saturation = strength * (2.0 * draws - 1.0)
    gray = x.mean(dim=1, keepdim=True)
    return (gray + (x - gray) * (1.0 + saturation)) * (1.0 + contrast) + brightness


def mean_and_std(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each colour of uint8 `images` (n, size, size, 3).

    Computed from counts of the 256 values: exact, the same on every device, and without a
    float copy of the images.
    """
    values = torch.arange(256, dtype=torch.float64)
    means, stds = [], []
    for channel in range(images.shape[-1]):
        counts = torch.bincount(images[..., channel].reshape(-1), minlength=256).cpu().double()
        share = counts / counts.sum()
        mean = (share * values).sum()
        means.append(mean)
        stds.append((share * (values - mean) ** 2).sum().sqrt().clamp(min=1.0))
    return torch.stack(means).float(), torch.stack(stds).float()
