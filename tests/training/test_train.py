"""`train`: curves, seeds, resuming, failures and sizes."""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch

from optuna_deepweeds.datasets.dataset import Dataset
from optuna_deepweeds.errors import (
    DivergedError,
    InvalidInputError,
    NotFoundError,
    OutOfMemoryError,
    TrainingInterrupted,
)
from optuna_deepweeds.spaces import SPACES
from optuna_deepweeds.training import EpochReport, train
from optuna_deepweeds.training.session import Session
from tests.training.conftest import make_squares

EVERYTHING = {
    "optimizer": "sgd",
    "momentum": 0.8,
    "weight_decay": 1e-3,
    "schedule": "one_cycle",
    "label_smoothing": 0.1,
    "flips": True,
    "rotate90": True,
    "shift": 3,
    "color_jitter": 0.2,
    "cutout": 8,
    "mixup": 0.2,
    "ema_decay": 0.9,
    "views": 8,
}

MODERN = {
    "n_stages": 2, "n_blocks": 1, "width": 8, "width_factor": 1.5, "dropout_rate": 0.1,
    "batch_size": 16, "learning_rate_init": 0.01,
}  # fmt: skip


def test_learns_the_colours(squares: Dataset, small: dict[str, Any]) -> None:
    network = train(small, squares, seed=0, epochs=8, device="cpu")
    assert network.valid_accuracy >= 0.9
    assert network.curve[-1] == network.valid_accuracy
    predicted = network.predict_proba(squares.images[squares.test]).argmax(axis=1)
    assert (predicted == squares.labels[squares.test]).mean() >= 0.8


def test_valid_accuracy_is_that_of_the_returned_network(
    squares: Dataset, small: dict[str, Any]
) -> None:
    network = train({**small, **EVERYTHING}, squares, seed=0, epochs=3, device="cpu")
    predicted = network.predict_proba(squares.images[squares.valid]).argmax(axis=1)
    assert network.valid_accuracy == (predicted == squares.labels[squares.valid]).mean()


def test_same_seed_same_curve_and_other_seed_other_curve(
    squares: Dataset, small: dict[str, Any]
) -> None:
    first, again, other = (
        train(small, squares, seed=seed, epochs=2, device="cpu") for seed in (3, 3, 4)
    )
    assert first.train_losses == again.train_losses
    assert first.train_losses != other.train_losses


def test_global_generators_are_left_alone(squares: Dataset, small: dict[str, Any]) -> None:
    before = (torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate())  # noqa: NPY002
    train({**small, **EVERYTHING}, squares, seed=0, epochs=1, device="cpu")
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002
    assert before[2] == random.getstate()


@pytest.mark.parametrize(
    "extra",
    [
        {},
        EVERYTHING,
        {"optimizer": "adamw", "schedule": "cosine"},
        {"optimizer": "muon"},
        *({**MODERN, **EVERYTHING, "block": block} for block in ("residual", "plain")),
    ],
)
def test_resumed_run_ends_as_the_uninterrupted_one(
    squares: Dataset, small: dict[str, Any], extra: dict[str, Any], tmp_path: Path
) -> None:
    config = extra if "block" in extra else {**small, **extra}
    path = tmp_path / "trial.pt"

    class Stop(Exception):
        pass

    def stop(report: EpochReport) -> None:
        if report.epoch == 2:
            report.save(path)
            raise Stop

    whole = train(config, squares, seed=5, epochs=4, device="cpu")
    with pytest.raises(Stop):
        train(config, squares, seed=5, epochs=4, device="cpu", on_epoch=stop)
    seen: list[EpochReport] = []
    known: list[Sequence[float]] = []
    resumed = train(
        config, squares, seed=5, epochs=4, device="cpu", resume_from=path, on_epoch=seen.append,
        on_resume=known.append,
    )  # fmt: skip
    assert [report.epoch for report in seen] == [3, 4]
    assert known == [whole.curve[:2]]
    assert resumed.curve == whole.curve
    assert resumed.train_losses == whole.train_losses
    for one, other in zip(
        whole.network.state_dict().values(), resumed.network.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other)


