"""Runs commands as their scripts do, and holds their answers to bad input to what is promised."""

import contextlib
import dataclasses
import importlib
import io
import re
from pathlib import Path

from jaxseg import cli

LOG_LINE = re.compile(r"\d\d:\d\d:\d\d ")


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a command answered.

    Attributes:
      code: its exit code.
      error: the line that it ended with, or an empty string.
      log: its other lines on stderr.
    """

    code: int
    error: str
    log: list[str]


def answer(command: str, argv: list[str]) -> Answer:
    """Runs a command as its script does, in this process."""
    module = importlib.import_module(f"jaxseg.{command}")
    code = 0
    with contextlib.redirect_stderr(io.StringIO()) as said, contextlib.redirect_stdout(io.StringIO()):
        try:
            cli.run(command, lambda: module.main([str(a) for a in argv]))
        except SystemExit as left:
            code = left.code
    return answer_of(command, code, said.getvalue())


def answer_of(command: str, code: int, stderr: str) -> Answer:
    """Sorts the lines of stderr, of which no more than one may be the error's."""
    lines = stderr.splitlines()
    errors = [line for line in lines if line.startswith(f"python -m jaxseg.{command}: error: ")]
    assert len(errors) <= 1, stderr
    log = [line for line in lines if line not in errors]
    assert all(LOG_LINE.match(line) for line in log), f"neither log nor the one line of the error: {stderr}"
    return Answer(code, errors[0] if errors else "", log)


def contents(folder: Path) -> dict[str, object]:
    """Returns what is in a folder: kinds, times and bytes."""
    return {
        str(path.relative_to(folder)): (
            path.lstat().st_mode,
            None if path.is_dir() else path.lstat().st_mtime_ns,
            path.read_bytes() if path.is_file() and path.lstat().st_size < 10_000_000 else None,
        )
        for path in folder.rglob("*")
        if not path.is_fifo()
    }


def check(command: str, argv: list[str], said: str, place: Path, code: int = 2, writes: str = "") -> None:
    """Asserts how bad input is answered: with a code, a line, and without a trace in the folder `place`.

    Args:
      command: as "train".
      argv: its arguments.
      said: pattern of the line.
      place: where all of the case's files are.
      code: the exit code.
      writes: first part of the paths that may have been made.
    """
    before = contents(place)
    got = answer(command, argv)
    assert got.code == code, got
    assert re.search(said, got.error), got
    assert got.error.isprintable()
    assert len(got.error) < 1000
    after = contents(place)
    assert {path: what for path, what in after.items() if path in before} == before
    made = [path for path in after if path not in before]
    assert not [path for path in made if not writes or not path.startswith(writes)], made
