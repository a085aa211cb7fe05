"""Files that are replaced: whole at any time, whoever else replaces them at that moment."""

import subprocess
import sys

from jaxseg.system.files import LONGEST_NAME, write_text

WRITE = """
import sys
from pathlib import Path
from jaxseg.system.files import write_text
for _ in range(300):
    write_text(Path(sys.argv[1]), sys.argv[2] * 100_000)
"""


def test_processes_that_replace_one_file_do_not_meet(tmp_path):
    """If broken, of two evaluations of a run at once one ends in an error, and its page can be half of another's."""
    path = tmp_path / "report.html"
    write_text(path, "a" * 100_000)
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITE, str(path), letter], stderr=subprocess.PIPE, text=True)
        for letter in "ab"
    ]
    contents = set()
    while any(writer.poll() is None for writer in writers):
        contents.add(path.read_text())
    assert [writer.communicate()[1] for writer in writers] == ["", ""]
    assert contents <= {"a" * 100_000, "b" * 100_000}
    assert list(tmp_path.iterdir()) == [path]


def test_the_longest_name_can_be_replaced(tmp_path):
    """If broken, a name that passes the check fails when its file is written."""
    write_text(tmp_path / ("a" * LONGEST_NAME), "text")
