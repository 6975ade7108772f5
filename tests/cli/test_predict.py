"""`predict`: any photograph in, classes out; everything else a clear line."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from optuna_deepweeds.datasets.photographs import decode
from optuna_deepweeds.training import TrainedNetwork, train
from tests.cli.conftest import Command
from tests.training.conftest import SMALL, make_squares


@pytest.fixture(scope="module")
def network() -> TrainedNetwork:
    return train(SMALL, make_squares(), seed=0, epochs=4, device="cpu")


@pytest.fixture
def predict(command: Command, network: TrainedNetwork) -> Command:
    """`predict` beside the network model.pt and the folder photographs."""
    network.save(Path("model.pt"))
    _photographs(Path("photographs"))
    return partial(command, "predict")


def _photographs(folder: Path) -> None:
    """A photograph of each kind, in the one colour that says what it is."""
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
    (folder / "empty").mkdir()


def test_folder_is_classified_in_one_call(predict: Command) -> None:
    rows = predict("model.pt", "photographs", "-f", "json").json
    names = [Path(row["image"]).name for row in rows]
    assert names == ["a.jpg", "b.PNG", "c.bmp", "d.gif", "g.webp", "e.tiff", "f.png"]
    for row in rows:
        shares = [entry["probability"] for entry in row["top"]]
        assert len(shares) == 3
        assert shares == sorted(shares, reverse=True)
        assert 0 <= shares[-1] <= shares[0] <= 1


def test_pattern_stands_for_the_files_that_fit(predict: Command) -> None:
    rows = predict("model.pt", "photographs/**/*.[jw]*", "-f", "json").json
    assert [Path(row["image"]).name for row in rows] == ["a.jpg", "g.webp"]


def test_formats_agree(predict: Command) -> None:
    answer = partial(predict, "model.pt", "photographs/a.jpg")
    (row,) = answer("-f", "json", "--top", 2).json
    (line,) = answer("-f", "csv", "--top", 2).csv
    assert line["class_1"] == row["top"][0]["class"]
    assert float(line["probability_2"]) == row["top"][1]["probability"]
    assert "class_3" not in line
    table = answer("--top", 99).out
    assert row["top"][0]["class"] in table
    assert "class 4" in table and "class 5" not in table


def test_unreadable_photographs_are_named_and_the_others_printed(predict: Command) -> None:
    Path("z.jpg").write_bytes(Path("photographs/a.jpg").read_bytes()[:200])
    files = ("photographs/notes.txt", "photographs/a.jpg", "z.jpg")
    result = predict("model.pt", *files, "-f", "json")
    assert result.code == 1
    assert "2 of 3 could not be read" in result.err
    assert "notes.txt must be a photograph" in result.err
    assert "z.jpg must be a photograph, but: " in result.err
    assert [Path(row["image"]).name for row in json.loads(result.out)] == ["a.jpg"]
    result = predict("model.pt", files[0])
    assert result.out == "" and "notes.txt must be a photograph" in result.err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("model.pt", "absent.jpg"), 3, "no file or folder"),
        (("absent.pt", "photographs"), 3, "absent.pt"),
        (("photographs/a.jpg", "photographs"), 2, "must be of the kind"),
        (("photographs", "photographs"), 3, "photographs"),
        (("model.pt", "photographs/empty"), 2, "at least one photograph"),
        (("model.pt",), 2, "IMAGE"),
    ],
)
def test_wrong_arguments_are_one_line(
    predict: Command, arguments: tuple[str, ...], code: int, words: str
) -> None:
    result = predict(*arguments)
    assert result.code == code and words in result.err
    assert len(result.err.splitlines()) == 1


def test_network_of_larger_images_sees_photographs_at_its_size(predict: Command) -> None:
    trained = train(SMALL, make_squares(size=64), seed=0, epochs=1, device="cpu")
    trained.save(Path("large.pt"))
    assert TrainedNetwork.load(Path("large.pt")).image_size == 64
    (row,) = predict("large.pt", "photographs/a.jpg", "-f", "json").json
    expected = trained.predict_proba(decode(Path("photographs/a.jpg"), 64)[None]).max()
    assert row["top"][0]["probability"] == pytest.approx(expected)
