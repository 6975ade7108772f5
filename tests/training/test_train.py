"""`train`: curves, seeds, resuming, failures and sizes."""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
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
from optuna_deepweeds.training import EpochReport, TrainedNetwork
from optuna_deepweeds.training.session import Session
from tests.training.conftest import SMALL, Fit, make_squares

EVERYTHING = {
    "optimizer": "sgd", "momentum": 0.8, "weight_decay": 1e-3, "schedule": "one_cycle",
    "label_smoothing": 0.1, "flips": True, "rotate90": True, "shift": 3, "color_jitter": 0.2,
    "cutout": 8, "views": 8,
}  # fmt: skip

MODERN = {
    "n_stages": 2, "n_blocks": 1, "width": 8, "width_factor": 1.5, "dropout_rate": 0.1,
    "batch_size": 16, "learning_rate_init": 0.01,
}  # fmt: skip


def test_learns_the_colours(squares: Dataset, fit: Fit) -> None:
    network = fit(epochs=8)
    assert network.valid_accuracy >= 0.9
    assert network.curve[-1] == network.valid_accuracy
    predicted = network.predict_proba(squares.images[squares.test]).argmax(axis=1)
    assert (predicted == squares.labels[squares.test]).mean() >= 0.8


def test_valid_accuracy_is_that_of_the_returned_network(squares: Dataset, fit: Fit) -> None:
    network = fit(config=SMALL | EVERYTHING, epochs=3)
    predicted = network.predict_proba(squares.images[squares.valid]).argmax(axis=1)
    assert network.valid_accuracy == (predicted == squares.labels[squares.valid]).mean()


def test_the_network_of_the_best_epoch_is_kept_also_of_a_resumed_run(
    squares: Dataset, fit: Fit, tmp_path: Path
) -> None:
    # Too large a rate: the curve goes up and down.
    run = partial(fit, config=SMALL | {"learning_rate_init": 0.03}, seed=1, epochs=6)
    saved: dict[int, Path] = {}

    def save(report: EpochReport) -> None:
        saved[report.epoch] = tmp_path / f"{report.epoch}.pt"
        report.save(saved[report.epoch])

    last, best = run(), run(keep_best=True, on_epoch=save)
    assert best.curve == last.curve and last.epoch == 6
    assert best.epoch == best.curve.index(max(best.curve)) + 1 < 6
    predicted = best.predict_proba(squares.images[squares.valid]).argmax(axis=1)
    assert best.valid_accuracy == max(best.curve)
    assert best.valid_accuracy == (predicted == squares.labels[squares.valid]).mean()
    for resumed in (run(keep_best=True, resume_from=path) for path in saved.values()):
        assert resumed.epoch == best.epoch
        states = (network.network.state_dict().values() for network in (best, resumed))
        assert all(torch.equal(one, other) for one, other in zip(*states, strict=True))
    best.save(tmp_path / "model.pt")
    assert TrainedNetwork.load(tmp_path / "model.pt").valid_accuracy == best.valid_accuracy
    assert run(resume_from=saved[6]).epoch == 6
    without_validation = run(keep_best=True, train_on="train+valid")
    assert without_validation.epoch == 6


def test_same_seed_same_curve_and_other_seed_other_curve(fit: Fit) -> None:
    first, again, other = (fit(seed=seed, epochs=2) for seed in (3, 3, 4))
    assert first.train_losses == again.train_losses
    assert first.train_losses != other.train_losses


def test_global_generators_are_left_alone(fit: Fit) -> None:
    before = (torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate())  # noqa: NPY002
    fit(config=SMALL | EVERYTHING)
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002
    assert before[2] == random.getstate()


