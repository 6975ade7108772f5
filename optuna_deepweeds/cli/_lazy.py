"""A click group that imports a command's module when the command is called for.

`optuna-deepweeds --help` and shell completion stay fast because nothing imports torch.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from typing import Any

import click

from optuna_deepweeds.cli._examples import epilog_of
from optuna_deepweeds.schema import did_you_mean


class LazyGroup(click.Group):
    """A group whose commands are given as `name -> (target, short help)`.

    The target "module:attribute" is imported on first use; the short help is what the group's own
    help page shows without importing anything.
    """

    def __init__(self, *args: Any, lazy: Mapping[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._lazy:
            return None
        command: click.Command = pkgutil.resolve_name(self._lazy[cmd_name][0])
        _add_examples(command, [*_path(ctx), cmd_name])
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in self._lazy and not name.startswith("-"):
            hint = did_you_mean(name, self._lazy) or f" Commands: {', '.join(self._lazy)}."
            raise click.UsageError(f"No such command {name!r}.{hint}", ctx=ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self._lazy.items()])


def _path(ctx: click.Context) -> list[str]:
    """The names of the groups down to `ctx`, without the program's."""
    return [] if ctx.parent is None else [*_path(ctx.parent), ctx.info_name or ""]


def _add_examples(command: click.Command, path: list[str]) -> None:
    """Give a command, and those of an ordinary group, the examples that they do not bring."""
    if command.epilog is None:
        command.epilog = epilog_of(path, is_group=isinstance(command, click.Group))
    if isinstance(command, click.Group) and not isinstance(command, LazyGroup):
        for name, member in command.commands.items():
            _add_examples(member, [*path, name])
