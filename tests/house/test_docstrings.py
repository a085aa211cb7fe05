"""Docstrings, read from the code: public functions explain parameters and errors, tests say what is broken."""

import ast
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT

Function = ast.FunctionDef | ast.AsyncFunctionDef

FILES = [path for package in ("jaxseg", "experiments") for path in sorted((ROOT / package).rglob("*.py"))]


METHODS: dict[str, set[str]] = {}
"""Names of the methods of every class, by the name of the class. Two classes of one name count as one."""

for _path in FILES:
    for _node in ast.walk(ast.parse(_path.read_text(encoding="utf-8"))):
        if isinstance(_node, ast.ClassDef):
            METHODS.setdefault(_node.name, set()).update(f.name for f in _node.body if isinstance(f, Function))


def public_functions(body: list[ast.stmt], prefix: str = "", inherited: frozenset = frozenset()) -> Iterator[tuple]:
    """Yields the dotted name of every public function and method, its node, and whether a base class documents it."""
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            bases = [METHODS.get(ast.unparse(base), set()) for base in node.bases]
            yield from public_functions(node.body, f"{prefix}{node.name}.", frozenset().union(*bases))
        elif isinstance(node, Function) and not node.name.startswith("_") and not is_overload(node):
            yield f"{prefix}{node.name}", node, node.name in inherited


def is_overload(function: Function) -> bool:
    """Returns whether a function states only another signature, or another value, for the one below it."""
    return any(re.search(r"\boverload\b|\.setter\b", ast.unparse(decorator)) for decorator in function.decorator_list)


def parameters(function: Function) -> list[str]:
    arguments = function.args
    listed = [*arguments.posonlyargs, *arguments.args, arguments.vararg, *arguments.kwonlyargs, arguments.kwarg]
    return [argument.arg for argument in listed if argument and argument.arg not in ("self", "cls")]


def section(docstring: str, title: str) -> str:
    """Returns the lines below a title of a docstring, up to the next title or the next paragraph at its margin."""
    found = re.search(rf"^{title}:\n((?:\s*\n|[ ]+.*(?:\n|$))*)", docstring, re.MULTILINE)
    return found[1] if found else ""


def entries(docstring: str, title: str) -> set[str]:
    """Returns the names that a section explains, each at the start of its line; "a, b: text" explains two."""
    lines = re.findall(r"^  ([\w.*][\w.*, ]*):(?= |$)", section(docstring, title), re.MULTILINE)
    return {name.strip().lstrip("*") for line in lines for name in line.split(",")}


def raised(function: Function) -> set[str]:
    """Returns the names of the exceptions that a function's own statements raise and do not catch again."""
    found = set()

    def visit(node: ast.AST, caught: frozenset[str]) -> None:
        if isinstance(node, (*Function.__args__, ast.Lambda, ast.ClassDef)):
            return
        if isinstance(node, ast.Try):
            names = {name for handler in node.handlers for name in named(handler.type)}
            for child in node.body:
                visit(child, caught | names)
            for child in (*node.handlers, *node.orelse, *node.finalbody):
                visit(child, caught)
            return
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and not caught & {"Exception"}:
            found.update(name for name in named(node.exc.func) if name[0].isupper() and name not in caught)
        for child in ast.iter_child_nodes(node):
            visit(child, caught)

    for statement in function.body:
        visit(statement, frozenset())
    return found


def named(node: ast.expr | None) -> list[str]:
    """Returns the names in an `except` clause, or of what is raised, without the modules before them."""
    parts = node.elts if isinstance(node, ast.Tuple) else [node] if node else []
    return [ast.unparse(part).rpartition(".")[2] for part in parts]


def complaints(source: str) -> list[str]:
    """Returns a line for every parameter and exception that a public function's docstring leaves out."""
    found = []
    for name, function, inherits in public_functions(ast.parse(source).body):
        docstring = ast.get_docstring(function) or ""
        names = parameters(function)
        if len(names) >= 2 and not inherits and (missing := [n for n in names if n not in entries(docstring, "Args")]):
            found.append(f"{name}: Args: lacks {', '.join(missing)}")
        if missing := raised(function) - entries(docstring, "Raises"):
            found.append(f"{name}: Raises: lacks {', '.join(sorted(missing))}")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_public_functions_explain_parameters_and_errors(path: Path):
    """If broken, a public function takes a parameter, or raises an error, that its docstring does not explain."""
    assert not complaints(path.read_text(encoding="utf-8"))


def test_every_test_says_what_is_broken_if_it_fails():
    """If broken, whoever sees a test fail has to find out what it is about."""
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, Function) and node.name.startswith("test_"):
                assert (ast.get_docstring(node) or "").startswith("If broken, "), (path.name, node.name)


DOCUMENTED = '''
def crop(image, box, *, strict=False):
    """Crops.

    Args:
      image: [H, W].
      box: four edges,
        pixels: as written.
      strict: whether to refuse an empty box.

    Raises:
      UserError: the box is empty.
    """
    raise UserError("empty")
'''


def test_what_is_left_out_would_be_found():
    """If broken, the test above cannot fail."""
    assert not complaints(DOCUMENTED)
    assert complaints(DOCUMENTED.replace("  box: four", "  four")) == ["crop: Args: lacks box"]
    assert complaints(DOCUMENTED.replace("UserError:", "ValueError:")) == ["crop: Raises: lacks UserError"]
    assert complaints(DOCUMENTED.replace("Args:", "Given:")) == ["crop: Args: lacks image, box, strict"]
    assert complaints(f"class Image:\n{DOCUMENTED.replace(chr(10), chr(10) + '  ')}") == []
    assert not complaints(DOCUMENTED.replace("def crop", "def _crop").replace("Args:", "Given:"))
    method = ast.unparse(ast.parse(DOCUMENTED)).replace("def crop(", "def on_start(self, ").replace("Args:", "Given:")
    for base, missing in (("Hook", 0), ("Progress", 1)):
        assert len(complaints(f"class Writer({base}):\n" + textwrap.indent(method, "  "))) == missing
