"""A trained network with everything needed to use it: classes, normalisation, provenance."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from optuna_deepweeds import __version__
from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.training import checkpoint
from optuna_deepweeds.training.augment import Batches
from optuna_deepweeds.training.networks import build_network
from optuna_deepweeds.training.runtime import choose_device
from optuna_deepweeds.training.settings import read_settings

_KIND = "optuna_deepweeds model"
EVALUATION_BATCH = {"cuda": 1024, "cpu": 128}
"""Images scored at once. A GPU wants many; on the CPU, activations of few stay in its caches,
which takes a third less time and a quarter of the memory."""

SURE = 0.8
"""Probability of a class above which one view of an image suffices."""


def predict_logits(network: nn.Module, x: Tensor, *, views: int) -> Tensor:
    """Logits (batch, n_classes) whose softmax is the mean probability over `views` of `x`.

    An image keeps its first view alone where that gives a class more than `SURE`.

    Args:
        network: In evaluation mode.
        x: (batch, 3, size, size), normalised.
        views: One of `settings.VIEWS`.
    """
    first = network(x)
    if views == 1:
        return first
    first = first.log_softmax(1)
    is_unsure = first.amax(1, keepdim=True) < math.log(SURE)
    # Picking the unsure would wait for a GPU, and an exported graph has no place for it.
    picks = x.device.type == "cpu" and not torch.compiler.is_exporting()
    x, known = (x[is_unsure[:, 0]], first[is_unsure[:, 0]]) if picks else (x, first)
    seen = [x, x.flip(3)]
    if views >= 4:
        seen += [x.flip(2), x.flip(2, 3)]
    if views == 8:
        seen += [view.transpose(2, 3) for view in seen]
    # One after the other: together they would take `views` times the memory.
    logits = [network(v.contiguous(memory_format=torch.channels_last)) for v in seen[1:]]
    mean = torch.stack([known, *(one.log_softmax(1) for one in logits)]).logsumexp(0)
    return first.masked_scatter(is_unsure, mean) if picks else torch.where(is_unsure, mean, first)


@dataclass(kw_only=True)
class TrainedNetwork:
    """The end of a training run.

    Attributes:
        network: In evaluation mode, on the CPU.
        config: The configuration it was built and trained from.
        classes: Names of the outputs.
        mean: (3,) of the training images, in 0..255.
        std: (3,) likewise.
        dataset: Name of the data set.
        fingerprint: Digest of the data set.
        seed: Seed of the run.
        image_size: Sides of the images that it sees, in pixels.
        epoch: After which the network was so, from 1.
        curve: Validation accuracy after each epoch; NaN where validation images were trained on.
        train_losses: Mean training loss of each epoch.
        train_seconds: Time of all epochs, validation included.
    """

    network: nn.Module
    config: dict[str, Any]
    classes: tuple[str, ...]
    mean: Tensor
    std: Tensor
    dataset: str
    fingerprint: str
    seed: int
    image_size: int = 32
    epoch: int
    curve: tuple[float, ...]
    train_losses: tuple[float, ...]
    train_seconds: float

    @property
    def valid_accuracy(self) -> float:
        """Validation accuracy after `epoch`: of the network that this object holds."""
        return self.curve[self.epoch - 1]

    def predict_proba(
        self, images: NDArray[np.uint8], *, device: str | None = "cpu"
    ) -> NDArray[np.float32]:
        """Probabilities (n, n_classes) of uint8 RGB images (n, image_size, image_size, 3).

        Args:
            images: The images.
            device: As for `training.train`; None is the best there is.

        Raises:
            InvalidInputError: If the images have another form or there is no such device.
        """
        side = self.image_size
        if images.ndim != 4 or images.shape[1:] != (side, side, 3):
            raise InvalidInputError(
                f"images must have the shape (n, {side}, {side}, 3), but have {images.shape}."
            )
        if images.dtype != np.uint8:
            raise InvalidInputError(f"images must be of type uint8, but are {images.dtype}.")
        target = choose_device(device)
        network = self.network.to(target)
        resident = torch.tensor(images, device=target)
        batches = Batches(resident, self.mean.to(target), self.std.to(target))
        views = read_settings(self.config).views
        batch = EVALUATION_BATCH[target.type]
        parts = [torch.empty(0, len(self.classes), device=target)]
        try:
            with torch.inference_mode():
                for index in torch.arange(len(images), device=target).split(batch):
                    x = batches.plain(index)
                    parts.append(predict_logits(network, x, views=views).softmax(1))
            return torch.cat(parts).float().cpu().numpy()
        finally:
            self.network.to("cpu")

    def save(self, path: Path) -> None:
        """Write everything to one file; atomically."""
        content = {name: getattr(self, name) for name in self.__dataclass_fields__}
        content |= {"kind": _KIND, "version": __version__, "network": self.network.state_dict()}
        checkpoint.write(content, path)

    @classmethod
    def load(cls, path: Path) -> TrainedNetwork:
        """Read what `save` wrote; no code from the file is run.

        Raises:
            NotFoundError: If there is no such file.
            InvalidInputError: If it is damaged or no model file.
        """
        content = checkpoint.read(path, _KIND)
        try:
            return cls._from_content(content)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise InvalidInputError(
                f"{path} must be a complete model file, but: {reason}"
            ) from None

    @classmethod
    def _from_content(cls, content: Mapping[str, Any]) -> TrainedNetwork:
        classes = tuple(content["classes"])
        if not classes or not all(isinstance(name, str) for name in classes):
            raise ValueError("its classes must be names")
        size = content.get("image_size", 32)  # Files of earlier versions do not say so.
        network = build_network(content["config"], len(classes), image_size=size)
        network.load_state_dict(content["network"])
        for name in ("mean", "std"):
            values = content[name]
            if not (isinstance(values, Tensor) and values.shape == (3,)) or not values.any():
                raise ValueError(f"its {name} must be three numbers")
        lists: dict[str, Any] = {
            name: tuple(content[name]) for name in ("classes", "curve", "train_losses")
        }
        names = ("config", "mean", "std", "dataset", "fingerprint", "seed", "train_seconds")
        return cls(
            network=network.to(memory_format=torch.channels_last).eval(),
            image_size=size,
            epoch=content.get("epoch", len(lists["curve"])),  # Likewise.
            **lists,
            **{name: content[name] for name in names},
        )
