# ruff: noqa: E501 (tables of cases read better in long lines)
"""Bad inputs by the hundred: options, prior files, stored studies, URLs, images, models, exports.

Every case is a command line and the files that it finds, made from a seed alone. Cases whose
input may be tolerated (a prior file with a row too few, say) are marked so.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from optuna_deepweeds.cli import cli

SECRET = "s3cr3t"


def _nothing(folder: Path) -> None:
    pass


@dataclass(frozen=True)
class Case:
    """One bad input: what is wrong, the command line, and what makes the files it finds."""

    label: str
    args: tuple[str, ...]
    prepare: Callable[[Path], None] = _nothing
    tolerated: bool = False
    """The command may also make the best of it and succeed."""
    writes: bool = False
    """A success of the command changes the studies."""

    def __str__(self) -> str:
        return self.label


def damaged(generator: random.Random, content: bytes) -> Iterator[tuple[str, bytes]]:
    """`content` as full disks, wrong programs and bad cables leave it."""
    yield "empty", b""
    yield "one byte", content[:1]
    for share in (0.3, 0.6, 0.97):
        yield f"cut at {share:.0%}", content[: int(share * len(content))]
    yield "random bytes", generator.randbytes(400)
    yield "zeros", bytes(400)
    yield "doubled", content + content
    for i in range(3):
        broken = bytearray(content)
        for _ in range(1 + len(content) // 50):
            broken[generator.randrange(len(content))] = generator.randrange(256)
        yield f"flipped bytes {i}", bytes(broken)


_MINE = ("resume", "stop", "status", "best", "trials", "report", "evaluate", "reap")
_BASE: dict[str, tuple[str, ...]] = {
    **{f"study {command}": ("mine",) for command in _MINE},
    "study run": ("--dataset", "demo", "--name", "new"),
    "study compare": ("mine", "other"),
    "study export": ("mine", "out.jsonl"),
    "study import": ("good.jsonl",),
    "study delete": ("mine", "--yes"),
    "worker": ("mine",),
    "priors import": ("good.csv", "--study", "mine"),
    "priors show": ("good.csv",),
    "priors export": ("mine", "out.csv"),
    **{f"experiment {command}": ("good.toml",) for command in ("plan", "run", "report")},
    "data info": ("demo",),
    "predict": ("good.pt", "good.png"),
    "bench pruners": ("--curves", "x.npz"),
}
_WRONG_NUMBERS = ("x", "", "1.5.2", "١.x", "0x10", "--", "1e", "9" * 5000 + "x")
_OUT_OF_RANGE: dict[str, tuple[str, ...]] = {
    "--fold": ("-1", "5", "9" * 30),
    "--seed": ("-1", str(2**32)),
    "--epochs": ("0", "-3"),
    "--trials": ("0", "-5"),
    "--total-epochs": ("0", "-5"),
    "--trial-timeout": ("0", "-1s", "nan"),
    "--timeout": ("0", "-1s", "nan", "inf", "6h1s", "1e3h", "9" * 400 + "h", "٣x"),
    "--enqueue-best": ("-1",),
    "--workers": ("0", "-2", "257"),
    "--gpus": ("-1", "nan", "inf"),
    "--trial": ("-1", "99", "9" * 30),
    "--top-k": ("0", "-1"),
    "--seeds": ("0", "-1"),
    "--port": ("-1", "65536", "9" * 30),
}
_WRONG_NAMES = (
    "",
    " ",
    "nothing",
    "RF_EI ",
    "rf_ei,tpe",
    "\u202e",
    "a\nb",
    "'; DROP x",
    "x" * 5000,
)
_NAMED = {"--dataset", "--space", "--sampler", "--pruner", "--source", "--device"}


def options(generator: random.Random) -> Iterator[Case]:
    """Every option of every command, with values that it cannot take."""
    for path, command in _leaves(cli, ()):
        words = " ".join(path)
        if words.startswith("bench") and words != "bench storage":
            continue  # A wrong value that got through would start hours of work.
        base = (*path, *_BASE.get(words, ()))
        yield Case(f"{words}: unknown option", (*base, "--no-such-option"))
        for parameter in command.params:
            if not isinstance(parameter, click.Option):
                if parameter.required:
                    yield Case(f"{words}: no {parameter.name}", path)
                continue
            option = parameter.opts[-1]
            if parameter.is_flag:
                yield Case(f"{words} {option}=x", (*base, f"{option}=x"))
                continue
            yield Case(f"{words} {option} without a value", (*base, option))
            values: list[str] = []
            if option in _NAMED:
                values = generator.sample(_WRONG_NAMES, 3)
            elif isinstance(parameter.type, click.Choice):
                values = generator.sample(_WRONG_NAMES, 1)
            elif parameter.type.name not in ("text", "path", "file", "directory"):
                values = generator.sample(_WRONG_NUMBERS, 1)
                known = () if words.startswith("bench") else _OUT_OF_RANGE.get(option, ())
                values += known
            for value in values:
                yield Case(f"{words} {option}={value!r:.30}", (*base, f"{option}={value}"))
    for value in (*_WRONG_NAMES, "mien", "\udcff", "../../etc/passwd", "mine/../x"):
        for words in ("status", "resume", "delete", "best", "report"):
            yield Case(f"study {words} {value!r:.30}", ("study", words, "--", value))
    for value in ("", "  ", "a\tb", "x" * 201, "\udcff", "\x1b[31mred", "a\u2028b"):
        base = (*_BASE["study run"][:2], "--name", value)
        yield Case(f"study run --name {value!r:.30}", ("study", "run", *base))
        copied = ("study", "import", "good.jsonl", "--name", value)
        yield Case(f"study import --name {value!r:.30}", copied)
    for line in (
        "stduy",
        "study rnu",
        "data data data data data",
        "-x",
        "--storage x",
        "study list x",
    ):
        yield Case(f"no such command {line}", tuple(line.split()))


def _leaves(
    command: click.Command, path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    if not isinstance(command, click.Group):
        yield path, command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        child = command.get_command(context, name)
        assert child is not None
        yield from _leaves(child, (*path, name))


_LONG = "d" * 300
_OUTPUTS = {
    ("study", "export", "mine"): ("afolder", "good.csv/x", f"{_LONG}.gz", ""),
    ("priors", "export", "mine"): ("afolder", "good.csv/x", f"{_LONG}.csv", ""),
    ("study", "best", "mine", "--save"): ("afolder", "good.csv/x.pt", f"{_LONG}.pt", ""),
    ("study", "report", "mine", "-o"): ("afolder", "good.csv/x.html", f"{_LONG}.html"),
    ("study", "report", "mine", "-o", "r.html", "--png"): ("good.csv", "good.csv/x", _LONG),
    ("study", "compare", "mine", "other", "--html"): (
        "afolder",
        "good.csv/x.html",
        f"{_LONG}.html",
    ),
    ("study", "compare", "mine", "other", "--png"): ("good.csv", "good.csv/x", _LONG),
    ("experiment", "report", "good.toml", "-o"): ("afolder", "good.csv/x.html", f"{_LONG}.html"),
    ("study", "evaluate", "mine", "--output"): ("afolder", f"{_LONG}.pt"),
}
_INPUTS = (
    "study import",
    "priors show",
    "priors import --study mine",
    "study run --dataset demo --name new --priors",
    "experiment plan",
    "experiment run",
    "predict good.pt",
    "data prepare --labels afolder --images",
    "data prepare --images afolder --labels",
)


def paths(generator: random.Random) -> Iterator[Case]:
    """Files that are not there, are folders, or have impossible names."""
    for args, values in _OUTPUTS.items():
        for value in values:
            yield Case(f"{' '.join(args)} to {value!r:.20}", (*args, value))
    for words in _INPUTS:
        args = tuple(words.split())
        for value in ("nowhere", "afolder", "good.csv/x", _LONG, "", "\udcff"):
            if (args[0], value) in (("predict", ""), ("data", ""), ("predict", "afolder")):
                continue  # The current folder
            yield Case(f"{words} from {value!r:.20}", (*args, value))
    for value in ("nowhere", "good.csv", "afolder", _LONG):
        for args in (("data", "info", "deepweeds"), ("study", "run", "--dataset", "deepweeds")):
            yield Case(f"{' '.join(args)} in {value!r:.20}", (*args, "--data-dir", value))


def urls(generator: random.Random) -> Iterator[Case]:
    """Storages that are none, are away, or hold something else."""
    server = f"postgresql://me:{SECRET}@127.0.0.1:1"
    texts = [
        "nonsense", "nonsense://x", "sqlite://", "sqlite:/x.db", "sqlite:///", "://", ":", "#", "a#b",
        "sqlite:///no/folder/x.db", "sqlite:///afolder", "sqlite:///good.csv", "good.csv", "good.csv/x.db",
        "sqlite:///truncated.db", "truncated.db", "random.db", "foreign.db", "sqlite:///random.db?mode=ro&uri=true",
        "sqlite:///missing.db?mode=ro&uri=true", "sqlite:///file:missing.db?mode=ro&uri=true", f"sqlite:///{_LONG}.db",
        "sqlite:///mine.db?nonsense=1", "sqlite:///mine.db?timeout=x", "sqlite+nodriver:///x.db", "sqlite:////proc/x.db",
        "\udcff", "\udcff.db", "tables.db", f"{server}/x", f"postgres://me:{SECRET}@127.0.0.1:1/x", f"postgresql+nodriver://me:{SECRET}@127.0.0.1:1/x",
        f"{server}/x?connect_timeout=x", f"{server}/x?nonsense=1&password={SECRET}", f"postgresql://me:{SECRET}@127.0.0.1:port/x",
        f"postgresql://me:{SECRET}@[::1/x", f"postgresql://me:{SECRET}@/x?host=/nowhere", f"postgresql:///x?password={SECRET}&host=127.0.0.1&port=1",
        f"postgresql://me:{SECRET}@127.0.0.1:99999/x", f"postgresql://me:{SECRET}%ZZ@127.0.0.1:1/x", f"postgresql://me:p@ss{SECRET}@127.0.0.1:1/x",
        f"postgresql://me:{{{SECRET}}}@127.0.0.1:1/x", f"mysql://me:{SECRET}@127.0.0.1:1/x", f"mariadb://me:{SECRET}@127.0.0.1:1/x",
        f"mysql+nodriver://me:{SECRET}@127.0.0.1:1/x", f"redis://:{SECRET}@127.0.0.1", f"https://me:{SECRET}@127.0.0.1/x", f"oracle://me:{SECRET}@x/y", f"mssql+pyodbc://me:{SECRET}@x/y",
    ]  # fmt: skip
    commands = (("study", "list"), ("study", "run", "--dataset", "demo", "--name", "new"), ("study", "import", "good.jsonl"), ("worker", "mine"), ("priors", "list"), ("dashboard",))  # fmt: skip
    for i, text in enumerate(texts):
        if text in ("sqlite://", "sqlite:///"):  # In memory: empty, and not an error.
            yield Case(f"worker at {text}", ("worker", "mine", "--storage", text))
            continue
        command = commands[i % len(commands)]
        yield Case(f"{' '.join(command[:2])} at {text!r:.60}", (*command, "--storage", text))
        if "127.0.0.1" not in text:
            yield Case(f"worker at {text!r:.60}", ("worker", "mine", "--storage", text))
    for name in ("DEEPWEEDS_HEARTBEAT_SECONDS", "DEEPWEEDS_GRACE_SECONDS"):
        for value in ("x", "0", "-1", "nan", "inf"):
            yield Case(f"{name}={value}", (f"{name}={value}", "study", "reap", "mine"))
