"""What `storage/compose.yaml` would run, run by hand: there need not be Docker for that."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from click.testing import CliRunner

from optuna_deepweeds.cli import cli
from optuna_deepweeds.errors import StorageError
from optuna_deepweeds.studies.storage import open_storage
from tests.postgres import LocalPostgres

_FILE = Path(__file__).parents[2] / "storage" / "compose.yaml"


def _compose() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(_FILE.read_text())
    return content


@pytest.mark.parametrize("service", ["dashboard", "worker"])
def test_commands_of_the_services_are_understood(service: str) -> None:
    result = CliRunner().invoke(cli, [*_compose()["services"][service]["command"], "--help"])
    assert result.exit_code == 0, result.output


def test_every_port_is_published_on_this_machine_alone() -> None:
    ports = [port for s in _compose()["services"].values() for port in s.get("ports", ())]
    assert len(ports) == 2
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_what_is_mounted_and_copied_exists() -> None:
    compose = _compose()
    volumes = [v for s in compose["services"].values() for v in s.get("volumes", ())]
    named = {re.sub(r"\$\{\w+:-(\w+)\}", r"\1", volume).split(":")[0] for volume in volumes}
    assert named == set(compose["volumes"])
    for line in compose["x-package"]["build"]["dockerfile_inline"].splitlines():
        if line.startswith("COPY"):
            for name in line.split()[1:-1]:
                assert (_FILE.parent / compose["x-package"]["build"]["context"] / name).exists()


@pytest.mark.postgres
def test_reader_may_look_and_not_touch(postgres: LocalPostgres) -> None:
    import psycopg

    if shutil.which("psql") is None:
        pytest.skip("psql is not installed.")
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE studies")
    environment = {
        **os.environ,
        "PGHOST": "127.0.0.1",
        "PGPORT": str(postgres.port),
        "POSTGRES_USER": "postgres",
        "POSTGRES_DB": "studies",
        "READER_PASSWORD": 'it\'s "quoted"; $HOME',
    }
    # Compose hands on every $$ as $.
    script = _compose()["configs"]["reader"]["content"].replace("$$", "$")
    subprocess.run(["sh", "-c", script], env=environment, check=True, capture_output=True)

    writer = open_storage(postgres.url("studies"))
    optuna.create_study(study_name="mine", storage=writer)
    reader_url = postgres.url("studies").replace("postgres@", "reader@")
    study = optuna.load_study(study_name="mine", storage=open_storage(reader_url, must_exist=True))
    assert study.get_trials() == []
    with pytest.raises(StorageError, match="permission denied"):
        study.ask()
    with pytest.raises(StorageError, match="permission denied"):
        optuna.delete_study(study_name="mine", storage=study._storage)
