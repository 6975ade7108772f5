"""A confusion matrix as a picture."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

_INK = "#333940"


def write_confusion_png(
    classes: Sequence[str], counts: Sequence[Sequence[int]], path: Path, title: str
) -> None:
    """Draw counts, coloured by their share of the row; the file appears whole or not at all.

    Args:
        classes: Names of the classes.
        counts: (n_classes, n_classes), rows are true classes, columns predicted ones.
        path: The PNG file.
        title: Above the picture.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    matrix = np.asarray(counts, dtype=float)
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    names = [name.replace("$", r"\$") for name in classes] or [str(i) for i in range(len(matrix))]
    side = 2.4 + 0.62 * len(matrix)
    figure = Figure(figsize=(side + 0.6, side), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.imshow(share, cmap="Blues", vmin=0.0, vmax=1.0)
    for row, column in np.ndindex(*matrix.shape):
        if matrix[row, column]:
            ink = "white" if share[row, column] > 0.55 else _INK
            axes.text(
                column, row, f"{matrix[row, column]:.0f}", ha="center", va="center", fontsize=8,
                color=ink,
            )  # fmt: skip
    recalls = [f"{name}  {share[i, i]:.0%}" for i, name in enumerate(names)]
    axes.set_xticks(range(len(names)), names, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), recalls)
    axes.set_xlabel("predicted", fontsize=9, color=_INK)
    axes.set_ylabel("true class, and how much of it was found", fontsize=9, color=_INK)
    axes.tick_params(labelsize=8, colors=_INK, length=0)
    axes.set_title(title.replace("$", r"\$"), fontsize=10, color=_INK)
    axes.spines[:].set_visible(False)
    part = path.with_name(path.name + ".part")
    figure.savefig(part, format="png", dpi=130, facecolor="white")
    os.replace(part, path)
