"""Commands parse first and import after: `--help` and mistakes answer at once."""

import shlex
import subprocess
import sys

import pytest

COMMANDS = ("train", "evaluate", "predict", "app", "export", "compare", "inspect", "prepare", "port_weights")
HEAVY = {"jax", "numpy", "PIL", "scipy", "matplotlib", "h5py", "tensorflow_datasets", "yaml"}

PROGRAM = """
import importlib, sys
from jaxseg import cli
module = importlib.import_module("jaxseg.{command}")
if hasattr(module, "__path__"):
    module = importlib.import_module("jaxseg.{command}.__main__")
try:
    cli.run("{command}", lambda: module.main({argv!r}))
except SystemExit as left:
    code = left.code
print(code, *sorted({heavy!r} & set(sys.modules)))
"""


def outcome(command: str, argv: list[str], heavy: set[str]) -> tuple[str, str]:
    """Returns the exit code and the heavy packages that were imported, and what the command wrote on stderr."""
    program = PROGRAM.format(command=command, argv=argv, heavy=heavy)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    return done.stdout.splitlines()[-1], done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_help_imports_nothing_heavy(command):
    """If broken, `--help` takes seconds, because a package is imported before the arguments are parsed."""
    assert outcome(command, ["--help"], HEAVY) == ("0", "")


def test_output_that_nobody_reads_is_no_error():
    """If broken, `... --print-config | head -1` ends in a traceback."""
    program = "from jaxseg import cli; cli.run('train', lambda: print('x\\n' * 100_000))"
    command = f"{shlex.quote(sys.executable)} -c {shlex.quote(program)} | head -1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("x\n", "")
    assert done.returncode == 141


@pytest.mark.parametrize(
    ("command", "argv", "said"),
    [
        ("train", ["--workdir", "w", "--optim.learning-rate", "-1"], "must be at least"),
        ("train", ["--workdir", "w", "--config", "gone.json"], "cannot be read"),
        ("export", ["--workdir", "w", "--output", "model.pt"], "not PyTorch"),
        ("compare", ["one"], "name at least two runs"),
        ("predict", ["--workdir", "w", "--input", "gone", "--output", "o"], "no such file or folder"),
    ],
)
def test_mistakes_are_answered_before_jax_starts(command, argv, said):
    """If broken, a slip of the keyboard is answered only after JAX has started."""
    code, error = outcome(command, argv, {"jax"})
    assert code == "2"
    assert said in error
