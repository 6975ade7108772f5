"""`bench storage` in small."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from click.testing import CliRunner

from optuna_deepweeds.cli.bench_machine import storage
from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.studies.storage import open_storage


@pytest.mark.slow
def test_overhead_stands_beside_optunas_and_commands_alone() -> None:
    result = CliRunner().invoke(storage, ["--trials", "20", "-f", "csv"], catch_exceptions=False)
    rows = {row["what"]: row for row in csv.DictReader(result.stdout.splitlines())}
    for what in ("trial", "report"):
        assert float(rows[what]["seconds"]) > 0 and float(rows[what]["stock_seconds"]) > 0
    assert float(rows["study trials"]["seconds"]) > 0 and not rows["study trials"]["difference_ms"]


def test_a_database_with_studies_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/optuna.db"
    open_storage(url).create_new_study([1], "there")  # type: ignore[list-item]
    with pytest.raises(InvalidInputError, match="must be empty"):
        CliRunner().invoke(storage, ["--storage", url], catch_exceptions=False)