def test_checkpoint_of_the_last_epoch_gives_the_network_without_training(
    squares: Dataset, small: dict[str, Any], tmp_path: Path
) -> None:
    path, seen = tmp_path / "trial.pt", []
    whole = train(small, squares, seed=1, epochs=2, on_epoch=lambda r: r.save(path), device="cpu")
    again = train(
        small, squares, seed=1, epochs=2, resume_from=path, on_epoch=seen.append, device="cpu"
    )
    assert seen == []
    images = squares.images[squares.test]
    assert np.array_equal(whole.predict_proba(images), again.predict_proba(images))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 2}, "seed"),
        ({"epochs": 5}, "epochs"),
        ({"train_on": "train+valid"}, "train_on"),
    ],
)
def test_checkpoint_of_another_run_is_refused(
    squares: Dataset, small: dict[str, Any], tmp_path: Path, change: dict[str, Any], named: str
) -> None:
    path = tmp_path / "trial.pt"
    arguments: dict[str, Any] = {"seed": 1, "epochs": 2, "device": "cpu"}
    train(small, squares, on_epoch=lambda report: report.save(path), **arguments)
    with pytest.raises(InvalidInputError, match=f"its {named} is"):
        train(small, squares, resume_from=path, **{**arguments, **change})
    with pytest.raises(InvalidInputError, match="its config is"):
        train({**small, "batch_size": 8}, squares, resume_from=path, **arguments)
    with pytest.raises(InvalidInputError, match="its fingerprint is"):
        train(small, replace(squares, fingerprint="x"), resume_from=path, **arguments)


