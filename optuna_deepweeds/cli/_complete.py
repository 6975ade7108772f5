"""Completion of what words of a command may be, read where they are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import click
from click.shell_completion import CompletionItem

_Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def one_of(names: Callable[[], Iterable[str]]) -> _Completer:
    """Complete to one of `names()`, which is asked only then."""

    def complete(
        ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        return [CompletionItem(name) for name in names() if name.startswith(incomplete)]

    return complete


def complete_study(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete to a study of the storage that the command names."""
    from optuna_deepweeds.errors import DeepWeedsError
    from optuna_deepweeds.studies.storage.reading import open_reader

    try:
        with open_reader(ctx.params.get("storage_url")) as reader:
            names = [study.name for study in reader.studies()]
    except DeepWeedsError:
        return []
    return one_of(lambda: names)(ctx, param, incomplete)


study_name = click.argument("name", shell_complete=complete_study)
"""The argument NAME, a study."""
