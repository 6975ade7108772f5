"""Spaces of one's own: from Python, from TOML, and back as a study stores them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from optuna_deepweeds.errors import InvalidInputError, NotFoundError
from optuna_deepweeds.spaces import SPACES, Condition, Parameter, SearchSpace
from optuna_deepweeds.spaces.load import from_data, load_space, to_data, to_toml

TOML = """
[parameters]
optimizer = { choices = ["adam", "sgd"] }
rate = { type = "float", low = 1e-5, high = 1, log = true }
momentum = { type = "float", low = 0.5, high = 0.99, when = { parent = "optimizer", values = ["sgd"] } }
layers = { type = "int", low = 1, high = 3 }
width_2 = { type = "int", low = 8, high = 64, step = 8, when = { parent = "layers", at_least = 2 } }
[constants]
size = 3
"""  # noqa: E501
PYTHON = """
from optuna.distributions import FloatDistribution, IntDistribution
from optuna_deepweeds.spaces import Condition, Parameter, SearchSpace
N = Parameter("n", IntDistribution(1, 5))
WHOLE = SearchSpace("w", (N, Parameter("x", FloatDistribution(0, 1), Condition("n", at_least=2))))
PLAIN = {"x": FloatDistribution(0, 1), "n": IntDistribution(1, 5)}
WRONG = {"x": (0, 1)}
LIST = [1]
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_text(TOML)
    Path("mine.py").write_text(PYTHON)
    return tmp_path


def test_a_toml_file_says_all_that_a_space_can() -> None:
    space = load_space("mine.toml")
    assert space.distributions == {
        "optimizer": CategoricalDistribution(("adam", "sgd")),
        "rate": FloatDistribution(1e-5, 1.0, log=True),
        "momentum": FloatDistribution(0.5, 0.99),
        "layers": IntDistribution(1, 3),
        "width_2": IntDistribution(8, 64, step=8),
    }
    assert space.constants == {"size": 3}
    assert space["momentum"].condition == Condition("optimizer", values=("sgd",))
    assert space.active({"optimizer": "adam", "layers": 2}) == (
        "optimizer", "rate", "layers", "width_2"
    )  # fmt: skip


@pytest.mark.parametrize("name", SPACES)
def test_a_space_is_the_same_after_toml_and_after_json(name: str) -> None:
    space = SPACES[name]
    Path("again.toml").write_text(to_toml(space))
    again = load_space("again.toml")
    stored = from_data(name, json.loads(json.dumps(to_data(space))))
    for other in (again, stored):
        assert (other.parameters, dict(other.constants)) == (
            space.parameters, dict(space.constants)
        )  # fmt: skip


def test_python_gives_optunas_distributions_by_name() -> None:
    space = load_space("mine.py:PLAIN")
    assert space.name == "mine.py:PLAIN"
    assert space.distributions == {"x": FloatDistribution(0, 1), "n": IntDistribution(1, 5)}


def test_python_gives_a_whole_space_with_conditions() -> None:
    space = load_space("mine.py:WHOLE")
    assert space.name == "mine.py:WHOLE"
    assert space["x"].condition == Condition("n", at_least=2)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("low = 0.5", "lo = 0.5", "momentum: no key 'lo'. Did you mean 'low'"),
        ("low = 0.5", 'low = "a"', "low must be a whole number or a number"),
        ("low = 0.5", "low = 5", "`low <= high` must hold"),
        ('values = ["sgd"]', 'values = ["sdg"]', "'optimizer' is never 'sdg'"),
        ('parent = "optimizer"', 'parent = "optimiser"', "Did you mean 'optimizer'"),
        ("at_least = 2", 'at_least = 2, values = ["x"]', "exactly one of"),
        ('parent = "layers"', 'parent = "optimizer"', "must be a number"),
        ("low = 1,", "low = 1.5,", "type int must have whole numbers"),
        ('type = "int"', 'type = "integer"', "Did you mean 'int'"),
        ('choices = ["adam", "sgd"]', 'type = "float"', "must have low and high"),
        ('choices = ["adam", "sgd"]', "choices = []", "choices"),
        ("size = 3", "rate = 3", "'rate' is declared twice"),
        ("[parameters]", "[parameter]", "Did you mean 'parameters'"),
        ("[parameters]", "[parameters", "must be a TOML file"),
    ],
)
def test_a_wrong_file_is_one_line(old: str, new: str, words: str) -> None:
    Path("mine.toml").write_text(TOML.replace(old, new))
    with pytest.raises(InvalidInputError) as caught:
        load_space("mine.toml")
    assert words in str(caught.value)
    assert str(caught.value).startswith("mine.toml") and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("place", "error", "words"),
    [
        ("none.toml", NotFoundError, "no file none.toml"),
        ("none.py:SPACE", NotFoundError, "no file none.py"),
        ("mine.py", InvalidInputError, "`file.py:NAME`"),
        ("mine.py:PLAN", InvalidInputError, "Did you mean 'PLAIN'"),
        ("mine.py:WRONG", InvalidInputError, "but x is a tuple"),
        ("mine.py:LIST", InvalidInputError, "a list"),
        ("curse", InvalidInputError, "Did you mean 'course'"),
    ],
)
def test_what_is_no_space_is_one_line(place: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error) as caught:
        load_space(place)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_none_is_a_choice_that_toml_does_not_know() -> None:
    space = SearchSpace("odd", (Parameter("x", CategoricalDistribution((None, 1))),))
    assert from_data("odd", to_data(space)).parameters == space.parameters
    with pytest.raises(InvalidInputError, match="x must not be None"):
        to_toml(space)
