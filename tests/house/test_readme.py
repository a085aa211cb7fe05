"""README: short, and true about commands, flags and files."""

import importlib.util
import re
import subprocess
import sys

from tests.helpers.paths import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_it_is_read_in_one_sitting():
    """If broken, README is a lab notebook again."""
    assert len(README.splitlines()) <= 200


def test_links_lead_somewhere():
    """If broken, README points to files that are not in the repository."""
    for target in re.findall(r"\]\(([^)]+)\)", README):
        if not target.startswith("http"):
            assert (ROOT / target.split("#")[0]).exists(), target


def test_files_that_it_names_are_there():
    """If broken, README sends a reader to a file that was moved."""
    for path in re.findall(r"`((?:jaxseg|experiments|tests)/[^`\s*]*)`", README):
        assert (ROOT / path).exists(), path


def test_commands_that_it_names_are_there():
    """If broken, a command of README cannot be run."""
    for module in re.findall(r"-m ((?:jaxseg|experiments)[.\w]*)", README):
        assert importlib.util.find_spec(module), module


def test_flags_that_it_names_are_known():
    """If broken, README advises a flag that its command refuses."""
    known = {}
    for line in re.findall(r"-m jaxseg\.\w+ --.*", README):
        command = re.match(r"-m (jaxseg\.\w+)", line)[1]
        if command not in known:
            done = subprocess.run([sys.executable, "-m", command, "--help"], capture_output=True, text=True, check=True)
            known[command] = set(re.findall(r"--[\w.-]+", done.stdout))
        for flag in re.findall(r"--[\w.-]+", line.split("&&")[0].split("`")[0]):
            assert flag in known[command], (command, flag)
