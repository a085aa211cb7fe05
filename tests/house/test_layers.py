"""The order of the rooms, read from the code's own imports."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.helpers.paths import ROOT

COMMANDS = {"inspect", "train", "evaluate", "predict", "export", "compare", "prepare", "port_weights"}

FLOORS = (
    {"errors", "metrics"},
    {"config", "system"},
    {"augment", "data", "losses", "models", "optim"},
    {"synthetic"},
    {"pretrained", "steps", "weights"},
    {"runs"},
    {"report"},
    {"inference", "training"},
    {"evaluation"},
    {"app", "cli", *COMMANDS},
)
"""Rooms of `jaxseg`, ground floor first. A room imports rooms of lower floors, or of its own floor without a circle."""

LEVEL = {room: level for level, floor in enumerate(FLOORS) for room in floor}


def imports(path: Path) -> Iterator[str]:
    """Yields the dotted name of everything that a file imports, wherever the statement stands."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            # `from jaxseg import data` and `from jaxseg.data import folds` alike name a room.
            yield from (f"{node.module}.{name.name}" for name in node.names)


def room(dotted: str) -> str:
    return dotted.split(".")[1]


def arrows() -> set[tuple[str, str]]:
    """Returns (importer, imported) for every pair of different rooms of `jaxseg`."""
    package = ROOT / "jaxseg"
    found = set()
    for path in package.rglob("*.py"):
        if path == package / "__init__.py":  # the face of the whole: `jaxseg.Segmenter` and the version
            continue
        mine = path.relative_to(package).parts[0].removesuffix(".py")
        names = (name for name in imports(path) if name.startswith("jaxseg.") and name != "jaxseg.__version__")
        found |= {(mine, theirs) for name in names if (theirs := room(name)) != mine}
    return found


def test_every_room_has_a_floor():
    """If broken, a new file or package of jaxseg stands in no order, and may import anything."""
    entries = (ROOT / "jaxseg").iterdir()
    rooms = {p.name.removesuffix(".py") for p in entries if p.suffix == ".py" or (p / "__init__.py").exists()}
    assert rooms - {"__init__"} == LEVEL.keys()


def test_imports_point_down():
    """If broken, a room imports one above it: neither can be read, tested or used without the other."""
    assert not sorted((a, b) for a, b in arrows() if LEVEL[a] < LEVEL[b])


def test_there_is_no_circle():
    """If broken, rooms of one floor import each other in a circle."""
    found = arrows()
    left = set(LEVEL)
    while ground := {room for room in left if not any((room, other) in found for other in left)}:
        left -= ground
    assert not left


def test_the_package_imports_no_experiment_and_no_test():
    """If broken, an installed jaxseg needs files that are not installed with it; or experiments need tests."""
    packages = {"jaxseg": {"experiments", "tests"}, "experiments": {"tests"}}
    for package, refused in packages.items():
        for path in (ROOT / package).rglob("*.py"):
            assert not refused & {name.split(".")[0] for name in imports(path)}, path


def test_no_test_module_imports_another():
    """If broken, a test module is somebody's library: what is shared belongs into `tests/helpers`."""
    for path in (ROOT / "tests").rglob("*.py"):
        for name in imports(path):
            assert not any(part.startswith("test_") for part in name.split(".")[:-1]), (path, name)
