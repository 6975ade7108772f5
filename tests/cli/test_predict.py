"""`predict`: any photograph in, classes out; everything else a clear line."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from optuna_deepweeds.cli.predict import predict
from optuna_deepweeds.datasets.photographs import decode
from optuna_deepweeds.errors import DeepWeedsError, InvalidInputError, NotFoundError
from optuna_deepweeds.training import TrainedNetwork, train
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
    assert isinstance(result.exception, DeepWeedsError) and result.exception.exit_code == 1
    assert "2 of 3 could not be read" in str(result.exception)
    assert "notes.txt must be a photograph" in result.stderr
    assert "z.jpg must be a photograph, but: " in result.stderr
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


def test_no_table_is_printed_where_nothing_can_be_read(model: Path, folder: Path) -> None:
    result = run(model, folder / "notes.txt")
    assert result.stdout == ""
    assert "notes.txt must be a photograph" in result.stderr


def test_network_of_larger_images_sees_photographs_at_its_size(
    folder: Path, tmp_path: Path
) -> None:
    data = make_squares(size=64)
    trained = train(SMALL, data, seed=0, epochs=1, device="cpu")
    trained.save(tmp_path / "large.pt")
    assert TrainedNetwork.load(tmp_path / "large.pt").image_size == 64
    result = run(tmp_path / "large.pt", folder / "a.jpg", "-f", "json")
    assert result.exit_code == 0, result.output
    (row,) = json.loads(result.stdout)
    pixels = decode(folder / "a.jpg", 64)
    assert row["top"][0]["probability"] == pytest.approx(trained.predict_proba(pixels[None]).max())
