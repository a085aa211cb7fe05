"""Files from elsewhere are data: nothing in a checkpoint, a weight file, settings or a data set is executed."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import jaxseg
from jaxseg import weights
from jaxseg.errors import UserError
from tests.helpers.bad_files import RGB, Evil, encoded, ph2

SOURCE = Path(jaxseg.__file__).parent

FORBIDDEN = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "yaml", "torch", "tarfile"}
"""Modules whose readers execute or unpack what they read."""

ALLOWED = {"config/settings_file.py": {"yaml"}, "app/web.py": {"tarfile"}}
"""The files that import such a module, of which they may call only what `CALLS` names."""

CALLS = {"yaml.safe_load", "yaml.scan", "tarfile.open"}

UNPACKING = ("extract", "extractall", "unpack_archive")
"""Methods that write files to where an archive says."""

# Python tells an audit hook whenever a pickle asks for a class or function, in whatever library.
AUDITED = """
import sys
asked = []
sys.addaudithook(lambda event, args: event == "pickle.find_class" and asked.append(args))
from jaxseg import evaluate, predict, prepare, train
run, source, place, image = sys.argv[1:]
prepare.main(["ph2", "--source", source, "--data-dir", f"{place}/tfds"])
evaluate.main(["--workdir", run, "--data", "ph2", "--split", "all", "--data-dir", f"{place}/tfds"])
predict.main(["--workdir", run, "--input", image, "--output", f"{place}/out"])
train.main(["--workdir", run, "--train.epochs", "3"])
assert not asked, asked
"""


def test_no_command_unpickles_anything(tiny_run, tmp_path):
    """If broken, who uses another's checkpoint or prepared data set runs another's program."""
    shutil.copytree(tiny_run, tmp_path / "run")
    (tmp_path / "a.png").write_bytes(encoded(RGB))
    source = ph2(tmp_path, "Name\tClinical Diagnosis\nIMD003\t0")
    command = [sys.executable, "-c", AUDITED, tmp_path / "run", source, tmp_path, tmp_path / "a.png"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "a_mask.png").exists()


def test_a_pickle_in_a_weight_file_is_not_read(tmp_path):
    """If broken, a download can do anything; the witness proves that this one would have."""
    np.savez(tmp_path / "w.npz", **{"params/conv1_conv/kernel": np.array([Evil(tmp_path / "executed")], object)})
    with pytest.raises(UserError, match="allow_pickle=False"):
        weights.load_file(tmp_path / "w.npz")
    assert not (tmp_path / "executed").exists()
    with np.load(tmp_path / "w.npz", allow_pickle=True) as file:
        assert file["params/conv1_conv/kernel"].shape == (1,)
    assert (tmp_path / "executed").exists()


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda p: str(p.relative_to(SOURCE)))
def test_the_source_has_no_way_to_execute_data(path):
    """If broken, somebody has reached for a reader that executes what it reads, or that allows pickles."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = node.module if isinstance(node, ast.ImportFrom) else None
            names = [module] if module else [alias.name for alias in node.names]
            allowed = ALLOWED.get(path.relative_to(SOURCE).as_posix(), set())
            assert not {name.split(".")[0] for name in names} & (FORBIDDEN - allowed), ast.unparse(node)
            readers = isinstance(node, ast.ImportFrom) and node.module in ("yaml", "tarfile")
            assert not readers, "these readers keep their prefix"
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert not called.startswith(("yaml.", "tarfile.")) or called in CALLS, ast.unparse(node)
            assert called.split(".")[-1] not in UNPACKING, ast.unparse(node)
            assert called not in ("eval", "exec", "compile", "os.system", "__import__"), ast.unparse(node)
            words = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            assert words.get("shell", "False") == "False", ast.unparse(node)
            if called in ("np.load", "numpy.load", "np.lib.format.read_array"):
                assert words.get("allow_pickle") == "False", ast.unparse(node)
