"""README: short, and true about commands, flags and files."""

import functools
import importlib.util
import re
import subprocess
import sys

import pytest

from tests.helpers.paths import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
GUIDE = (ROOT / "experiments" / "README.md").read_text(encoding="utf-8")

COMMANDS = ("train", "evaluate", "predict", "app", "inspect", "export", "compare", "prepare", "port_weights")

FOREIGN = {"--help", "--xla_gpu_deterministic_ops"}
"""Flags of every command, and of XLA."""


@functools.cache
def flags_of(command: str) -> set[str]:
    """Returns the flags that a command's help lists."""
    done = subprocess.run(
        [sys.executable, "-m", f"jaxseg.{command}", "--help"], capture_output=True, text=True, check=True
    )
    return set(re.findall(r"--[\w.-]+", done.stdout))


def calls(text: str) -> list[tuple[str, list[str]]]:
    """Returns the name and the flags of every call of a command, in blocks of code and in running text."""
    # A call ends with the shell's next command, the closing backtick, a comment or a line that is not continued.
    found = re.findall(r"-m jaxseg\.(\w+)((?:\\\n|(?!&&|`|\s#|\||;)[^\n])*)", text)
    return [(command, re.findall(r"--[\w.-]+", rest)) for command, rest in found]


def test_it_is_read_in_one_sitting():
    """If broken, README is a lab notebook again."""
    assert len(README.splitlines()) < 200


def test_links_lead_somewhere():
    """If broken, README points to files that are not in the repository."""
    for target in re.findall(r"\]\(([^)]+)\)", README):
        if not target.startswith("http"):
            assert (ROOT / target.split("#")[0]).exists(), target


def test_files_that_it_names_are_there():
    """If broken, README sends a reader to a file that was moved."""
    for path in re.findall(r"`((?:jaxseg|experiments|tests)/[^`\s*]*)`", README):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("text", [README, GUIDE], ids=["README", "experiments"])
def test_commands_that_it_names_are_there(text):
    """If broken, a command cannot be run."""
    for module in re.findall(r"-m ((?:jaxseg|experiments)(?:\.[a-z_\d]+)+)", text):
        assert importlib.util.find_spec(module), module


def test_results_name_commands_of_today():
    """If broken, a page of results tells its reader to run a file that was moved."""
    for path in (ROOT / "experiments" / "results").glob("*.md"):
        assert not re.findall(r"python \S+\.py\b", path.read_text(encoding="utf-8")), path.name


def test_flags_of_calls_are_known():
    """If broken, README shows a call that its command refuses, be it the second one of a line."""
    found = calls(README)
    assert {"train", "evaluate", "predict"} <= {command for command, _ in found}
    for command, flags in found:
        assert not set(flags) - flags_of(command) - FOREIGN, command


def test_flags_that_it_names_by_themselves_are_known():
    """If broken, README's tables and sentences advise a flag that no command has."""
    known = set().union(*map(flags_of, COMMANDS)) | FOREIGN
    named = re.findall(r"(?<![\w-])--[a-z][\w.-]*[a-z\d]", re.sub(r"pip install[^\n]*", "", README))
    assert len(named) > 20
    assert not set(named) - known


def test_flags_of_both_commands_are():
    """If broken, the table of flags for `predict` and `evaluate` lists one that only one of them has."""
    (table,) = re.findall(r"These flags work with `predict` and `evaluate`[^\n]*\n\n((?:\|.*\n)+)", README)
    named = re.findall(r"--[a-z][\w.-]*", table)
    assert len(named) >= 4
    assert set(named) <= flags_of("predict") & flags_of("evaluate")


def test_calls_are_found_whole():
    """If broken, the tests above overlook flags."""
    text = "`python -m jaxseg.train --a 1 && python -m jaxseg.evaluate --b`, and --c\n"
    text += "python -m jaxseg.predict --d \\\n --e"
    assert calls(text) == [("train", ["--a"]), ("evaluate", ["--b"]), ("predict", ["--d", "--e"])]
