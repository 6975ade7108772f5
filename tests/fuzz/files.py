# ruff: noqa: E501 (tables of cases read better in long lines)
"""Bad files: priors, exported studies, grids, stored attributes, images and networks."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tests.datasets.support import png
from tests.fuzz.cases import Case, damaged
from tests.priors.test_read import TABLES

Prepare = Callable[[Path], None]


def _file(name: str, content: bytes | str) -> Prepare:
    data = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")

    def prepare(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)

    return prepare


HISTORY = (
    "config_id,budget,cost,time,status,config:n_conv_layers,config:use_BN,"
    "config:global_avg_pooling,config:n_channels_conv_0,config:n_fc_layers,"
    "config:n_channels_fc_0,config:batch_size,config:learning_rate_init\n"
    "1,20.0,0.4,12.5,StatusType.SUCCESS,1,True,False,64,1,32,32,0.001\n"
    "2,20.0,0.5,12.5,StatusType.SUCCESS,1,False,True,48,1,64,16,0.01\n"
)
OWN = (
    "trial,state,value,metric,direction,epochs,seconds,dataset,param:n_conv_layers,param:use_BN,"
    "param:global_avg_pooling,param:n_channels_conv_0,param:n_fc_layers,param:n_channels_fc_0,"
    "param:batch_size,param:learning_rate_init,epoch_1,epoch_2\n"
    "4,complete,0.75,accuracy,maximize,2,3.5,demo,1,True,True,64,1,32,32,0.001,0.5,0.75\n"
    "5,pruned,0.25,accuracy,maximize,1,,demo,1,False,True,48,1,32,16,0.01,0.25,\n"
)
SMAC = json.dumps(
    {
        "stats": {"finished": 1},
        "data": [[1, None, 0, 20.0, 0.4, 12.5, 1, 0.0, 1.0, {}]],
        "configs": {"1": {"n_conv_layers": 1, "use_BN": True, "global_avg_pooling": True,
                          "n_channels_conv_0": 64, "n_fc_layers": 1, "n_channels_fc_0": 32,
                          "batch_size": 32, "learning_rate_init": 0.001}},
    }
)  # fmt: skip
_DEEP = "[" * 100_000


def priors(generator: random.Random) -> Iterator[Case]:
    """Prior files of every format, damaged and with wrong contents."""

    def case(label: str, name: str, content: bytes | str) -> Iterator[Case]:
        commands: list[tuple[str, ...]] = [("priors", "show", name), ("priors", "import", name, "--study", "mine")]  # fmt: skip
        commands.append(("study", "run", "--dry-run", "--dataset", "demo", "--name", "new", "--priors", name))  # fmt: skip
        yield Case(f"prior {label}", commands[generator.randrange(3)], _file(name, content), tolerated=True, writes=True)  # fmt: skip

    for name, text in (("h.csv", HISTORY), ("o.csv", OWN), ("s.json", SMAC)):
        for label, content in damaged(generator, text.encode()):
            yield from case(f"{name} {label}", name, content)
        for encoding in ("utf-16", "utf-32", "utf-8-sig", "cp037"):
            yield from case(f"{name} in {encoding}", name, text.encode(encoding))
        for byte in (b"\xff", b"\x00"):
            yield from case(
                f"{name} with {byte!r}", name, text.encode().replace(b"0.001", b"0.00" + byte)
            )
        for old, new in (("0.4", "nan"), ("0.4", "inf"), ("0.75", "1e999"), ("20.0", "-1"), ("20.0", "x"), ("0.001", "nan"), ("0.001", "-1"), ("True", "maybe"), ("64", "9" * 5000), ("32", "1e400"), ("12.5", "x"), ("complete", "happy"), ("maximize", "sideways"), ("0.5", "abc"), ("0.75", "")):  # fmt: skip
            if old in text:
                yield from case(
                    f"{name} with {new!r:.12} for {old}", name, text.replace(old, new, 1)
                )
    for program, text in TABLES.items():
        for label, content in generator.sample([*damaged(generator, text.encode())], 4):
            yield from case(f"{program} {label}", "t.csv", content)
        for old, new in (("0.75", "x"), ("0.25", "nan"), ("'", "("), ("{", "{" * 5000), ("20", "-1"), ("20", "1e400"), ("True", "9" * 5000)):  # fmt: skip
            if old in text:
                yield from case(f"{program} with {new!r:.12} for {old}", "t.csv", text.replace(old, new))  # fmt: skip
    for name, text in (("h.csv", HISTORY), ("o.csv", OWN)):
        header, *rows = text.splitlines()
        columns = header.split(",")
        for i in generator.sample(range(len(columns)), 5):
            cells = [line.split(",") for line in (header, *rows)]
            kept = "".join(",".join([*row[:i], *row[i + 1 :]]) + "\n" for row in cells)
            yield from case(f"{name} without {columns[i]}", name, kept)
        yield from case(f"{name} header alone", name, header + "\n")
        yield from case(f"{name} twice a column", name, text.replace(columns[1], columns[2], 1))
        yield from case(f"{name} row too long", name, text + rows[0] + ",1,2,3\n")
        yield from case(f"{name} row too short", name, text + "1,2\n")
        yield from case(f"{name} open quote", name, text + '1,"2\n3\n')
        yield from case(f"{name} huge cell", name, text + "1," + "x" * 200_000 + "\n")
        yield from case(f"{name} semicolons", name, text.replace(",", ";"))
    for label, text in (("null", "null"), ("number", "3"), ("list", "[]"), ("object", "{}"), ("deep", _DEEP), ("deep objects", '{"data":' * 5000), ("no configs", '{"data": []}'), ("data a number", '{"data": 3, "configs": {}}'), ("rows of numbers", '{"data": [1], "configs": {}}'), ("short row", '{"data": [[1]], "configs": {}}'), ("unknown config", SMAC.replace('"1":', '"7":')), ("config a list", '{"data": [[1,null,0,20,0.4,1,1,0,1,{}]], "configs": {"1": [1]}}'), ("cost a text", SMAC.replace("0.4", '"x"')), ("cost a list", SMAC.replace("0.4", "[1, 2]")), ("value an object", SMAC.replace("0.001", "{}")), ("value a list", SMAC.replace("0.001", "[1]")), ("budget a text", SMAC.replace("20.0", '"x"')), ("big number", SMAC.replace("64", "9" * 5000)), ("status a text", SMAC.replace("12.5, 1,", '12.5, "x",'))):  # fmt: skip
        yield from case(f"json {label}", "s.json", text)


def exports(export: str, generator: random.Random) -> Iterator[Case]:
    """Exported studies, damaged or with entries of the wrong kind."""

    def case(label: str, content: bytes | str, name: str = "e.jsonl") -> Case:
        args = ("study", "import", name, "--name", "new")
        return Case(f"export {label}", args, _file(name, content))

    for label, content in damaged(generator, export.encode()):
        if label != "doubled":  # A whole study, and then something else, which is not read.
            yield case(label, content)
        yield case(f"compressed {label}", content, "e.jsonl.gz")
    lines = export.splitlines()

    def changed(row: int, key: str, value: Any) -> str:
        record = json.loads(lines[row])
        record[key] = value
        return "\n".join([*lines[:row], json.dumps(record), *lines[row + 1 :]]) + "\n"

    wrong: dict[str, tuple[Any, ...]] = {
        "state": ("HAPPY", None, 3),
        "values": ([None], ["x"], "x", [float("nan")], [1, 2], None),
        "params": (3, {"x": 1}, {"lr": [1]}, None),
        "distributions": ({}, {"x": "y"}, {"x": {"name": "Nothing", "attributes": {}}}, [1]),
        "user_attrs": (3, None, "x", [1]),
        "system_attrs": (3, None),
        "intermediate_values": ({"a": 1}, {"1": "x"}, 3, {"1": None}),
        "datetime_start": ("yesterday", 3),
        "datetime_complete": ("tomorrow", []),
        "number": ("x", None),
    }
    for key, values in wrong.items():
        for value in values:
            yield case(f"{key}={value!r:.30}", changed(1, key, value))
        record = json.loads(lines[1])
        del record[key]
        yield case(f"without {key}", "\n".join([lines[0], json.dumps(record), *lines[2:]]) + "\n")
    for key, value in (("version", 99), ("version", "1"), ("format", "x"), ("directions", []), ("directions", ["UP"]), ("directions", "MAXIMIZE"), ("user_attrs", []), ("system_attrs", None), ("name", 3)):  # fmt: skip
        yield case(f"header {key}={value!r}", changed(0, key, value))
    for name in ("", "x" * 600, "a\nb", "\udcff"):
        text = changed(0, "name", name)
        yield Case(
            f"export named {name!r:.10}", ("study", "import", "e.jsonl"), _file("e.jsonl", text)
        )
    yield Case("export of a taken name", ("study", "import", "good.jsonl", "--name", "mine"))
    yield case("count wrong", "\n".join([*lines[:-1], '{"n_trials": 99}']) + "\n")
    yield case("count a text", "\n".join([*lines[:-1], '{"n_trials": "x"}']) + "\n")
    yield case("numbers for lines", "1\n2\n3\n")
    yield case("deep", _DEEP)
    yield case("deep in a trial", lines[0] + "\n" + _DEEP + "\n")


def grids(generator: random.Random) -> Iterator[Case]:
    """Experiment files."""
    good = 'name = "g"\ndataset = "demo"\nsamplers = ["random"]\npruners = ["none"]\nseeds = [1]\ntrials = 2\nepochs = 1\n'  # fmt: skip

    def case(label: str, content: bytes | str) -> Iterator[Case]:
        command = generator.choice(("plan", "run", "report"))
        yield Case(f"grid {label}", ("experiment", command, "g.toml"), _file("g.toml", content))

    for label, content in damaged(generator, good.encode()):
        if not label.startswith(("cut", "flipped")):
            yield from case(label, content)
    for line in good.splitlines():
        key = line.split(" = ")[0]
        for value in (
            "[[]]",
            "{}",
            "nan",
            "-1",
            '"x\\u0000y"',
            "1979-05-27",
            '["random", 3]',
            "9" * 30,
        ):
            if (key, value) != ("trials", "9" * 30):  # Never reached, and no mistake.
                yield from case(f"{key} = {value:.10}", good.replace(line, f"{key} = {value}"))
    for extra in ("nonsense = 1", "seeds = [1]", 'priors = ["nowhere.csv"]', 'priors = ["a\\u0000b"]', "priors = 3", "enqueue_best = -1", "timeout = -1", "timeout = nan", 'timeout = "x"', 'space = "curse"', "space = 3", "fold = 9", "evaluate = 3", "[evaluate]\nseeds = 0", "[evaluate]\nnonsense = 1", "[nonsense]", "total_epochs = 0", "thaw = 3"):  # fmt: skip
        yield from case(f"with {extra!r}", good + extra + "\n")
    yield from case("deep", "x = " + "[" * 5000)
    yield from case("in utf-16", good.encode("utf-16"))


_JUNK: tuple[Any, ...] = (None, 3, "x", [], ["x"], {}, {"x": 1}, True, 1e300, float("nan"))


def stored(generator: random.Random) -> Iterator[Case]:
    """Studies whose attributes another program has overwritten."""
    commands = ("status mine", "list", "trials mine", "best mine", "resume mine", "stop mine", "reap mine", "export mine out.jsonl", "compare mine other", "report mine -o out.html", "evaluate mine", "run --dataset demo --name mine")  # fmt: skip
    fields = ("dataset", "space", "sampler", "pruner", "seed", "fold", "epochs", "thaw", "sources", "dataset_fingerprint", "direction", "metric")  # fmt: skip

    def case(label: str, level: str, key: str, value: Any) -> Iterator[Case]:
        command = generator.choice(commands)
        args = ("worker", "mine") if generator.random() < 0.15 else ("study", *command.split())

        def prepare(folder: Path) -> None:
            (folder / "attribute.json").write_text(json.dumps([level, key, value]))

        yield Case(f"{label}, then {' '.join(args)}", args, prepare, tolerated=True, writes=True)

    for value in _JUNK:
        for key in ("spec", "budget", "stop", "uid", "prior_summary", "evaluation"):
            yield from case(f"study {key}={value!r}", "study", f"deepweeds:{key}", value)
    for name in fields:
        for value in generator.sample(_JUNK, 4):
            yield from case(f"spec {name}={value!r}", "spec", name, value)
    for name in ("trials", "seconds", "epochs"):
        for value in generator.sample(_JUNK, 4):
            yield from case(f"budget {name}={value!r}", "budget", name, value)
    keys = ("prior", "seed", "failure", "traceback", "train_seconds", "anticipation", "origin", "root", "retry_of", "segments", "worker", "inherited", "checkpoint", "device", "enqueued_prior")  # fmt: skip
    for key in keys:
        for value in generator.sample(_JUNK, 4):
            yield from case(f"trial {key}={value!r}", "trial", f"deepweeds:{key}", value)


def images(generator: random.Random) -> Iterator[Case]:
    """Prepared images and original photographs that are damaged or something else."""
    names = np.array([f"{i}.jpg" for i in range(10)])
    good: dict[str, Any] = {
        "images": np.zeros((10, 32, 32, 3), np.uint8),
        "labels": np.arange(10, dtype=np.uint8) % 9,
        "filenames": names,
        "folds": np.zeros((5, 10), np.uint8),
    }

    def packed(changes: dict[str, Any]) -> bytes:
        buffer = io.BytesIO()
        kept = {k: v for k, v in {**good, **changes}.items() if v is not None}
        np.savez(buffer, **kept)
        return buffer.getvalue()

    def case(label: str, content: bytes) -> Iterator[Case]:
        prepare = _file("d/deepweeds32.npz", content)
        name = generator.choice(("deepweeds", "deepweeds-balanced"))
        yield Case(f"images {label}", ("data", "info", name, "--data-dir", "d"), prepare)
        yield Case(f"images {label}, run", ("study", "run", "--dataset", name, "--data-dir", "d"), prepare)  # fmt: skip

    for label, content in damaged(generator, packed({})):
        if not label.startswith(("doubled", "flipped bytes 1", "flipped bytes 2")):
            yield from case(label, content)
    # Arrays of other forms: tests/datasets/test_load.py.
    yield from case(
        "of objects", packed({"images": np.array([_Command("images")] * 10, dtype=object)})
    )
    for key in good:
        yield from case(f"without {key}", packed({key: None}))
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        for name in ("../../outside.jpg", "/tmp/outside.jpg", "a.jpg"):
            file.writestr(name, b"no picture")
    labels = {f"{split}_subset{fold}.csv": "Filename,Label\na.jpg,0\n" for fold in range(5) for split in ("train", "val", "test")}  # fmt: skip
    labels["labels.csv"] = "Filename,Label,Species\na.jpg,0,Chinee apple\n"

    def prepare_case(label: str, content: bytes) -> Case:
        def prepare(folder: Path) -> None:
            (folder / "i.zip").write_bytes(content)
            (folder / "l").mkdir()
            for name, text in labels.items():
                (folder / "l" / name).write_text(text)

        args = ("data", "prepare", "--data-dir", "new", "--images", "i.zip", "--labels", "l")
        return Case(f"photographs {label}", args, prepare)

    for label, content in damaged(generator, archive.getvalue()):
        yield prepare_case(label, content)
    yield prepare_case("with paths outside", archive.getvalue())
    # Wrong label files: tests/datasets/test_prepare.py.
    for label, picture in (("empty", b""), ("random", generator.randbytes(300)), ("cut png", png(4, 8, bytes(64))[:40]), ("huge png", png(60_000, 8, bytes(64))), ("text", b"hello")):  # fmt: skip
        yield Case(f"photograph {label}", ("predict", "good.pt", "p.png"), _file("p.png", picture), writes=True)  # fmt: skip


class _Command:
    """Runs a command when it is unpickled: what no file of ours may ever do."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __reduce__(self) -> Any:
        return os.system, (f"touch executed-{self._name}",)


