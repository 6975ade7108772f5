"""`bench pruners --prior-curves`: what is held out and given, and what it changes."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optuna_deepweeds.bench import pruner_summary, warm_start
from optuna_deepweeds.bench.curves import Curves, load
from optuna_deepweeds.bench.pruner_rows import COLUMNS, Cell, read_rows
from optuna_deepweeds.bench.pruners import grid, run_cell, run_grid
from optuna_deepweeds.cli import main
from optuna_deepweeds.errors import InvalidInputError

T = 9
NEW_COLUMNS = ("held_out", "prior_curves", "prior_sources", "prior_digest")


@pytest.fixture
def sources(tmp_path: Path) -> list[str]:
    return [_table(tmp_path / f"{name}.npz", seed) for seed, name in enumerate("abc")]


def _table(path: Path, seed: int) -> str:
    """A TaskSet-like file of 60 configurations and T epochs, good ones better from the start."""
    final = np.random.default_rng(seed).uniform(0.1, 0.7, (60, 1))
    loss = final + (0.7 - final) * np.exp(-np.arange(T + 1))
    np.savez(path, hyperparameters=final, names=np.array(["final"]), valid_loss=loss)
    return str(path)


def _cells(sources: list[str], *kinds: str, **changed: Any) -> list[Cell]:
    options: dict[str, Any] = {
        "max_resources": (), "workers": (1,), "orders": ("random",), "noises": (0.0,),
        "misleads": (0.0,), "budget": 2, "seeds": (0,), "prior_curves": kinds,
    }  # fmt: skip
    return grid(sources, changed.pop("pruners", ("dora",)), **{**options, **changed})


def _run(sources: list[str], kind: str, **changed: Any) -> dict[str, Any]:
    """The row of the first source with these prior curves."""
    cells = _cells(sources, kind, **changed)
    return run_cell(next(cell for cell in cells if cell.prior_curves == kind))


@pytest.fixture
def table(sources: list[str]) -> Curves:
    return load(sources[0])


def test_what_is_held_out_is_not_replayed(table: Curves) -> None:
    replayed, held_out = warm_start.hold_out(table, warm_start.n_held_out(table), seed=0)
    assert len(held_out) == len(replayed.values) == 30
    both = np.concatenate([replayed.values, held_out])
    assert np.array_equal(np.sort(both, axis=0), np.sort(table.values, axis=0))
    assert [row["final"] for row in replayed.params] == pytest.approx(
        -np.log(replayed.values[:, -1]), abs=1e-3
    )
    assert replayed.best == replayed.values[:, -1].max()


def test_each_seed_holds_out_others(table: Curves) -> None:
    first, again, other = (warm_start.hold_out(table, 30, seed=seed)[1] for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_curves_of_the_same_task_lack_their_best_fifth(table: Curves) -> None:
    given = warm_start.pruner_options("same", table.values, seed=0)["prior_curves"]
    assert len(given) == 48
    assert given[:, -1].max() < np.sort(table.values[:, -1])[48]


def test_misleading_curves_are_those_of_the_task_moved_or_turned(table: Curves) -> None:
    kinds = ("same", "shifted", "lowered", "negated")
    same, shifted, lowered, negated = (
        warm_start.pruner_options(kind, table.values, seed=0)["prior_curves"] for kind in kinds
    )
    assert shifted == pytest.approx(same + 0.3)
    assert lowered == pytest.approx(same - 0.3)
    assert np.argsort(negated[:, -1]).tolist() == np.argsort(-same[:, -1]).tolist()
    assert np.median(negated) == pytest.approx(np.median(same))


def test_related_curves_are_those_of_all_other_tasks(sources: list[str]) -> None:
    others = [load(source) for source in sources[1:]]
    options = warm_start.pruner_options("related", np.empty((0, T)), others, seed=0)
    assert [len(curves) for curves in options["related_curves"]] == [60, 60]
    assert warm_start.pruner_options("none", np.empty((0, T)), seed=0) == {}


def test_the_control_replays_what_the_others_replay(sources: list[str]) -> None:
    cells = _cells(sources[:1], "same", "negated", pruners=("asha-3-1", "dora"))
    assert [(cell.pruner, cell.prior_curves) for cell in cells] == [
        ("asha-3-1", "none"), ("dora", "none"), ("dora", "same"), ("dora", "negated"),
    ]  # fmt: skip
    assert {cell.held_out for cell in cells} == {30}
    assert {cell.held_out for cell in _cells(sources[:1], "none")} == {0}


def test_good_curves_stop_what_no_curves_let_run(sources: list[str]) -> None:
    cold, warm = (_run(sources[:1], kind, budget=1) for kind in ("none", "same"))
    assert warm["trials"] > cold["trials"]
    assert (warm["held_out"], warm["digest"]) == (30, load(sources[0]).digest)


def test_related_runs_are_kept_apart_by_the_tasks_they_were_given(
    sources: list[str], tmp_path: Path
) -> None:
    output = tmp_path / "runs.csv"
    run_grid(_cells(sources[:2], "related"), output)
    before = output.read_text()
    run_grid(_cells(sources[:2], "related"), output)
    assert output.read_text() == before
    run_grid(_cells(sources, "related"), output)
    rows = [row for row in read_rows(output) if row["task"] == "a"]
    assert [len(row["prior_sources"]) for row in rows] == [0, 1, 2]
    with pytest.raises(InvalidInputError, match="same curves"):
        pruner_summary.summarise(rows, budgets=(2,))


def test_files_from_before_prior_curves_are_read_and_extended(
    sources: list[str], tmp_path: Path
) -> None:
    output = tmp_path / "runs.csv"
    run_grid(_cells(sources[:1], "none"), output)
    now = read_rows(output)
    with output.open(newline="") as file:
        old = list(csv.DictReader(file))
    with output.open("w", newline="") as file:
        columns = [column for column in COLUMNS if column not in NEW_COLUMNS]
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(old)
    assert read_rows(output) == now
    run_grid(_cells(sources[:1], "none"), output)  # nothing to do
    assert read_rows(output) == now
    run_grid(_cells(sources[:1], "same"), output)
    kinds = [(row["held_out"], row["prior_curves"]) for row in read_rows(output)]
    assert kinds == [(0, "none"), (30, "none"), (30, "same")]
    assert read_rows(output)[0] == now[0]


def _row(kind: str, seed: int, finished: list[list[float]]) -> dict[str, Any]:
    return {
        "max_resource": 10, "workers": 1, "order": "random", "noise": 0.0, "mislead": 0.0,
        "storage": "memory", "held_out": 30, "budget": 4, "pruner": "dora", "task": "a",
        "prior_curves": kind, "digest": "a", "prior_digest": "", "seed": seed,
        "finished": finished, "seen": finished, "outside_top_tenth": 0.5, "top_started": 1,
        "top_stopped": 1, "decision_ms": 2.0,
    }  # fmt: skip


def test_the_effect_is_paired_with_the_same_seed_without_curves() -> None:
    rows = [
        _row("none", 0, [[20, 0.5]]), _row("same", 0, [[10, 0.4]]),
        _row("none", 1, [[20, 0.9]]), _row("same", 1, [[10, 0.6]]),
        _row("same", 2, [[10, 0.0]]),
    ]  # fmt: skip
    cold, same = pruner_summary.summarise(rows, budgets=(1, 2))
    assert (cold["prior_curves"], same["prior_curves"]) == ("none", "same")
    assert "vs_cold" not in cold
    # Without curves nothing is finished after one training.
    assert same["vs_cold_1"] == pytest.approx((0.4 - 1.0 + 0.6 - 1.0) / 2)
    assert same["vs_cold_2"] == pytest.approx((0.4 - 0.5 + 0.6 - 0.9) / 2)
    assert same["vs_cold_2_se"] == pytest.approx(0.1)
    assert same["vs_cold"] == pytest.approx((same["vs_cold_1"] + same["vs_cold_2"]) / 2)
    assert set(pruner_summary.warm_start_columns((1, 2))) <= {*same}


def _command(*args: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["bench", "pruners", *args])
    return int(stop.value.code or 0)


def test_the_command_shows_the_effect(
    sources: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    curves = [word for source in sources for word in ("--curves", source)]
    options = ("--pruners", "dora", "--seeds", "2", "--budgets", "1,2", "-f", "json")
    assert _command(*curves, *options, "--prior-curves", "related,same") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["prior_curves"] for row in rows] == ["none", "related", "same"]
    assert tuple(rows[0]) == pruner_summary.warm_start_columns((1, 2))
    assert rows[0]["vs_cold"] is None and rows[2]["vs_cold_se"] is not None


@pytest.mark.parametrize(
    "options",
    [
        ("--prior-curves", "good"),
        ("--prior-curves", "related"),
        ("--prior-curves", "same", "--pruners", "none,asha-3-1"),
    ],
)
def test_a_wrong_kind_of_curves_ends_with_one_line(
    sources: list[str], options: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert _command("--curves", sources[0], "--quick", *options) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "rror" in line]
    assert len(lines) == 1
