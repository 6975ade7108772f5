"""`demo`: generated pictures of eight plants, so that everything runs without a download.

The plants differ in the shape of the leaf, its arrangement and, a little, its colour. Scale,
rotation, position, light, ground, clutter behind and blades in front are nuisance.

A picture is painted leaf by leaf, from the back to the front. Symbols:

| symbol   | meaning                                                             | shape      |
|----------|---------------------------------------------------------------------|------------|
| `x`, `y` | base of a leaf: in units of the plant's radius, later in pixels     | (n, slots) |
| `angle`  | direction of a leaf, radians                                        | (n, slots) |
| `length` | of a leaf, same units as `x`; 0 for a slot that is empty            | (n, slots) |
| `u`, `v` | a pixel seen from a leaf: along it (0 base, 1 tip) and across it    | (n, 32, 32)|

Only uniform doubles are drawn and everything is computed in double precision until the last
rounding, so that machines whose sine differs in the last bit paint the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from optuna_deepweeds.datasets.dataset import Dataset, fingerprint

Array = NDArray[np.float64]

SEED = 8
_SIDE = 32
_CHUNK = 200  # pictures painted at once: a few MB that stay in the cache
_STEPS = 64  # entries of a table of leaf widths


def _outline(a: float, b: float, teeth: int = 0, depth: float = 0.0) -> Array:
    """Half-width of a leaf along its length, at most 1: a beta curve, possibly toothed."""
    u = (np.arange(_STEPS) + 0.5) / _STEPS
    width = u**a * (1 - u) ** b
    return width / width.max() * (1 - depth * (0.5 - 0.5 * np.cos(2 * np.pi * teeth * u)))


_OUTLINES = np.stack(
    [
        _outline(0.7, 0.9),  # ovate
        _outline(0.8, 1.2),  # lanceolate
        _outline(1.6, 0.35),  # obcordate: widest near the tip
        _outline(0.9, 1.0, teeth=4, depth=0.55),  # toothed
        _outline(0.5, 0.5),  # elliptic
        _outline(0.05, 0.6),  # blade
        _outline(0.0, 0.0),  # stem
    ]
)
_OVATE, _LANCEOLATE, _OBCORDATE, _TOOTHED, _ELLIPTIC, _BLADE, _STEM = range(len(_OUTLINES))


@dataclass
class _Leaves:
    """Leaves of n pictures, `slots` for each, painted in the order of the slots."""

    x: Array
    y: Array
    angle: Array
    length: Array
    width: Array  # half-width over length
    bend: Array  # sideways shift of the tip over length
    outline: NDArray[np.intp]
    colour: Array  # (n, slots, 3), 0 to 1

    def rows(self, rows: NDArray[np.intp] | slice) -> _Leaves:
        return _Leaves(*(getattr(self, f.name)[rows] for f in fields(self)))


class _Draw:
    """Uniform draws for n pictures."""

    def __init__(self, rng: np.random.Generator, n: int) -> None:
        self.rng = rng
        self.n = n

    def __call__(self, low: float, high: float, *shape: int) -> Array:
        """(n, *shape) uniform on [low, high)."""
        return low + (high - low) * self.rng.random((self.n, *shape))

    def integers(self, low: int, high: int, *shape: int) -> NDArray[np.intp]:
        """(n, *shape) uniform on low, ..., high."""
        return np.floor(self(low, high + 1, *shape)).astype(np.intp)


# A layout places leaves in units of the plant's radius: x, y, angle, length, each (n, slots).
_Layout = tuple[Array, Array, Array, Array]


def _rosette(draw: _Draw) -> _Layout:
    slots = 9
    count = draw.integers(6, slots, 1)
    k = np.arange(slots)
    angle = 2 * np.pi * k / count + draw(-0.25, 0.25, slots)
    length = np.where(k < count, draw(0.75, 1.05, slots), 0.0)
    return 0.06 * np.cos(angle), 0.06 * np.sin(angle), angle, length


def _fan(draw: _Draw, slots: int, spread: float, start: float, size: float) -> _Layout:
    angle = np.linspace(-spread, spread, slots) + draw(-0.12, 0.12, slots)
    length = size * draw(0.85, 1.1, slots) * (1 - 0.25 * np.abs(angle) / np.pi)
    return np.full_like(angle, start), np.zeros_like(angle), angle, length


def _along_stem(draw: _Draw, nodes: int, pairs: bool, opening: float, size: float) -> _Layout:
    """The stem in the first slot, then leaves at `nodes` places, and one at the tip."""
    t = np.linspace(-0.65, 0.45, nodes)
    side = np.where(np.arange(nodes) % 2, 1.0, -1.0)
    if pairs:
        t, side = np.repeat(t, 2), np.tile([1.0, -1.0], nodes)
    leaves = len(t)
    x = np.concatenate([[-1.0], t, [0.45]]) + np.zeros((draw.n, 1))
    angle = np.concatenate([[0.0], side * opening, [0.0]]) + draw(-0.12, 0.12, leaves + 2)
    angle[:, 0] = 0.0
    taper = 1.1 - 0.25 * (t + 0.65)
    length = np.concatenate([[1.5], size * taper, [size]]) * draw(0.88, 1.12, leaves + 2)
    length[:, 0] = 1.5
    return x, np.zeros_like(x), angle, length


@dataclass(frozen=True)
class _Species:
    name: str
    layout: Callable[[_Draw], _Layout]
    outline: int
    width: float
    bend: float
    colour: tuple[float, float, float]
    has_stem: bool = False


_SPECIES = (
    _Species("broad rosette", _rosette, _OVATE, 0.30, 0.1, (0.30, 0.50, 0.20)),
    _Species("toothed rosette", _rosette, _TOOTHED, 0.26, 0.1, (0.28, 0.48, 0.22)),
    _Species(
        "opposite leaves",
        lambda draw: _along_stem(draw, 3, True, 1.0, 0.62),
        _OVATE,
        0.30,
        0.1,
        (0.27, 0.46, 0.20),
        has_stem=True,
    ),
    _Species(
        "alternate leaves",
        lambda draw: _along_stem(draw, 5, False, 0.75, 0.72),
        _LANCEOLATE,
        0.22,
        0.12,
        (0.33, 0.49, 0.22),
        has_stem=True,
    ),
    _Species(
        "clover",
        lambda draw: _fan(draw, 3, 2.1, 0.0, 0.95),
        _OBCORDATE,
        0.46,
        0.0,
        (0.26, 0.50, 0.24),
    ),
    _Species(
        "palmate",
        lambda draw: _fan(draw, 5, 1.75, -0.25, 1.05),
        _LANCEOLATE,
        0.22,
        0.0,
        (0.32, 0.47, 0.19),
    ),
    _Species(
        "feathery",
        lambda draw: _along_stem(draw, 6, True, 1.15, 0.48),
        _ELLIPTIC,
        0.17,
        0.0,
        (0.30, 0.46, 0.25),
        has_stem=True,
    ),
    _Species(
        "grass tuft",
        lambda draw: _fan(draw, 7, 0.85, -0.75, 1.6),
        _BLADE,
        0.055,
        0.3,
        (0.35, 0.52, 0.22),
    ),
)
CLASSES = tuple(species.name for species in _SPECIES)


def load_demo(*, train: int, valid: int, test: int) -> Dataset:
    """Return the demo with so many pictures in its splits; a multiple of 8 keeps them balanced."""
    sizes = (train, valid, test)
    images, labels = generate(sum(sizes), seed=SEED)
    of = np.split(np.arange(len(labels)), np.cumsum(sizes)[:-1])
    digest = fingerprint(images, labels, *of)
    return Dataset("demo", images, labels, CLASSES, of[0], of[1], of[2], digest)


def generate(n: int, *, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return n pictures, (n, 32, 32, 3) uint8 RGB, and their labels, (n,) int64.

    A pure function of n and seed. Any run of 8 pictures that starts at a multiple of 8 holds
    every class once.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    labels = np.arange(n, dtype=np.int64) % len(_SPECIES)
    plants = [_plants(_Draw(rng, int(np.sum(labels == c))), s) for c, s in enumerate(_SPECIES)]
    images = np.empty((n, _SIDE, _SIDE, 3), dtype=np.uint8)
    for start in range(0, n, _CHUNK):
        chosen = np.arange(start, min(n, start + _CHUNK))
        draw = _Draw(rng, len(chosen))
        canvas = _ground(draw)
        _paint(canvas, _blades(draw, 3))
        for c, plant in enumerate(plants):
            mine = np.flatnonzero(labels[chosen] == c)
            part = canvas[mine]
            _paint(part, plant.rows(chosen[mine] // len(_SPECIES)))
            canvas[mine] = part
        _paint(canvas, _blades(draw, 1))
        images[chosen] = _photograph(draw, canvas)
    return images, labels


def _plants(draw: _Draw, species: _Species) -> _Leaves:
    """One plant for each picture, at its place, in pixels."""
    x, y, angle, length = species.layout(draw)
    slots = x.shape[1]
    radius = draw(11.0, 15.0, 1)
    turn = draw(-np.pi, np.pi, 1)
    centre_x = _SIDE / 2 + draw(-3.0, 3.0, 1)
    centre_y = _SIDE / 2 + draw(-3.0, 3.0, 1)
    width = species.width * draw(0.85, 1.15, 1) * draw(0.9, 1.1, slots)
    bend = species.bend * draw(-1.0, 1.0, slots)
    outline = np.full((draw.n, slots), species.outline)
    colour = np.add(species.colour, 0.08) + draw(-0.06, 0.06, 1, 3) + draw(-0.06, 0.06, slots, 1)
    if species.has_stem:
        width[:, 0], bend[:, 0], outline[:, 0] = 0.03, 0.0, _STEM
    return _Leaves(
        x=centre_x + radius * (x * np.cos(turn) - y * np.sin(turn)),
        y=centre_y + radius * (x * np.sin(turn) + y * np.cos(turn)),
        angle=angle + turn,
        length=radius * length,
        width=width,
        bend=bend,
        outline=outline,
        colour=colour,
    )


def _blades(draw: _Draw, slots: int) -> _Leaves:
    """Stray leaves and dry blades at random places; about half of the slots are empty."""
    dry = draw(0.0, 1.0, slots, 1)
    colour = dry * [0.55, 0.48, 0.32] + (1 - dry) * [0.28, 0.44, 0.20]
    return _Leaves(
        x=draw(-4.0, _SIDE + 4.0, slots),
        y=draw(-4.0, _SIDE + 4.0, slots),
        angle=draw(-np.pi, np.pi, slots),
        length=np.where(draw(0.0, 1.0, slots) < 0.55, draw(6.0, 20.0, slots), 0.0),
        width=draw(0.05, 0.22, slots),
        bend=draw(-0.3, 0.3, slots),
        outline=draw.integers(0, _BLADE, slots),
        colour=colour + draw(-0.08, 0.08, slots, 3),
    )


def _ground(draw: _Draw) -> Array:
    """(n, 32, 32, 3): soil, litter or lawn, with soft patches."""
    green = draw(0.0, 1.0, 1, 1, 1)
    colour = green * [0.36, 0.38, 0.24] + (1 - green) * [0.42, 0.33, 0.25]
    return colour + draw(-0.05, 0.05, 1, 1, 3) + _soft_noise(draw, 7, 0.10)


def _soft_noise(draw: _Draw, knots: int, amplitude: float) -> Array:
    """(n, 32, 32, 1): bilinear between `knots` x `knots` random values."""
    values = draw(-amplitude, amplitude, knots, knots)
    place = np.linspace(0, knots - 1.001, _SIDE)
    low = place.astype(np.intp)
    part = place - low
    rows = values[:, low] * (1 - part)[:, None] + values[:, low + 1] * part[:, None]
    return (rows[:, :, low] * (1 - part) + rows[:, :, low + 1] * part)[..., None]


def _paint(canvas: Array, leaves: _Leaves) -> None:
    """Paint `leaves` over `canvas` (n, 32, 32, 3), one slot after the other, with soft edges."""
    for slot in range(leaves.x.shape[1]):
        rows = np.flatnonzero(leaves.length[:, slot] > 0)
        if not len(rows):
            continue
        # (m, 1, 1) attributes of the leaves of this slot, spread over the pixels.
        x, y, angle, length, width, bend = (
            getattr(leaves, name)[rows, slot, None, None]
            for name in ("x", "y", "angle", "length", "width", "bend")
        )
        cosine, sine = np.cos(angle), np.sin(angle)
        # A window around each leaf instead of the whole picture: a third of the work.
        margin = length * (width + np.abs(bend)) + 1.5
        side = min(_SIDE, int(np.ceil(np.max(length + 2 * margin))) + 1)
        place = np.arange(side)
        left = np.clip(np.floor(np.minimum(x, x + length * cosine) - margin), 0, _SIDE - side)
        top = np.clip(np.floor(np.minimum(y, y + length * sine) - margin), 0, _SIDE - side)
        column = left.astype(np.intp) + place
        row = top.astype(np.intp) + place[:, None]
        right, down = column + 0.5 - x, row + 0.5 - y
        u = (right * cosine + down * sine) / length
        v = down * cosine - right * sine - bend * length * u * u
        step = np.clip(u * _STEPS, 0, _STEPS - 1).astype(np.intp)
        half = width * length * _OUTLINES[leaves.outline[rows, slot, None, None], step]
        # Coverage falls from 1 to 0 within about a pixel, across the leaf and at its ends.
        cover = np.clip(half - np.abs(v) + 0.5, 0, 1) * np.clip(2 * half, 0, 1)
        cover *= np.clip(u * length + 0.5, 0, 1) * np.clip((1 - u) * length + 0.5, 0, 1)
        # One half of the blade catches more light, and the midrib is pale.
        shade = 1 + 0.12 * np.clip(v, -1, 1) + 0.15 * np.clip(0.6 - np.abs(v), 0, 1)
        window = (rows[:, None, None], row, column)
        below = canvas[window]
        leaf = leaves.colour[rows, slot, None, None] * shade[..., None]
        canvas[window] = below + cover[..., None] * (leaf - below)


def _photograph(draw: _Draw, canvas: Array) -> NDArray[np.uint8]:
    """Light the scene and expose it: brightness, tint, a gradient, a shadow, sensor noise."""
    direction = draw(-np.pi, np.pi, 1, 1)
    place = (np.arange(_SIDE) + 0.5) / _SIDE - 0.5
    slope = place * np.cos(direction) + place[:, None] * np.sin(direction)
    light = draw(0.75, 1.35, 1, 1) * (1 + draw(0.0, 0.5, 1, 1) * slope)
    picture = canvas * (light[..., None] + _soft_noise(draw, 4, 0.15))
    picture *= draw(0.9, 1.1, 1, 1, 3)
    picture += draw(-0.04, 0.04, _SIDE, _SIDE, 3)
    return np.rint(255 * np.clip(picture, 0, 1)).astype(np.uint8)