def networks(model: bytes, generator: random.Random) -> Iterator[Case]:
    """Model files and checkpoints that are damaged, foreign, or would run code."""
    import torch

    def saved(content: Any) -> bytes:
        buffer = io.BytesIO()
        torch.save(content, buffer)
        return buffer.getvalue()

    def case(label: str, content: bytes) -> Iterator[Case]:
        yield Case(f"model {label}", ("predict", "m.pt", "good.png"), _file("m.pt", content))

    for label, content in damaged(generator, model):
        if label not in ("doubled",) and not label.startswith("flipped"):
            yield from case(label, content)
    right = torch.load(io.BytesIO(model), weights_only=True)
    yield from case("that runs a command", saved(_Command("model")))
    yield from case("that runs a command inside", saved({**right, "config": _Command("config")}))
    yield from case("a bare pickle that runs a command", pickle.dumps(_Command("pickle")))
    yield from case("a tensor", saved(torch.zeros(3)))
    yield from case("a list", saved([1, 2]))
    yield from case("of another kind", saved({**right, "kind": "x"}))
    for key in right:
        if key in ("version", "image_size"):
            continue
        yield from case(f"without {key}", saved({k: v for k, v in right.items() if k != key}))
        if key in ("config", "classes", "network", "mean", "std"):
            yield from case(f"with {key} a number", saved({**right, key: 3}))
            yield from case(f"with {key} empty", saved({**right, key: type(right[key])()}))
    for key, value in (("n_channels_conv_0", 10**9), ("n_channels_conv_0", -1), ("n_conv_layers", "x"), ("n_conv_layers", 99), ("n_fc_layers", None)):  # fmt: skip
        config = {**right["config"], key: value}
        yield from case(f"with {key}={value}", saved({**right, "config": config}))

    def in_study(label: str, content: bytes) -> Case:
        def prepare(folder: Path) -> None:
            (folder / "checkpoint.bin").write_bytes(content)

        args = ("study", "best", "mine", "--save", "out.pt")
        return Case(f"checkpoint {label}", args, prepare, tolerated=True, writes=True)

    for label, content in damaged(generator, model):
        yield in_study(label, content)
    yield in_study("that runs a command", saved(_Command("checkpoint")))
    yield in_study("a model", model)
