"""A confusion matrix as a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from optuna_deepweeds.report.draw_png import INK, new_figure, plain, save
from optuna_deepweeds.report.tables import Table

_MOST_INCHES = 24.0  # of all cells on a side; numbers are written where they fit


def write_confusion_png(content: Table, path: Path, title: str) -> None:
    """Draw counts, coloured by their share of the row; the file appears whole or not at all.

    Args:
        content: As of `tables.confusion_table`: name, recall and counts of each true class.
        path: The PNG file.
        title: Above the picture.
    """
    matrix = np.array([row[2:] for row in content.rows], dtype=float)
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    names = [plain(str(name)) for name in content.columns[2:]]
    cell = min(0.62, _MOST_INCHES / len(matrix))
    side, size = 2.4 + cell * len(matrix), 8 * min(1.0, cell / 0.31)
    figure = new_figure(side + 0.6, side)
    axes = figure.add_subplot()
    axes.imshow(share, cmap="Blues", vmin=0.0, vmax=1.0)
    shown = np.nonzero(matrix) if cell > 0.3 else ([], [])
    for row, column in zip(*shown, strict=True):
        axes.text(
            column, row, f"{matrix[row, column]:.0f}", ha="center", va="center", fontsize=8,
            color="white" if share[row, column] > 0.55 else INK,
        )  # fmt: skip
    recalls = [
        f"{name}  {share[i, i]:.0%}" if matrix[i].any() else name for i, name in enumerate(names)
    ]
    axes.set_xticks(range(len(names)), names, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), recalls)
    axes.set_xlabel("predicted", fontsize=9, color=INK)
    axes.set_ylabel("true class, and how much of it was found", fontsize=9, color=INK)
    axes.tick_params(labelsize=size, colors=INK, length=0)
    axes.set_title(plain(title), fontsize=10, color=INK)
    axes.spines[:].set_visible(False)
    save(figure, path)
