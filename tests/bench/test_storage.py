"""`bench storage` on real workers and storages, in small."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from optuna_deepweeds.bench.storage import Places, claims, kills
from optuna_deepweeds.cli.bench_storage import storage

pytestmark = pytest.mark.slow


def test_shared_queue_is_run_once() -> None:
    assert claims(Places("sqlite", None), workers=2, n_trials=8, n_enqueued=4).problems == []


def test_kills_lose_nothing() -> None:
    outcome = kills(Places("sqlite", None), workers=2, n_kills=3, n_trials=4)
    assert (outcome.events, outcome.problems) == (3, [])


def test_command_tells_each_repetition() -> None:
    arguments = ["--case", "starts", "--backend", "sqlite", "--workers", "2", "-f", "csv"]
    result = CliRunner().invoke(storage, arguments)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0] == "case,backend,workers,events,again,seconds,problems"
    assert result.stdout.splitlines()[1].startswith("starts,sqlite,2,0,")
