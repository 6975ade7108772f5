"""Help that teaches, completion, names misspelt: what a person meets before anything runs."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from optuna_deepweeds.cli import cli
from tests.cli.conftest import Command


def _members(command: click.Command, ctx: click.Context) -> Iterator[click.Context]:
    """Contexts of a command and of everything under it."""
    yield ctx
    if isinstance(command, click.Group):
        for name in command.list_commands(ctx):
            member = command.get_command(ctx, name)
            assert member is not None
            yield from _members(member, click.Context(member, info_name=name, parent=ctx))


def _pages() -> dict[str, str]:
    """Path of each command -> its help page at 80 columns."""
    root = click.Context(cli, info_name="optuna-deepweeds", max_content_width=80)
    root.terminal_width = 80
    pages = {}
    for ctx in _members(cli, root):
        ctx.terminal_width = ctx.max_content_width = 80
        pages[ctx.command_path] = ctx.get_help()
    return pages


PAGES = _pages()


def _examples() -> list[str]:
    return [
        match.group(1).strip()
        for page in PAGES.values()
        # A comment begins after a space: `URL#STUDY` has none.
        for match in re.finditer(r"^ +(optuna-deepweeds .*?)(?: +[#>].*)?$", page, re.M)
        if "Usage" not in match.group(0)
    ]


def test_every_page_has_examples_and_fits_80_columns() -> None:
    assert len(PAGES) > 30
    for path, page in PAGES.items():
        assert "Examples:" in page, path
        assert max(map(len, page.splitlines())) <= 81, path


@pytest.mark.parametrize("line", sorted(set(_examples())))
def test_examples_can_be_parsed(line: str) -> None:
    words = shlex.split(line)[1:]
    ctx: click.Context = click.Context(cli, info_name="optuna-deepweeds")
    command: click.Command = cli
    while isinstance(command, click.Group):
        name, found, words = command.resolve_command(ctx, words)
        assert found is not None
        ctx = click.Context(found, info_name=name, parent=ctx)
        command = found
    command.make_context(command.name, words)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("stu", ["study"]),
        ("study re", ["resume", "report", "reap"]),
        ("study run --sam", ["--sampler"]),
        ("study trials x --state comp", ["complete"]),
        ("experiment pl", ["plan"]),
    ],
)
def test_bash_completes_commands_and_options(words: str, expected: list[str]) -> None:
    environment = os.environ | {
        "_OPTUNA_DEEPWEEDS_COMPLETE": "bash_complete",
        "COMP_WORDS": f"optuna-deepweeds {words}",
        "COMP_CWORD": str(len(words.split())),
    }
    program = Path(sys.executable).with_name("optuna-deepweeds")
    result = subprocess.run([program], env=environment, capture_output=True, text=True, timeout=60)
    assert [line.split(",")[1] for line in result.stdout.splitlines()] == expected


def test_the_line_for_bash_is_what_the_help_says() -> None:
    line = 'eval "$(_OPTUNA_DEEPWEEDS_COMPLETE=bash_source optuna-deepweeds)"'
    assert line in PAGES["optuna-deepweeds"]


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["studdy"], "Did you mean 'study'?"),
        (["study", "rum"], "Did you mean 'run'?"),
        (["study", "run", "--samler", "tpe"], "--sampler"),
        (["study", "run", "--sampler", "rfei"], "Did you mean 'rf_ei'?"),
        (["study", "run", "--pruner", "dorra"], "Did you mean 'dora'?"),
        (["experiment", "rnu"], "run"),
    ],
)
def test_misspelt_names_get_a_suggestion(command: Command, words: list[str], hint: str) -> None:
    result = command(*words)
    assert result.code == 2 and hint in result.err
    assert len(result.err.splitlines()) == 1


def test_module_runs_like_the_command_and_prints_no_colours() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "optuna_deepweeds", "--help"],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert "Usage: optuna-deepweeds" in result.stdout
    assert "\x1b" not in result.stdout + result.stderr


_ROOT = Path(__file__).parents[2]
_FILES = (
    "README.md",
    "optuna_deepweeds/bench/MEASURED.md",
    "optuna_deepweeds/tasks/README.md",
    "storage/README.md",
    "priors/README.md",
    "storage/compose.yaml",
)


def _documented() -> list[str]:
    found = []
    for name in _FILES:
        text = (_ROOT / name).read_text().replace("\\\n", " ")
        for line in re.findall(r"(?:^|[\s`/;])optuna-deepweeds +([a-z][^`#\n]*)", text):
            # Alternatives and further commands stand behind a bar or an ampersand.
            found.append(re.split(r"\s(?:\||&&|>)\s", line)[0].strip())
    assert len(found) > 20
    return sorted(set(found))


@pytest.mark.parametrize("line", _documented())
def test_documented_command_is_understood(line: str) -> None:
    result = CliRunner().invoke(cli, [*shlex.split(line), "--help"])
    assert result.exit_code == 0, result.output


def test_documented_were_found() -> None:
    assert len(_documented()) > 20