def test_missing_checkpoint_is_not_found(
    squares: Dataset, small: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(NotFoundError, match="nothing.pt"):
        train(small, squares, seed=0, device="cpu", resume_from=tmp_path / "nothing.pt")


@pytest.mark.parametrize("batch_size", [1, 7, 31, 32, 1000])
@pytest.mark.parametrize("use_bn", [False, True])
def test_batch_sizes(
    squares: Dataset, small: dict[str, Any], batch_size: int, use_bn: bool
) -> None:
    config = {**small, "batch_size": batch_size, "use_BN": use_bn}
    network = train(config, squares, seed=0, epochs=1, device="cpu")
    assert np.isfinite(network.train_losses[0])


def test_last_partial_batch_is_trained_on(squares: Dataset, small: dict[str, Any]) -> None:
    # Of 32 training images the last step takes the one that 31 leave over; without that step
    # both runs would see one step of different size and the weights could not differ from it.
    config = {**small, "batch_size": 31, "dropout_rate": 0.0}
    network = train(config, squares, seed=0, epochs=1, device="cpu")
    counter = [b for name, b in network.network.named_buffers() if "num_batches" in name]
    assert all(int(count) == 2 for count in counter)


@pytest.mark.parametrize("extra", [{}, {"use_BN": False}])
def test_divergence_is_told(
    squares: Dataset, small: dict[str, Any], extra: dict[str, Any]
) -> None:
    config = {**small, **extra, "learning_rate_init": 1e30}
    with pytest.raises(DivergedError, match="finite, but is .* in epoch 1"):
        train(config, squares, seed=0, epochs=3, device="cpu")


def test_memory_that_runs_out_is_told(squares: Dataset, small: dict[str, Any]) -> None:
    # The dense layer alone would take 2^62 bytes, which no allocator even tries to map.
    config = {**small, "global_avg_pooling": False, "n_channels_fc_0": 2**51}
    with pytest.raises(OutOfMemoryError, match="must fit into the memory of cpu"):
        train(config, squares, seed=0, epochs=1, device="cpu")


def test_exception_of_on_epoch_comes_out_unchanged(
    squares: Dataset, small: dict[str, Any]
) -> None:
    def prune(report: EpochReport) -> None:
        raise optuna.TrialPruned("enough")

    with pytest.raises(optuna.TrialPruned, match="enough"):
        train(small, squares, seed=0, device="cpu", on_epoch=prune)


def test_run_stops_within_an_epoch(squares: Dataset, small: dict[str, Any]) -> None:
    asked = 0

    def should_stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > 2

    with pytest.raises(TrainingInterrupted):
        train(small, squares, seed=0, device="cpu", should_stop=should_stop)
    assert asked == 3


def test_train_on_everything_leaves_no_validation(squares: Dataset, small: dict[str, Any]) -> None:
    network = train(small, squares, seed=0, epochs=1, device="cpu", train_on="train+valid")
    assert np.isnan(network.valid_accuracy)


def test_test_images_are_never_read(squares: Dataset, small: dict[str, Any]) -> None:
    blinded = squares.images.copy()
    blinded[squares.test] = 0
    seen, blind = (
        train(small, data, seed=0, epochs=1, device="cpu", train_on="train+valid").train_losses
        for data in (squares, replace(squares, images=blinded))
    )
    assert seen == blind


@pytest.mark.parametrize(
    ("config", "rule"),
    [
        ({"batch_size": 0}, "batch_size >= 1"),
        ({"learning_rate_init": float("nan")}, "learning_rate_init > 0"),
        ({"optimizer": "lion"}, "optimizer in"),
        ({"schedule": "steps"}, "schedule in"),
        ({"label_smoothing": 1.0}, "label_smoothing < 1"),
        ({"shift": 40}, "shift <= 16"),
        ({"views": 3}, "views in"),
        ({"batch_size": "many"}, "batch_size must be of type int"),
        ({"block": "residual"}, "exactly one of"),
    ],
)
def test_wrong_configuration_is_refused(
    squares: Dataset, small: dict[str, Any], config: dict[str, Any], rule: str
) -> None:
    with pytest.raises(InvalidInputError, match=rule):
        train({**small, **config}, squares, seed=0, device="cpu")


@pytest.mark.parametrize(
    "key", ["batch_size", "n_channels_conv_1", "kernel_size", "n_conv_layers"]
)
def test_missing_key_is_named(squares: Dataset, small: dict[str, Any], key: str) -> None:
    del small[key]
    with pytest.raises(InvalidInputError, match=key):
        train(small, squares, seed=0, device="cpu")


@pytest.mark.parametrize("device", ["tpu", "meta", "cuda:99"])
def test_wrong_device_is_refused(squares: Dataset, small: dict[str, Any], device: str) -> None:
    with pytest.raises(InvalidInputError, match="device must"):
        train(small, squares, seed=0, device=device)


@pytest.mark.parametrize("arguments", [{"epochs": 0}, {"train_on": "test"}])
def test_wrong_argument_is_refused(
    squares: Dataset, small: dict[str, Any], arguments: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInputError, match=next(iter(arguments))):
        train(small, squares, seed=0, device="cpu", **arguments)


@pytest.mark.parametrize("name", ["course", "modern"])
def test_configurations_of_a_space_train(squares: Dataset, name: str) -> None:
    """Sampled configurations, their widths cut so that a step takes milliseconds."""
    space = SPACES[name]
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    few = replace(squares, train=squares.train[:12], valid=squares.valid[:4])
    for _ in range(12):
        config = space.suggest(study.ask())
        config["learning_rate_init"] = min(config["learning_rate_init"], 1e-2)
        for key in config:
            if key.startswith("n_channels"):
                config[key] = min(config[key], 16)
        if "width" in config:
            config["width"] = 8
        network = train(config, few, seed=0, epochs=1, device="cpu")
        assert np.isfinite(network.train_losses[0]), config


def test_images_may_be_of_any_size_but_square(squares: Dataset, small: dict[str, Any]) -> None:
    flat = {**small, "global_avg_pooling": False}
    large = make_squares(size=48)
    network = train(flat, large, seed=0, epochs=1, device="cpu")
    assert network.predict_proba(large.images[:3]).shape == (3, 4)
    with pytest.raises(InvalidInputError, match=r"\(n, 48, 48, 3\)"):
        network.predict_proba(squares.images)
    with pytest.raises(InvalidInputError, match="height == width"):
        train(flat, replace(large, images=large.images[:, :32]), seed=0, device="cpu")
    with pytest.raises(InvalidInputError, match="image_size >= "):
        train(flat, replace(large, images=large.images[:, :3, :3]), seed=0, device="cpu")


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"use_BN": False, "global_avg_pooling": False},
        {"optimizer": "sgd", "ema_decay": 0.9, "weight_decay": 0.01},
    ],
)
def test_widened_network_trains_as_the_exact_one(
    squares: Dataset, small: dict[str, Any], extra: dict[str, Any]
) -> None:
    """What CUDA does with channel counts that 8 does not divide, in float32 on the CPU."""
    config = {**small, "n_channels_conv_0": 5, "n_channels_conv_1": 9, "n_channels_fc_0": 13}
    config |= {"dropout_rate": 0.0, "learning_rate_init": 1e-3, **extra}

    def run(multiple: int) -> Session:
        device = torch.device("cpu")
        return Session(
            config, squares, seed=0, epochs=3, device=device, train_on="train",
            width_multiple=multiple,
        )  # fmt: skip

    exact, wide, resumed = run(1), run(8), run(8)
    for epoch in (1, 2, 3):
        if epoch == 3:
            resumed.load_state(copy.deepcopy(exact.state()))  # as a file would
            assert resumed.epoch(3)[0] == pytest.approx(wide.epoch(3)[0], rel=1e-5)
        else:
            loss = wide.epoch(epoch)[0]
            assert loss == pytest.approx(exact.epoch(epoch)[0], rel=1e-5)
    shapes = [tensor.shape for tensor in exact.state()["network"].values()]
    assert [tensor.shape for tensor in wide.state()["network"].values()] == shapes
    images = squares.images[squares.test]
    predicted = [run.trained((0.0,), (0.0,), 0.0).predict_proba(images) for run in (wide, resumed)]
    assert predicted[0] == pytest.approx(predicted[1], abs=1e-3)
