"""One training run on its device: resident tensors, the step, the epoch, its state."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from optuna_deepweeds.datasets.dataset import Dataset
from optuna_deepweeds.errors import TrainingInterrupted
from optuna_deepweeds.schema import require
from optuna_deepweeds.training import runtime
from optuna_deepweeds.training.augment import Batches, mean_and_std
from optuna_deepweeds.training.fused_norm import fuse
from optuna_deepweeds.training.graph import CapturedStep, capture
from optuna_deepweeds.training.muon import Muon
from optuna_deepweeds.training.networks import SeededDropout, build_network
from optuna_deepweeds.training.padding import Padding, parameter_groups
from optuna_deepweeds.training.schedule import learning_rates
from optuna_deepweeds.training.settings import Settings, read_settings
from optuna_deepweeds.training.trained import (
    EVALUATION_BATCH,
    TrainedNetwork,
    predict_logits,
)

_TENSOR_CORE_MULTIPLE = 8
# Full steps an epoch below which capturing costs more than it saves.
_CAPTURE_FROM = 8
Kept = tuple[int, Mapping[str, Tensor]]
"""An epoch, and the weights and statistics of the network after it."""
# Streams of one seed; a stream is never used for two purposes.
_INITIAL, _DEVICE = 0, 1


class Session:
    """Holds a run's tensors; `epoch` advances it.

    Notation: n training images, `batch` images a step, `steps` steps an epoch, the last of
    which may be smaller. `position` (images taken in this epoch) and `step` (steps of the whole
    run) are tensors on the device, so that a step can be captured as a CUDA graph. The network
    on the device may be wider than its configuration says, see `padding.py`.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        data: Dataset,
        *,
        seed: int,
        epochs: int,
        device: torch.device,
        train_on: str,
        width_multiple: int | None = None,
    ) -> None:
        height, width = data.images.shape[1:3]
        require(height == width, "height == width", height=height, width=width)
        self._image_size = int(height)
        self.config = dict(config)
        self.settings: Settings = read_settings(config)
        self._seed = seed
        self._device = device
        self._data = data
        trains = data.train if train_on == "train" else np.concatenate([data.train, data.valid])
        valid = data.valid if train_on == "train" else data.valid[:0]
        mean, std = mean_and_std(torch.from_numpy(data.images[data.train]).to(device))
        self._mean, self._std = mean, std
        self._train, self._train_labels = self._resident(trains)
        self._valid, self._valid_labels = self._resident(valid)

        self._n = len(trains)
        self._batch = min(self.settings.batch_size, self._n)
        self._steps = -(-self._n // self._batch)
        self._generator = torch.Generator(device=device)
        self._tables(epochs)
        if width_multiple is None:
            width_multiple = _TENSOR_CORE_MULTIPLE if device.type == "cuda" else 1
        self._build(width_multiple)
        self._captured: CapturedStep | None = None
        self._may_capture = device.type == "cuda"

    def _resident(self, indices: np.ndarray) -> tuple[Batches, Tensor]:
        images = torch.from_numpy(self._data.images[indices]).to(self._device)
        labels = torch.from_numpy(self._data.labels[indices]).to(self._device)
        return Batches(images, self._mean.to(self._device), self._std.to(self._device)), labels

    def _tables(self, epochs: int) -> None:
        settings, device, total = self.settings, self._device, epochs * self._steps
        rates = learning_rates(
            settings.schedule, settings.learning_rate_init, total, settings.warmup_share
        )
        self._rates = torch.from_numpy(rates).to(device)
        self._order = torch.zeros(self._n, dtype=torch.int64, device=device)
        self._offsets = torch.arange(self._batch, device=device)
        self._position = torch.zeros(1, dtype=torch.int64, device=device)
        self._step = torch.zeros(1, dtype=torch.int64, device=device)
        self._loss_sum = torch.zeros((), device=device)

    def _build(self, width_multiple: int) -> None:
        initial = torch.Generator().manual_seed(_derive(self._seed, _INITIAL, 0))
        exact = self._new_network(self.config, initial)
        self._padding = Padding(self.config, exact, width_multiple)
        self._network = self._placed(self._widened(exact.state_dict()))
        for module in self._network.modules():
            if isinstance(module, SeededDropout):
                module.generator = self._generator
        self._rate = torch.tensor(self.settings.learning_rate_init, device=self._device)
        self._optimizer = _optimizer(self.settings, self._network, self._rate)

    def _widened(self, state: Mapping[str, Tensor]) -> nn.Module:
        network = self._new_network(self._padding.config)
        network.load_state_dict(self._padding.widened(state, network))
        return network

    def _new_network(
        self, config: Mapping[str, Any], generator: torch.Generator | None = None
    ) -> nn.Module:
        n_classes = len(self._data.classes)
        return build_network(config, n_classes, generator, image_size=self._image_size)

    def _placed(self, network: nn.Module) -> nn.Module:
        network = network.to(device=self._device).to(memory_format=torch.channels_last)
        if self._device.type == "cuda":
            fuse(network, self._device)
        return network

    def epoch(
        self, number: int, should_stop: Callable[[], bool] | None = None
    ) -> tuple[float, float]:
        """Train for one epoch (from 1) and return mean training loss and validation accuracy.

        Raises:
            TrainingInterrupted: If `should_stop`, asked before every step, returned true.
        """
        self._begin(number)
        full = self._n // self._batch
        self._network.train()
        if self._may_capture and full >= _CAPTURE_FROM:
            self._captured = capture(
                lambda: self._train_step(self._batch),
                [*self._network.state_dict().values()],
                self._optimizer,
                self._generator,
            )
            self._may_capture = False
            self._begin(number)
        for _ in range(full):
            if should_stop is not None and should_stop():
                raise TrainingInterrupted
            if self._captured is not None:
                self._captured.replay()
            else:
                self._train_step(self._batch)
        if self._n % self._batch:
            self._train_step(self._n % self._batch)
        correct = self._evaluate()
        # The only wait of the epoch.
        loss_sum, n_correct = torch.stack([self._loss_sum.double(), correct.double()]).tolist()
        n_valid = len(self._valid_labels)
        return loss_sum / self._n, n_correct / n_valid if n_valid else float("nan")

    def _begin(self, number: int) -> None:
        self._generator.manual_seed(_derive(self._seed, _DEVICE, number))
        order = torch.randperm(self._n, generator=self._generator, device=self._device)
        self._order.copy_(order)
        self._position.zero_()
        self._step.fill_((number - 1) * self._steps)
        self._loss_sum.zero_()

    def _train_step(self, size: int) -> None:
        """One step on the next `size` images; only device operations, so it can be captured."""
        settings = self.settings
        index = self._order.index_select(0, self._position + self._offsets[:size])
        self._rate.copy_(self._rates.index_select(0, self._step)[0])
        x = self._train.augmented(index, settings, self._generator)
        labels = self._train_labels.index_select(0, index)
        with self._autocast():
            loss = functional.cross_entropy(
                self._network(x), labels, label_smoothing=settings.label_smoothing
            )
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._optimizer.step()
        self._loss_sum += loss.detach() * size
        self._position += size
        self._step += 1

    def _autocast(self) -> torch.autocast:
        # The weight cache keeps casts of a step that a captured graph would not see renewed.
        return torch.autocast(
            self._device.type,
            dtype=torch.bfloat16,
            enabled=runtime.has_bfloat16(self._device),
            cache_enabled=False,
        )

    @torch.inference_mode()
    def _evaluate(self) -> Tensor:
        """Number of validation images classified correctly, as a tensor on the device."""
        network = self._network.eval()
        correct = torch.zeros((), dtype=torch.int64, device=self._device)
        if not len(self._valid_labels):
            return correct
        indices = torch.arange(len(self._valid_labels), device=self._device)
        with self._autocast():
            for index in indices.split(EVALUATION_BATCH[self._device.type]):
                x = self._valid.plain(index)
                logits = predict_logits(network, x, views=self.settings.views)
                correct += (logits.argmax(1) == self._valid_labels[index]).sum()
        return correct

    def state(self) -> dict[str, Any]:
        """Weights and optimiser state after an epoch; all else follows from seed and epoch."""
        cut = self._padding.cut
        return {
            "network": cut(self._network.state_dict()),
            "optimizer": self._padding.cut_optimizer(self._optimizer.state_dict()),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` returned."""
        widened, network = self._padding.widened, self._network
        network.load_state_dict(widened(state["network"], network))
        self._optimizer.load_state_dict(
            self._padding.widened_optimizer(state["optimizer"], network)
        )
        for parameter, values in self._optimizer.state.items():
            for name, value in values.items():
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    # The fused optimisers walk through memory: its order must be the parameter's.
                    values[name] = torch.empty_like(parameter).copy_(value)
        for group in self._optimizer.param_groups:
            group["lr"] = self._rate  # loading put a copy there, which no table reaches

    def trained(
        self,
        curve: tuple[float, ...],
        losses: tuple[float, ...],
        seconds: float,
        best: Kept | None = None,
    ) -> TrainedNetwork:
        """The network as it would be used, moved to the CPU: as it is, or as it was after the
        epoch that `best` names, with the weights there."""
        network = self._new_network(self.config)
        epoch, weights = best or (len(curve), self._padding.cut(self._network.state_dict()))
        network.load_state_dict(weights)
        return TrainedNetwork(
            network=network.to(memory_format=torch.channels_last).eval(),
            config=self.config,
            classes=self._data.classes,
            image_size=self._image_size,
            mean=self._mean,
            std=self._std,
            dataset=self._data.name,
            fingerprint=self._data.fingerprint,
            seed=self._seed,
            epoch=epoch,
            curve=curve,
            train_losses=losses,
            train_seconds=seconds,
        )

    def release(self) -> None:
        """Drop every tensor, also where a traceback still holds this object."""
        self.__dict__.clear()


def _optimizer(settings: Settings, network: nn.Module, rate: Tensor) -> torch.optim.Optimizer:
    """The optimiser, fused where torch has it; its learning rate is the tensor `rate`."""
    decayed, others = parameter_groups(network)
    groups: list[dict[str, Any]] = [
        {"params": decayed, "weight_decay": settings.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(
            groups, lr=rate, momentum=settings.momentum, nesterov=settings.momentum > 0, fused=True
        )
    if settings.optimizer == "muon":
        return Muon(groups, rate, settings.momentum)
    kind = torch.optim.Adam if settings.optimizer == "adam" else torch.optim.AdamW
    return kind(groups, lr=rate, fused=True, capturable=rate.is_cuda)


def _derive(seed: int, stream: int, epoch: int) -> int:
    """A 63-bit seed for one purpose in one epoch."""
    state = np.random.SeedSequence([seed, stream, epoch]).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))
