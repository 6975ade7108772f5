"""A click group that imports a command's module when the command is called for, and its examples.

`optuna-deepweeds --help` and shell completion stay fast because nothing imports torch. The
examples under every command's help stand in one place, so that they tell one story; a test parses
each. A command shows those that begin with its name, a group the first of each of its commands.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from typing import Any

import click

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
        _add_examples(command, [*ctx.command_path.split()[1:], cmd_name])
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


def _add_examples(command: click.Command, path: list[str]) -> None:
    """Begin the end of a command's help page with its examples, once; of those below it too.

    Args:
        command: A command, or a group.
        path: Names of its groups and its own, without the program's.
    """
    lines = [line for line in _EXAMPLES if line.split()[: len(path)] == path]
    if isinstance(command, click.Group):
        firsts = {line.split()[len(path)]: line for line in reversed(lines)}
        lines = [line for line in lines if line in firsts.values()][:_MOST_OF_A_GROUP]
        for name, member in command.commands.items():
            _add_examples(member, [*path, name])
    examples = "\n".join(["\b", "Examples:", *(f"  {_PROGRAM} {line}" for line in lines)])
    if lines and not (command.epilog or "").startswith(examples):
        command.epilog = f"{examples}\n\n{command.epilog or ''}"


_PROGRAM = "optuna-deepweeds"
_MOST_OF_A_GROUP = 5

_EXAMPLES = """
study run  # rf_ei and dora on the images there are
study run mine --trials 60 --timeout 2h --seed 7
study run mine --trials 100  # the same study goes on to 100
study run mine --priors runs.csv --enqueue-best 3
study run mine --dataset ./photos --size 64
study run mine --workers 4 --storage studies.db
study run mine --objective mine.py:objective --workers 4
study run mine --script 'python train.py' --space mine.toml
study resume mine  # after a crash
study resume mine --trials 200 --workers 4
study status mine
study watch mine
study trials mine --state complete --params
study trials mine --failed --traceback
study trials mine -f csv > trials.csv
study best mine
study best mine --save mine.pt
study best mine --trial 17 -f json
study list
study list --storage postgresql://me@host/studies
study stop mine
study evaluate mine
study evaluate mine --top-k 3 --seeds 5 -f json > test.json
study evaluate mine --recipe tuned --output mine.pt
study report mine
study report mine -o mine.html --png figures/
study compare random-1 random-2 forest-1 forest-2
study compare a b c --pairs --baseline 'random + none'
study compare a b --html compare.html --png figures/
study export mine mine.jsonl.gz
study export mine runs/ --to tensorboard
study import mine.jsonl.gz --storage other.db
study fork mine mine-2
study fork mine longer --epochs 20
study fork mine wider --space wider.toml
study fork mine mended --objective mine.py:objective
study reap mine
study delete mine
worker mine --storage postgresql://me@host/studies
worker mine --device cuda:1
data prepare
data prepare --images images.zip --labels labels/
data info
data info ./photos --png sheet.png
spaces list
spaces show course
spaces show mine.py:SPACE
spaces show course --toml > mine.toml
priors list
priors show runs.csv --space course
priors show runs.csv --study mine  # as an import takes it
priors show 'sqlite:///studies.db#first' --space course
priors import runs.csv --study mine --enqueue-best 3
priors export mine priors/mine.csv
experiment plan published  # what it would cost
experiment run small  # run it, or go on with it
experiment run mine.toml --test-seeds 3
experiment report small  # as far as it has come
experiment report small -o small.html --png figures/
predict mine.pt photo.jpg
predict mine.pt photos/ --top 1 -f csv > weeds.csv
dashboard
dashboard mine
dashboard --port 8081 --storage storage/other.db
dashboard --host 0.0.0.0 --read-only  # for other machines
bench samplers --quick
bench samplers --tasks fcnet --samplers tpe,rf_ei --seeds 20
bench pruners --curves priors/deepweeds-balanced.csv --quick
bench record-curves curves
bench ending --curves power_0 --curves 'curves/*/*.npz'
bench pruners --curves 'curves/*/*.npz' --output runs.jsonl
bench storage --trials 1000
bench cost --samplers tpe,rf_ei --trials 200,1000
bench fcnet --quick
bench accuracy --config course --seeds 1
bench training --quick
""".strip().splitlines()