@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        SMALL | EVERYTHING,
        {**SMALL, "optimizer": "adamw", "schedule": "one_cycle"},
        {**SMALL, "optimizer": "muon"},
        {**MODERN, **EVERYTHING},
        {**MODERN, "stem_stride": 2, "activation": "gelu"},
    ],
)
def test_resumed_run_ends_as_the_uninterrupted_one(
    fit: Fit, config: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "trial.pt"

    def stop(report: EpochReport) -> None:
        if report.epoch == 2:
            report.save(path)
            raise InterruptedError

    run = partial(fit, config=config, seed=5, epochs=4)
    whole = run()
    with pytest.raises(InterruptedError):
        run(on_epoch=stop)
    seen: list[EpochReport] = []
    known: list[Sequence[float]] = []
    resumed = run(resume_from=path, on_epoch=seen.append, on_resume=known.append)
    assert [report.epoch for report in seen] == [3, 4]
    assert known == [whole.curve[:2]]
    assert resumed.curve == whole.curve
    assert resumed.train_losses == whole.train_losses
    states = (network.network.state_dict().values() for network in (whole, resumed))
    assert all(torch.equal(one, other) for one, other in zip(*states, strict=True))


def test_a_checkpoint_of_another_torch_is_gone_on_with(fit: Fit) -> None:
    # Saved after the second epoch of this run by torch 2.13.0+cpu.
    path = Path(__file__).with_name("written-by-torch-2.13.pt")
    run, seen = partial(fit, seed=5, epochs=4), list[EpochReport]()
    resumed = run(resume_from=path, on_epoch=seen.append)
    assert [report.epoch for report in seen] == [3, 4]
    assert resumed.train_losses == pytest.approx(run().train_losses, rel=0.01)


def test_checkpoint_of_the_last_epoch_gives_the_network_without_training(
    squares: Dataset, fit: Fit, tmp_path: Path
) -> None:
    path, seen = tmp_path / "trial.pt", []
    whole = fit(on_epoch=lambda report: report.save(path))
    again = fit(resume_from=path, on_epoch=seen.append)
    assert seen == []
    images = squares.images[squares.test]
    assert np.array_equal(whole.predict_proba(images), again.predict_proba(images))


def test_a_training_without_a_schedule_goes_on_to_be_a_longer_one(
    fit: Fit, tmp_path: Path
) -> None:
    path = tmp_path / "trial.pt"
    fit(epochs=2, on_epoch=lambda report: report.save(path))
    whole, longer = fit(epochs=4), fit(epochs=4, resume_from=path)
    assert longer.curve == whole.curve
    states = (network.network.state_dict().values() for network in (whole, longer))
    assert all(torch.equal(one, other) for one, other in zip(*states, strict=True))
    with pytest.raises(InvalidInputError, match="its epochs is 2 instead of 1"):
        fit(epochs=1, resume_from=path)
    scheduled = {**SMALL, "schedule": "one_cycle"}
    fit(config=scheduled, epochs=2, on_epoch=lambda report: report.save(path))
    with pytest.raises(InvalidInputError, match="its epochs is"):
        fit(config=scheduled, epochs=4, resume_from=path)


def test_checkpoint_of_another_run_is_refused(squares: Dataset, fit: Fit, tmp_path: Path) -> None:
    path = tmp_path / "trial.pt"
    fit(on_epoch=lambda report: report.save(path))
    changes: dict[str, dict[str, Any]] = {
        "seed": {"seed": 2},
        "train_on": {"train_on": "train+valid"},
        "config": {"config": {**SMALL, "batch_size": 8}},
        "fingerprint": {"data": replace(squares, fingerprint="x")},
    }
    for named, change in changes.items():
        with pytest.raises(InvalidInputError, match=f"its {named} is"):
            fit(resume_from=path, **change)
    with pytest.raises(NotFoundError, match="nothing.pt"):
        fit(resume_from=tmp_path / "nothing.pt")


@pytest.mark.parametrize("batch_size", [1, 7, 31, 32, 1000])
@pytest.mark.parametrize("use_bn", [False, True])
def test_any_batch_size_trains_on_the_last_partial_batch_too(
    fit: Fit, batch_size: int, use_bn: bool
) -> None:
    network = fit(config={**SMALL, "batch_size": batch_size, "use_BN": use_bn})
    assert np.isfinite(network.train_losses[0])
    # Batch norm counts the steps: of 32 training images, 31 leave over one.
    counters = [b for name, b in network.network.named_buffers() if "num_batches" in name]
    assert bool(counters) == use_bn
    if batch_size == 31:
        assert all(int(count) == 2 for count in counters)


@pytest.mark.parametrize("use_bn", [True, False])
def test_divergence_is_told(fit: Fit, use_bn: bool) -> None:
    with pytest.raises(DivergedError, match="finite, but is .* in epoch 1"):
        fit(config={**SMALL, "use_BN": use_bn, "learning_rate_init": 1e30}, epochs=3)


def test_memory_that_runs_out_is_told(fit: Fit) -> None:
    # The dense layer alone would take 2^62 bytes, which no allocator even tries to map.
    config = {**SMALL, "global_avg_pooling": False, "n_channels_fc_0": 2**51}
    with pytest.raises(OutOfMemoryError, match="must fit into the memory of cpu"):
        fit(config=config)


def test_exception_of_on_epoch_comes_out_unchanged(fit: Fit) -> None:
    def prune(report: EpochReport) -> None:
        raise optuna.TrialPruned("enough")

    with pytest.raises(optuna.TrialPruned, match="enough"):
        fit(on_epoch=prune)


def test_run_stops_within_an_epoch(fit: Fit) -> None:
    answers = iter((False, False, True))
    with pytest.raises(TrainingInterrupted):
        fit(should_stop=lambda: next(answers))
    assert next(answers, None) is None


def test_training_on_everything_leaves_no_validation_and_never_reads_test_images(
    squares: Dataset, fit: Fit
) -> None:
    blinded = squares.images.copy()
    blinded[squares.test] = 0
    seen, blind = (
        fit(data=data, train_on="train+valid")
        for data in (squares, replace(squares, images=blinded))
    )
    assert seen.train_losses == blind.train_losses
    assert np.isnan(seen.valid_accuracy)


@pytest.mark.parametrize(
    ("config", "arguments", "rule"),
    [
        ({"batch_size": 0}, {}, "batch_size >= 1"),
        ({"learning_rate_init": float("nan")}, {}, "learning_rate_init > 0"),
        ({"optimizer": "lion"}, {}, "optimizer in"),
        ({"schedule": "steps"}, {}, "schedule in"),
        ({"label_smoothing": 1.0}, {}, "label_smoothing < 1"),
        ({"shift": 40}, {}, "shift <= 16"),
        ({"views": 3}, {}, "views in"),
        ({"batch_size": "many"}, {}, "batch_size must be of type int"),
        ({"n_stages": 2}, {}, "exactly one of"),
        *(
            ({key: ...}, {}, key)
            for key in ("batch_size", "n_channels_conv_1", "kernel_size", "n_conv_layers")
        ),
        *(({}, {"device": device}, "device must") for device in ("tpu", "meta", "cuda:99")),
        ({}, {"epochs": 0}, "epochs"),
        ({}, {"train_on": "test"}, "train_on"),
    ],
)
def test_wrong_or_missing_configuration_and_arguments_are_refused(
    fit: Fit, config: dict[str, Any], arguments: dict[str, Any], rule: str
) -> None:
    config = {key: value for key, value in {**SMALL, **config}.items() if value is not ...}
    with pytest.raises(InvalidInputError, match=rule):
        fit(config=config, **arguments)


@pytest.mark.parametrize("name", ["course", "modern"])
def test_configurations_of_a_space_train(squares: Dataset, fit: Fit, name: str) -> None:
    """Sampled configurations, their widths cut so that a step takes milliseconds."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    few = replace(squares, train=squares.train[:12], valid=squares.valid[:4])
    for _ in range(12):
        config = SPACES[name].suggest(study.ask())
        config["learning_rate_init"] = min(config["learning_rate_init"], 1e-2)
        for key in config:
            if key.startswith("n_channels"):
                config[key] = min(config[key], 16)
        if "width" in config:
            config["width"] = 8
        assert np.isfinite(fit(config=config, data=few).train_losses[0]), config


def test_images_may_be_of_any_size_but_square(squares: Dataset, fit: Fit) -> None:
    flat = {**SMALL, "global_avg_pooling": False}
    large = make_squares(size=48)
    network = fit(config=flat, data=large)
    assert network.predict_proba(large.images[:3]).shape == (3, 4)
    with pytest.raises(InvalidInputError, match=r"\(n, 48, 48, 3\)"):
        network.predict_proba(squares.images)
    for images, rule in (
        (large.images[:, :32], "height == width"),
        (large.images[:, :3, :3], "image_size >= "),
    ):
        with pytest.raises(InvalidInputError, match=rule):
            fit(config=flat, data=replace(large, images=images))


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"use_BN": False, "global_avg_pooling": False},
        {"optimizer": "sgd", "weight_decay": 0.01},
    ],
)
def test_widened_network_trains_as_the_exact_one(squares: Dataset, extra: dict[str, Any]) -> None:
    """What CUDA does with channel counts that 8 does not divide, in float32 on the CPU."""
    config = {**SMALL, "n_channels_conv_0": 5, "n_channels_conv_1": 9, "n_channels_fc_0": 13}
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
