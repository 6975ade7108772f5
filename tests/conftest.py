"""Fixtures for every room."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest

from optuna_deepweeds.datasets import Dataset
from tests import images
from tests.postgres import LocalPostgres, find_programs, local_postgres

pytest.register_assert_rewrite("optuna.testing.pytest_samplers", "optuna.testing.pytest_storages")
optuna.logging.set_verbosity(optuna.logging.WARNING)


@pytest.fixture(scope="session")
def postgres() -> Iterator[LocalPostgres]:
    """A real PostgreSQL server, started for this test run."""
    if find_programs() is None:
        pytest.skip("PostgreSQL's server programs (initdb, pg_ctl) are not installed.")
    pytest.importorskip("psycopg", reason="the Python package psycopg is not installed.")
    with local_postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def storage_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty storage: once on SQLite, once on PostgreSQL where it is installed."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/optuna.db"
    server: LocalPostgres = request.getfixturevalue("postgres")
    return server.new_database()


@pytest.fixture(scope="session")
def tiny_images() -> Dataset:
    """Two classes that differ in brightness, 48 images; an epoch takes milliseconds."""
    return images.tiny()
