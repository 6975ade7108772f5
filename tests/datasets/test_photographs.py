"""Photographs as cameras, microscopes and damaged disks give them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from optuna_deepweeds.datasets.photographs import (
    DamagedPhotographError,
    decode,
    decode_all,
    find_photographs,
)
from tests.datasets.support import png, png_chunk


def test_photograph_is_seen_upright_by_its_central_square_on_white(tmp_path: Path) -> None:
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[:32] = 250
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    Image.fromarray(picture).save(tmp_path / "turned.png", exif=exif)
    seen = decode(tmp_path / "turned.png").astype(int)
    assert seen[:, 20:].min() > 200 and seen[:, :12].max() < 50
    wide = np.zeros((50, 150, 3), np.uint8)
    wide[:, 50:100] = 250
    Image.fromarray(wide).save(tmp_path / "wide.png")
    assert decode(tmp_path / "wide.png")[:, 1:-1].min() > 200
    Image.new("RGBA", (40, 40), (0, 0, 0, 0)).save(tmp_path / "transparent.png")
    assert decode(tmp_path / "transparent.png").min() == 255


_RAMP = np.linspace(0.1, 0.9, 64)[None].repeat(64, 0)


@pytest.mark.parametrize(
    ("pixels", "suffix"),
    [
        ((_RAMP * 65535).astype(np.uint16), "png"),
        ((_RAMP * 65535).astype(np.uint16), "tiff"),
        ((_RAMP * 4095).astype(np.uint16), "tiff"),  # 12 bits in a file of 16
        ((_RAMP * 1023).astype(np.uint16), "png"),
        (_RAMP.astype(np.float32), "tiff"),
    ],
)
def test_one_scene_looks_the_same_at_every_depth(
    pixels: np.ndarray, suffix: str, tmp_path: Path
) -> None:
    Image.fromarray((_RAMP * 255).astype(np.uint8)).save(tmp_path / "plain.png")
    Image.fromarray(pixels).save(tmp_path / f"deep.{suffix}")
    plain, deep = decode(tmp_path / "plain.png"), decode(tmp_path / f"deep.{suffix}")
    assert np.abs(plain.astype(int) - deep).max() <= 3


@pytest.mark.parametrize(
    ("value", "kind", "reason"),
    [
        (400.0, np.float32, "floats must be 0 to 1, but go from 400 to 400"),
        (np.nan, np.float32, "floats must be 0 to 1, but go from nan"),
        (-1.0, np.float32, "floats must be 0 to 1"),
        (100_000, np.int32, "values must have 16 bits"),
    ],
)
def test_values_of_unknown_range_are_refused(
    value: float, kind: type[np.generic], reason: str, tmp_path: Path
) -> None:
    Image.fromarray(np.full((40, 40), value, kind)).save(tmp_path / "odd.tiff")
    with pytest.raises(DamagedPhotographError, match=reason):
        decode(tmp_path / "odd.tiff")


def _deep_png(value: int, *more: bytes) -> bytes:
    """A PNG of 16 bits a colour, which pillow reads but does not write."""
    return png(40, 16, (b"\0" + value.to_bytes(2, "big") * 3 * 40) * 40, *more)


def test_colours_of_12_bits_in_a_file_of_16_are_refused() -> None:
    assert (decode(_deep_png(100 * 257)) == 100).all()
    with pytest.raises(DamagedPhotographError, match="12 or fewer"):
        decode(_deep_png(4000))


def test_whatever_pillow_raises_is_about_one_photograph(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(_deep_png(25_700))
    (tmp_path / "1.png").write_bytes(_deep_png(25_700, png_chunk(b"iCCP", b"")))  # IndexError
    (tmp_path / "2.dds").write_bytes(b"DDS " + (124).to_bytes(4, "little") + bytes(120))
    (tmp_path / "3.blp").write_bytes(b"BLP2" + bytes(100))
    (tmp_path / "4.eps").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n")
    (tmp_path / "5.png").write_bytes(_deep_png(25_700)[:60])
    paths = find_photographs([tmp_path])
    images, damaged = decode_all(paths.__getitem__, len(paths))
    assert sorted(damaged) == [1, 2, 3, 4, 5]
    assert all(reason and "\n" not in reason for reason in damaged.values())
    assert (images[0] == 100).all()


def test_given_order_is_kept(tmp_path: Path) -> None:
    for name in ("a.jpg", "c.bmp", "deeper/g.webp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = find_photographs([tmp_path / "c.bmp", tmp_path / "deeper", tmp_path / "a.jpg"])
    assert [path.name for path in found] == ["c.bmp", "g.webp", "a.jpg"]
