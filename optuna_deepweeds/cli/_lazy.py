"""A click group that imports a command's module when the command is called for.

`optuna-deepweeds --help` and shell completion stay fast because nothing imports torch.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from typing import Any

import click

from optuna_deepweeds.cli._examples import epilog_of


class LazyGroup(click.Group):
    """A group whose commands are given as `name -> (target, short help)`.

    The target "module:attribute" is imported on first use; the short help is what the group's
    own help page shows without importing anything.
    """

    def __init__(
        self, *args: Any, lazy: Mapping[str, tuple[str, str]] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._lazy = dict(lazy or {})

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*self._lazy, *(n for n in super().list_commands(ctx) if n not in self._lazy)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._lazy:
            return super().get_command(ctx, cmd_name)
        module, attribute = self._lazy[cmd_name][0].split(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        parents = [c.info_name or "" for c in _chain(ctx)[1:]]
        _add_examples(command, [*parents, cmd_name])
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        known = self.list_commands(ctx)
        if name not in known and not name.startswith("-"):
            close = difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else f" Commands: {', '.join(known)}."
            raise click.UsageError(f"No such command {name!r}.{hint}", ctx=ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, text) for name, (_, text) in self._lazy.items()]
        for name in super().list_commands(ctx):
            command = super().get_command(ctx, name)
            if name not in self._lazy and command is not None and not command.hidden:
                rows.append((name, command.get_short_help_str()))
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)


def _chain(ctx: click.Context) -> list[click.Context]:
    """The contexts from the program's down to `ctx`."""
    return [*(_chain(ctx.parent) if ctx.parent is not None else []), ctx]


def _add_examples(command: click.Command, path: list[str]) -> None:
    """Give a command, and those of an ordinary group, the examples that they do not bring."""
    if command.epilog is None:
        command.epilog = epilog_of(path)
    if isinstance(command, click.Group) and not isinstance(command, LazyGroup):
        for name, member in command.commands.items():
            _add_examples(member, [*path, name])
