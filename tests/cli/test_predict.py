"""`predict`: any photograph in, classes out; everything else a clear line."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from optuna_deepweeds.cli.predict import predict
from optuna_deepweeds.errors import InvalidInputError, NotFoundError
from optuna_deepweeds.training import TrainedNetwork, train
from optuna_deepweeds.training.predict import find_photographs, read_photograph
from tests.training.conftest import SMALL, make_squares


@pytest.fixture(scope="module")
def network() -> TrainedNetwork:
    return train(SMALL, make_squares(), seed=0, epochs=4, device="cpu")


@pytest.fixture
def model(network: TrainedNetwork, tmp_path: Path) -> Path:
    network.save(tmp_path / "model.pt")
    return tmp_path / "model.pt"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A photograph of each kind, in the one colour that says what it is."""
    folder = tmp_path / "photographs"
    (folder / "deeper").mkdir(parents=True)
    Image.new("RGB", (400, 300), (250, 0, 0)).save(folder / "a.jpg")
    Image.new("RGBA", (31, 90), (0, 250, 0, 255)).save(folder / "b.PNG")
    Image.new("L", (8, 8), 250).save(folder / "c.bmp")
    Image.new("P", (64, 64)).save(folder / "d.gif")
    Image.new("CMYK", (64, 64)).save(folder / "e.tiff")
    Image.new("I;16", (40, 40), 60000).save(folder / "f.png")
    Image.new("RGB", (2000, 2000), (0, 0, 250)).save(folder / "deeper" / "g.webp")
    (folder / "notes.txt").write_text("no photograph")
    (folder / ".hidden.jpg").write_text("no photograph either")
    return folder


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(predict, [str(a) for a in arguments])


def test_folder_is_classified_in_one_call(model: Path, folder: Path) -> None:
    result = run(model, folder, "-f", "json")
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)
    names = [Path(row["image"]).name for row in rows]
    assert names == ["a.jpg", "b.PNG", "c.bmp", "d.gif", "g.webp", "e.tiff", "f.png"]
    for row in rows:
        shares = [entry["probability"] for entry in row["top"]]
        assert len(shares) == 3
        assert shares == sorted(shares, reverse=True)
        assert 0 <= shares[-1] <= shares[0] <= 1


def test_formats_agree(model: Path, folder: Path) -> None:
    photograph = folder / "a.jpg"
    (row,) = json.loads(run(model, photograph, "-f", "json", "--top", 2).stdout)
    (line,) = csv.DictReader(io.StringIO(run(model, photograph, "-f", "csv", "--top", 2).stdout))
    assert line["class_1"] == row["top"][0]["class"]
    assert float(line["probability_2"]) == row["top"][1]["probability"]
    assert "class_3" not in line
    table = run(model, photograph, "--top", 99).stdout
    assert row["top"][0]["class"] in table
    assert "class 4" in table and "class 5" not in table


def test_unreadable_photographs_are_named_and_the_others_printed(
    model: Path, folder: Path
) -> None:
    (folder / "z.jpg").write_bytes((folder / "a.jpg").read_bytes()[:200])
    result = run(model, folder / "notes.txt", folder / "a.jpg", folder / "z.jpg", "-f", "json")
    assert isinstance(result.exception, InvalidInputError)
    assert "2 of 3 could not be read" in str(result.exception)
    assert "notes.txt must be a photograph" in result.stderr
    assert "z.jpg must be a readable photograph" in result.stderr
    assert [Path(row["image"]).name for row in json.loads(result.stdout)] == ["a.jpg"]


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        (("model.pt", "absent.jpg"), NotFoundError, "no file or folder"),
        (("absent.pt", "photographs"), NotFoundError, "absent.pt"),
        (("photographs/a.jpg", "photographs"), InvalidInputError, "must be of the kind"),
        (("photographs", "photographs"), NotFoundError, "photographs"),
        (("model.pt", "photographs/empty"), InvalidInputError, "at least one photograph"),
    ],
)
def test_wrong_arguments_are_one_line(
    model: Path, folder: Path, arguments: tuple[str, str], kind: type[Exception], words: str
) -> None:
    (folder / "empty").mkdir()
    result = run(*(model.parent / argument for argument in arguments))
    assert isinstance(result.exception, kind)
    assert words in str(result.exception)
    assert "\n" not in str(result.exception)


def test_image_is_required(model: Path) -> None:
    assert run(model).exit_code == 2


def test_photograph_is_turned_upright(tmp_path: Path) -> None:
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[:32] = 250
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    Image.fromarray(picture).save(tmp_path / "turned.png", exif=exif)
    seen = read_photograph(tmp_path / "turned.png").astype(int)
    assert seen[:, 20:].min() > 200
    assert seen[:, :12].max() < 50


def test_central_square_is_seen(tmp_path: Path) -> None:
    picture = np.zeros((50, 150, 3), np.uint8)
    picture[:, 50:100] = 250
    Image.fromarray(picture).save(tmp_path / "wide.png")
    assert read_photograph(tmp_path / "wide.png")[:, 1:-1].min() > 200


def test_transparent_becomes_white(tmp_path: Path) -> None:
    Image.new("RGBA", (40, 40), (0, 0, 0, 0)).save(tmp_path / "empty.png")
    assert read_photograph(tmp_path / "empty.png").min() == 255


def test_sixteen_bits_become_eight(tmp_path: Path) -> None:
    Image.new("I;16", (40, 40), 257 * 100).save(tmp_path / "deep.png")
    assert (read_photograph(tmp_path / "deep.png") == 100).all()


def test_given_order_is_kept(folder: Path) -> None:
    found = find_photographs([folder / "c.bmp", folder / "deeper", folder / "a.jpg"])
    assert [path.name for path in found] == ["c.bmp", "g.webp", "a.jpg"]


def test_reads_a_photograph_as_the_data_set_was_made() -> None:
    default = Path(__file__).resolve().parents[2].parent / "shared"
    shared = Path(os.environ.get("DEEPWEEDS_SHARED", default)) / "data"
    originals = sorted((shared / "deepweeds" / "images").glob("*.jpg"))[:10]
    if not originals:
        pytest.skip("no original photographs beside the repository (DEEPWEEDS_SHARED).")
    with np.load(shared / "deepweeds32.npz") as prepared:
        index = {name: i for i, name in enumerate(prepared["filenames"])}
        images = prepared["images"]
    for path in originals:
        assert np.array_equal(read_photograph(path), images[index[path.name]]), path.name
