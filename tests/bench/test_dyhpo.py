"""The bridge to Syne Tune's DyHPO: its decisions are carried out, its failures told."""

from __future__ import annotations

import os
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from optuna_deepweeds.bench import dyhpo
from optuna_deepweeds.bench.dyhpo import DyHPO
from optuna_deepweeds.bench.families import curves_of
from optuna_deepweeds.bench.methods import DYHPO
from optuna_deepweeds.bench.pruners import grid, run_cell
from optuna_deepweeds.bench.replay import Simulation
from optuna_deepweeds.errors import DeepWeedsError

T = 4


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dyhpo, "_SERVER", Path(__file__).with_name("dyhpo_stub.py"))


@pytest.mark.usefixtures("stub")
@pytest.mark.parametrize("workers", [1, 3])
def test_rows_are_started_and_resumed_as_the_other_side_says(workers: int) -> None:
    curves = curves_of("power_0").cut(T)
    with closing(DyHPO(curves, seed=0, python=sys.executable)) as peer:
        simulation = Simulation(curves, peer, sampler=peer)
        outcome = simulation.run(max_epochs=40, workers=workers)
        first, *_ = simulation.study.trials
    assert outcome.epochs == 40 == outcome.paid.sum()
    # Each worker may have begun what it did not come to train.
    n_rows = outcome.trials - outcome.continuations
    assert n_rows - workers <= (outcome.paid > 0).sum() <= n_rows
    assert first.params == dict(curves.params[0])
    assert outcome.paid[:20].max() == T and outcome.finished


@pytest.mark.usefixtures("stub")
def test_it_stands_beside_the_others_and_chooses_for_itself() -> None:
    cells = grid(["power_0"], ["none", DYHPO], ["random", "tpe"], budget=2, seeds=(0,))
    pairs = [(cell.method["sampler"], cell.method["pruner"]) for cell in cells]
    assert pairs == [("random", "none"), ("tpe", "none"), (DYHPO, DYHPO)]
    short = replace(cells[-1], case={**cells[-1].case, "max_resource": T})
    assert run_cell(short, dyhpo_python=sys.executable)["epochs"] == 2 * T


@pytest.mark.usefixtures("stub")
def test_failures_of_the_other_side_are_told() -> None:
    curves = curves_of("power_0")
    with pytest.raises(DeepWeedsError, match="dyhpo failed: broken"):
        DyHPO(curves, seed=13, python=sys.executable)
    with pytest.raises(DeepWeedsError, match="--dyhpo-python"):
        DyHPO(curves, seed=0, python=None)


@pytest.mark.slow
@pytest.mark.skipif(
    "DYHPO_PYTHON" not in os.environ, reason="DYHPO_PYTHON names no interpreter with Syne Tune"
)
def test_the_real_one_starts_and_resumes() -> None:
    curves = curves_of("power_0").cut(T)
    with closing(DyHPO(curves, seed=0, python=os.environ["DYHPO_PYTHON"])) as peer:
        outcome = Simulation(curves, peer, sampler=peer).run(max_epochs=10 * T)
    assert outcome.continuations > 0 and (outcome.paid > 0).sum() > 3
