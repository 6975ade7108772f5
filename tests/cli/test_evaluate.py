"""`study evaluate` as a user calls it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from optuna_deepweeds.studies import manager
from optuna_deepweeds.studies.spec import Budget, StudySpec
from optuna_deepweeds.studies.storage import open_storage
from tests.cli.conftest import Command


def test_wrong_input_is_one_line(command: Command) -> None:
    spec = StudySpec(dataset="demo", dataset_fingerprint="other")
    manager.create_or_continue("mine", spec, Budget(trials=5), open_storage())
    for code, words, args in (
        (3, "no study 'yours'", ["yours"]),
        (2, "--protocol holdout", ["mine", "--protocol", "cv3", "--output", "x.pt"]),
        (2, "Invalid value for '--recipe'", ["mine", "--recipe", "secret"]),
    ):
        result = command("study", "evaluate", *args)
        assert result.code == code, result.err
        assert words in result.err
        assert "Traceback" not in result.err
        assert result.out == ""


@pytest.mark.slow
def test_study_is_evaluated_and_its_network_predicts(command: Command) -> None:
    done = command(
        "study", "run", "--name", "mine", "--dataset", "demo", "--space", "course-small",
        "--trials", "1", "--epochs", "1", "--sampler", "random", "--pruner", "none",
    )  # fmt: skip
    assert done.code == 0, done.err
    result = command("study", "evaluate", "mine", "--seeds", "1", "--output", "n.pt", "-f", "json")
    assert result.code == 0, result.err
    record = json.loads(result.out)
    (trial,) = record["trials"]
    assert trial["mean"] == trial["seeds"][0]
    assert set(trial["recall"]) == set(record["classes"])
    assert trial["sd"] is None
    assert Path("n.pt").exists()
    assert "Saved the network of trial 0 to n.pt" in result.err
    table = command("study", "evaluate", "mine", "--seeds", "1", "--protocol", "cv3")
    assert table.code == 0, table.err
    assert "true classes in rows" in table.out
