"""Model and checkpoint files: round trip, atomicity, and files that are something else."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from optuna_deepweeds.datasets.dataset import Dataset
from optuna_deepweeds.errors import InvalidInputError, NotFoundError
from optuna_deepweeds.training import TrainedNetwork, checkpoint
from tests.training.conftest import SMALL, Fit

_WRONG_KIND = r"\A[^\n]*must be of the kind .optuna_deepweeds model[^\n]*\Z"


@pytest.fixture(scope="module")
def network(fit: Fit) -> TrainedNetwork:
    return fit(config={**SMALL, "views": 8})


def test_saved_network_answers_the_same(
    network: TrainedNetwork, squares: Dataset, tmp_path: Path
) -> None:
    path = tmp_path / "models" / "best.pt"
    network.save(path)
    loaded = TrainedNetwork.load(path)
    assert np.array_equal(
        loaded.predict_proba(squares.images), network.predict_proba(squares.images)
    )
    assert loaded.classes == squares.classes
    assert (loaded.dataset, loaded.fingerprint) == (squares.name, squares.fingerprint)
    assert loaded.config == network.config
    assert loaded.curve == network.curve
    assert [file.name for file in path.parent.iterdir()] == ["best.pt"]
    (tmp_path / "any").touch()
    assert path.stat().st_mode == (tmp_path / "any").stat().st_mode


def test_probabilities_do_not_depend_on_the_batch_and_other_arrays_are_refused(
    network: TrainedNetwork, squares: Dataset
) -> None:
    together = network.predict_proba(squares.images[:9])
    alone = np.concatenate([network.predict_proba(squares.images[i : i + 1]) for i in range(9)])
    assert together == pytest.approx(alone, abs=1e-6)
    assert together.sum(axis=1) == pytest.approx(np.ones(9), abs=1e-5)
    assert network.predict_proba(squares.images[:0]).shape == (0, 4)
    for shape, kind, rule in (
        ((1, 3, 32, 32), np.uint8, "shape"),
        ((32, 32, 3), np.uint8, "shape"),
        ((1, 32, 32, 3), np.float32, "uint8"),
    ):
        with pytest.raises(InvalidInputError, match=rule):
            network.predict_proba(np.zeros(shape, kind))


@pytest.mark.parametrize("views", [2, 4, 8])
def test_views_are_averaged(network: TrainedNetwork, squares: Dataset, views: int) -> None:
    def answer(images: Any, views: int) -> Any:
        changed = replace(network, config={**network.config, "views": views})
        return changed.predict_proba(np.ascontiguousarray(images))

    images = squares.images[:9]
    seen = [images, images[:, :, ::-1], images[:, ::-1], images[:, ::-1, ::-1]][:views]
    if views == 8:
        seen += [view.swapaxes(1, 2) for view in seen]
    expected = np.mean([answer(view, 1) for view in seen], axis=0)
    assert answer(images, views) == pytest.approx(expected, abs=1e-6)
    for view in seen[1:]:
        assert answer(view, views) == pytest.approx(expected, abs=1e-6)


def test_damaged_or_incomplete_model_is_one_line(network: TrainedNetwork, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    network.save(path)
    whole, content = path.read_bytes(), torch.load(path, weights_only=True)
    for damaged in (whole[: len(whole) // 2], b"", b"no model", whole[100:]):
        path.write_bytes(damaged)
        with pytest.raises(InvalidInputError, match=_WRONG_KIND):
            TrainedNetwork.load(path)
    for key in ("config", "network", "classes"):
        checkpoint.write({k: v for k, v in content.items() if k != key}, path)
        with pytest.raises(InvalidInputError, match=f"complete model file.*{key}"):
            TrainedNetwork.load(path)
    with pytest.raises(NotFoundError, match="absent.pt"):
        TrainedNetwork.load(tmp_path / "absent.pt")


def test_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    path = tmp_path / "evil.pt"
    torch.save({"kind": "optuna_deepweeds model", "x": Evil()}, path)
    for content in (path.read_bytes(), pickle.dumps(Evil())):
        path.write_bytes(content)
        with pytest.raises(InvalidInputError):
            TrainedNetwork.load(path)
    assert not (tmp_path / "ran").exists()


def test_checkpoint_is_no_model_and_model_is_no_checkpoint(
    network: TrainedNetwork, fit: Fit, tmp_path: Path
) -> None:
    path = tmp_path / "file.pt"
    fit(on_epoch=lambda report: report.save(path))
    with pytest.raises(InvalidInputError, match="something else"):
        TrainedNetwork.load(path)
    network.save(path)
    with pytest.raises(InvalidInputError, match="something else"):
        fit(resume_from=path)
    path.write_bytes(b"PK\x03\x04 half a checkpoint")
    with pytest.raises(InvalidInputError, match="cannot be read") as caught:
        fit(resume_from=path)
    assert "\n" not in str(caught.value)
