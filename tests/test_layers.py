"""The import arrows between the rooms of the package only go down."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import optuna_deepweeds

PACKAGE = Path(optuna_deepweeds.__file__).parent

BASE = {
    "trials",
    "files",
    "schema",
    "pyfile",
    "processes",
    "seeds",
    "clock",
    "attributes",
    "errors",
}
GROUND = {"spaces", "datasets"} | BASE
WORKSHOPS = {"samplers", "pruners", "priors", "training"}
MAY_IMPORT = {
    "cli": {"report", "bench", "studies", "tasks"} | WORKSHOPS | GROUND,
    "report": {"studies", "tasks"} | WORKSHOPS | GROUND,
    "bench": {"studies", "tasks"} | WORKSHOPS | GROUND,
    # What it needs of training and data sets, a task brings.
    "studies": ({"tasks"} | WORKSHOPS | GROUND) - {"training", "datasets"},
    "tasks": {"training"} | GROUND,
    # These four never import one another.
    "samplers": GROUND,
    "pruners": GROUND,
    "priors": GROUND,
    "training": GROUND,
    "spaces": BASE,
    "datasets": BASE,
    "trials": {"attributes"},
    "files": {"errors"},
    "schema": {"errors"},
    "pyfile": {"errors", "schema"},
    "processes": set(),
    "seeds": set(),
    "clock": set(),
    "errors": set(),
    "attributes": set(),
}


def _imports(path: Path) -> set[str]:
    """Rooms that a file imports, also within functions."""
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import, which this test cannot follow."
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "optuna_deepweeds" and len(parts) > 1 and parts[1] in MAY_IMPORT:
                rooms.add(parts[1])
    return rooms


def test_private_modules_of_optuna_are_imported_in_one_place() -> None:
    users = [
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if re.search(r"^\s*(from|import) optuna\.(\w+\.)*_", path.read_text(), re.MULTILINE)
    ]
    assert users == ["studies/storage/_optuna.py"]


@pytest.mark.parametrize("room", sorted(MAY_IMPORT))
def test_a_room_imports_only_what_lies_below(room: str) -> None:
    folder = PACKAGE / room
    files = sorted(folder.rglob("*.py")) if folder.is_dir() else [PACKAGE / f"{room}.py"]
    assert files
    for path in files:
        beyond = _imports(path) - MAY_IMPORT[room] - {room}
        assert not beyond, f"{path.relative_to(PACKAGE)} imports {', '.join(sorted(beyond))}"


def test_every_room_is_known() -> None:
    found = {p.stem for p in PACKAGE.iterdir() if p.is_dir() or p.suffix == ".py"}
    assert found - {"__init__", "__main__", "__pycache__"} == set(MAY_IMPORT)


def test_training_knows_nothing_of_optuna() -> None:
    for path in (PACKAGE / "training").rglob("*.py"):
        assert "import optuna\n" not in path.read_text()
        assert "from optuna." not in path.read_text()
        assert "from optuna import" not in path.read_text()


def test_torch_is_imported_only_to_train() -> None:
    modules = ["samplers", "pruners", "priors", "studies.manager", "cli"]
    imports = ", ".join(f"optuna_deepweeds.{module}" for module in modules)
    code = f"import sys, {imports}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_what_lists_studies_and_starts_workers_imports_little() -> None:
    modules = ["samplers", "pruners", "studies.manager", "cli.study_show", "cli.worker"]
    imports = ", ".join(f"optuna_deepweeds.{module}" for module in modules)
    heavy = "{'torch', 'scipy', 'sklearn', 'plotly', 'matplotlib'}"
    code = f"import sys, {imports}; sys.exit(', '.join(sorted({heavy} & set(sys.modules))))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip() == ""


def test_classes_that_are_imported_late_are_where_they_were() -> None:
    from optuna_deepweeds import pruners, samplers

    for room in (samplers, pruners):
        for name in room.__all__:
            assert getattr(room, name) is not None
        with pytest.raises(AttributeError, match="nothing"):
            room.nothing  # noqa: B018
