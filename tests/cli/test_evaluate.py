"""`study evaluate` as a user calls it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Command


@pytest.mark.slow
def test_study_is_evaluated_and_its_network_predicts(command: Command) -> None:
    done = command(
        "study", "run", "--name", "mine", "--dataset", "demo", "--space", "course-small",
        "--trials", "1", "--epochs", "1", "--sampler", "random", "--pruner", "none",
    )  # fmt: skip
    assert done.code == 0, done.err
    result = command("study", "evaluate", "mine", "--seeds", "1", "--output", "n.pt", "-f", "json")
    record = result.json
    (trial,) = record["trials"]
    assert trial["mean"] == trial["seeds"][0]
    assert set(trial["recall"]) == set(record["classes"])
    assert trial["sd"] is None
    assert Path("n.pt").exists()
    assert "Saved the network of trial 0 to n.pt" in result.err
    table = command("study", "evaluate", "mine", "--seeds", "1", "--protocol", "cv3")
    assert table.code == 0, table.err
    assert "true classes in rows" in table.out
