"""Batches: what augmentation may change and what it may not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from optuna_deepweeds.training.augment import Batches, mean_and_std
from optuna_deepweeds.training.settings import Settings


def settings(**values: Any) -> Settings:
    return Settings(batch_size=1, learning_rate_init=1.0, **values)


@pytest.fixture
def batches() -> Batches:
    images = torch.from_numpy(
        np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    )
    return Batches(images, torch.zeros(3), torch.ones(3))


def augmented(batches: Batches, n: int = 200, **values: Any) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    index = torch.zeros(n, dtype=torch.int64)
    return batches.augmented(index, settings(**values), generator)


def variants(x: torch.Tensor) -> set[bytes]:
    return {image.contiguous().numpy().tobytes() for image in x}


def dihedral(image: torch.Tensor, *, flips: bool, turns: bool) -> set[bytes]:
    found = set()
    for k in range(4) if turns else (0,):
        turned = torch.rot90(image, k, (1, 2))
        for axes in ([], [1], [2], [1, 2]) if flips else ([],):
            found |= variants(torch.flip(turned, axes)[None])
    return found


def test_plain_batch_is_normalised_and_channels_last() -> None:
    images = torch.randint(0, 256, (6, 32, 32, 3), dtype=torch.uint8)
    mean, std = mean_and_std(images)
    x = Batches(images, mean, std).plain(torch.arange(6))
    assert x.shape == (6, 3, 32, 32)
    assert x.is_contiguous(memory_format=torch.channels_last)
    assert x.mean(dim=(0, 2, 3)).abs().max() < 1e-4
    assert (x.std(dim=(0, 2, 3), correction=0) - 1).abs().max() < 1e-4
    mean, std = mean_and_std(torch.full((2, 32, 32, 3), 7, dtype=torch.uint8))
    assert (mean.tolist(), std.tolist()) == ([7.0] * 3, [1.0] * 3)  # No division by zero.


@pytest.mark.parametrize(
    ("flips", "turns", "count"),
    [(False, False, 1), (True, False, 4), (False, True, 4), (True, True, 8)],
)
def test_mirrors_and_turns_are_exactly_the_expected_ones(
    batches: Batches, flips: bool, turns: bool, count: int
) -> None:
    seen = variants(augmented(batches, flips=flips, rotate90=turns))
    expected = dihedral(
        batches.plain(torch.zeros(1, dtype=torch.int64))[0], flips=flips, turns=turns
    )
    assert len(expected) == count
    assert seen == expected


def test_shift_mirrors_the_border(batches: Batches) -> None:
    image = batches.plain(torch.zeros(1, dtype=torch.int64))[0]
    padded = torch.nn.functional.pad(image[None], (2, 2, 2, 2), mode="reflect")[0]
    expected = set()
    for row in range(5):
        for column in range(5):
            expected |= variants(padded[None, :, row : row + 32, column : column + 32])
    assert variants(augmented(batches, n=600, shift=2)) == expected


def test_cutout_replaces_at_most_a_square(batches: Batches) -> None:
    batches.images.fill_(9)
    holes = (augmented(batches, cutout=8) == 0).all(dim=1)
    assert holes.flatten(1).sum(1).max() == 64
    assert (holes.any(dim=2).sum(1) <= 8).all()
    assert (holes.any(dim=1).sum(1) <= 8).all()


def test_jitter_keeps_places_and_changes_each_image_alone(batches: Batches) -> None:
    batches.images.fill_(100)
    x = augmented(batches, color_jitter=0.3)
    assert (x.amax(dim=(2, 3)) - x.amin(dim=(2, 3))).max() < 1e-3
    assert len(x[:, 0, 0, 0].unique()) > 100


def test_same_generator_same_batch(batches: Batches) -> None:
    options = {"flips": True, "rotate90": True, "shift": 4, "color_jitter": 0.2, "cutout": 6}
    assert torch.equal(augmented(batches, **options), augmented(batches, **options))
