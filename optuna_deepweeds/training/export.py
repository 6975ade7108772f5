"""A trained network as an ONNX file, for programs that have no torch."""

from __future__ import annotations

import importlib.util
import json
import logging
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from optuna_deepweeds.errors import DeepWeedsError, InvalidInputError
from optuna_deepweeds.files import whole
from optuna_deepweeds.training.settings import read_settings
from optuna_deepweeds.training.trained import TrainedNetwork, predict_logits

_PACKAGES = ("onnx", "onnxruntime", "onnxscript")
_TOLERANCE = 1e-4


class _Complete(nn.Module):
    """uint8 images (n, size, size, 3) to probabilities (n, n_classes)."""

    mean: Tensor
    std: Tensor

    def __init__(self, trained: TrainedNetwork) -> None:
        super().__init__()
        self.network = trained.network
        self.views = read_settings(trained.config).views
        self.register_buffer("mean", trained.mean)
        self.register_buffer("std", trained.std)

    def forward(self, images: Tensor) -> Tensor:
        x = ((images.float() - self.mean) / self.std).permute(0, 3, 1, 2)
        return predict_logits(self.network, x, views=self.views).softmax(1)


def export_onnx(trained: TrainedNetwork, path: Path) -> float:
    """Write `trained` to `path` and return the largest difference from torch's probabilities.

    The file takes `images`, uint8 (n, size, size, 3) RGB, and gives `probabilities`, float32
    (n, n_classes); normalisation is inside, the class names are its metadata `classes` (a JSON
    list). It appears only after it was run and compared.

    Raises:
        InvalidInputError: If the packages of the extra `onnx` are missing, or `path` cannot be
            written.
        DeepWeedsError: If the exported network answers differently.
    """
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise InvalidInputError(
            f"export needs the packages {', '.join(_PACKAGES)}, but {', '.join(missing)} cannot "
            "be found; install `optuna-deepweeds[onnx]`."
        )
    with whole(path) as part:
        _write(trained, part)
        return _compare(trained, part)


def _write(trained: TrainedNetwork, path: Path) -> None:
    import onnx

    example = torch.zeros(2, trained.image_size, trained.image_size, 3, dtype=torch.uint8)
    noisy = logging.getLogger("onnxscript")
    level = noisy.level
    noisy.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter's own deprecations
            program = torch.onnx.export(
                _Complete(trained).eval(),
                (example,),
                input_names=["images"],
                output_names=["probabilities"],
                dynamic_shapes=({0: torch.export.Dim("n")},),
                dynamo=True,
                verbose=False,
            )
    finally:
        noisy.setLevel(level)
    if program is None:
        raise DeepWeedsError("the exporter must return a program, but returned nothing.")
    model = program.model_proto
    for key, value in (
        ("classes", json.dumps(list(trained.classes))),
        ("dataset", trained.dataset),
    ):
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    onnx.save_model(model, str(path))


def _compare(trained: TrainedNetwork, path: Path) -> float:
    import onnxruntime

    shape = (7, trained.image_size, trained.image_size, 3)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (exported,) = session.run(None, {"images": images})
    difference = float(np.abs(exported - trained.predict_proba(images)).max())
    if not difference <= _TOLERANCE:
        raise DeepWeedsError(
            f"the exported network must agree with torch within {_TOLERANCE:g}, but differs by "
            f"{difference:.2g}."
        )
    return difference
