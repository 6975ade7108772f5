"""A few images of each class as one picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from optuna_deepweeds.datasets import Dataset

_COLUMNS = 12
_MOST_CLASSES = 60
_INCHES = 0.6  # of one image


def write_contact_sheet(data: Dataset, path: Path) -> None:
    """Draw up to 12 training images of each class; the file appears whole or not at all.

    They are those that networks see, taken from all over the class. Of more than 60 classes the
    first ones are shown.
    """
    from optuna_deepweeds.report.draw_png import INK, new_figure, plain, save

    step = data.images.shape[1] + max(1, data.images.shape[1] // 16)
    shown = data.classes[:_MOST_CLASSES]
    canvas = np.full((len(shown) * step, _COLUMNS * step, 3), 255, dtype=np.uint8)
    names = []
    for row, name in enumerate(shown):
        own = data.train[data.labels[data.train] == row]
        chosen = own[np.linspace(0, len(own) - 1, min(len(own), _COLUMNS)).astype(int)]
        for column, image in enumerate(data.images[chosen]):
            top, left = row * step, column * step
            canvas[top : top + len(image), left : left + len(image)] = image
        names.append(plain(f"{name}  {len(own):,}"))
    figure = new_figure(_COLUMNS * _INCHES, len(shown) * _INCHES)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(canvas, interpolation="nearest", aspect="equal")
    axes.set_yticks((np.arange(len(shown)) + 0.5) * step, names)
    axes.set_xticks([])
    axes.tick_params(labelsize=9, colors=INK, length=0)
    axes.spines[:].set_visible(False)
    is_part = len(shown) < len(data.classes)
    more = f", {len(shown)} of {len(data.classes)} classes" if is_part else ""
    title = f"{Path(data.name).name}: training images at {data.images.shape[1]} pixels{more}"
    axes.set_title(plain(title), fontsize=10, color=INK)
    save(figure, path)
