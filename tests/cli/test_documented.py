"""The commands that the documentation shows are those that there are."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from optuna_deepweeds.cli import cli

_ROOT = Path(__file__).parents[2]
_FILES = ("README.md", "storage/README.md", "priors/README.md", "storage/compose.yaml")


def _commands() -> list[str]:
    found = []
    for name in _FILES:
        text = (_ROOT / name).read_text().replace("\\\n", " ")
        for line in re.findall(r"(?:^|[\s`/;])optuna-deepweeds +([a-z][^`#\n]*)", text):
            # Alternatives and further commands stand behind a bar or an ampersand.
            found.append(re.split(r"\s(?:\||&&|>)\s", line)[0].strip())
    return sorted(set(found))


@pytest.mark.parametrize("line", _commands())
def test_documented_command_is_understood(line: str) -> None:
    result = CliRunner().invoke(cli, [*shlex.split(line), "--help"])
    assert result.exit_code == 0, result.output


def test_commands_were_found() -> None:
    assert len(_commands()) > 20
