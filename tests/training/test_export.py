"""ONNX export agrees with torch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from optuna_deepweeds.datasets.dataset import Dataset
from tests.training.conftest import SMALL, Fit

pytest.importorskip("onnxscript", reason="the extra `onnx` is not installed.")
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed.")


@pytest.mark.slow
@pytest.mark.parametrize("views", [1, 8])
def test_exported_network_answers_as_torch_does(
    squares: Dataset, fit: Fit, tmp_path: Path, views: int
) -> None:
    from optuna_deepweeds.training.export import export_onnx

    network = fit(config={**SMALL, "views": views})
    path = tmp_path / "model.onnx"
    assert export_onnx(network, path) < 1e-5
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for n in (1, 5):
        (probabilities,) = session.run(None, {"images": squares.images[:n]})
        assert probabilities == pytest.approx(network.predict_proba(squares.images[:n]), abs=1e-5)
    classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])
    assert classes == list(squares.classes)
    assert np.isclose(probabilities.sum(), 5, atol=1e-4)
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]
