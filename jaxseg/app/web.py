"""The page as a folder of files that any web server serves, with the model in the visitor's browser.

    write_web(segmenter, Path("site"), Path("onnxruntime-web-1.30.0.tgz"))

Photographs stay in the browser. What needs Python is not there: measurements, trust, uncertainty, and formats that
browsers do not read.
"""

import contextlib
import html
import json
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from jaxseg.app.about import about
from jaxseg.errors import RunError, UserError, one_line
from jaxseg.inference.export import export_onnx
from jaxseg.inference.masks import Prediction
from jaxseg.inference.segmenter import Segmenter

PACKAGE = "onnxruntime-web"
"""The npm package that runs ONNX models in browsers."""

TRIED = "1.30.0"
"""The version of it that is tested."""

_RUNTIME = {"dist/ort.wasm.bundle.min.mjs": "ort.js", "dist/ort-wasm-simd-threaded.wasm": "ort.wasm"}
"""Its files, and what they are called in the folder: not every server knows `.mjs` for JavaScript."""

_STATIC = Path(__file__).resolve().parent / "static"

_SERVER_ONLY = ("start.js", "server_model.js", "index.html")

_POLICY = (
    "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; img-src 'self' blob:; object-src 'none'; "
    "base-uri 'none'; form-action 'none'"
)
"""The page asks its own server alone, and sends it nothing."""


def write_web(segmenter: Segmenter, folder: Path, runtime: Path | None = None, *, float16: bool = False) -> int:
    """Writes the page with a model in it.

    Args:
      segmenter: the model, with its ensemble and test-time augmentation.
      folder: where to write; must not exist, or be empty.
      runtime: the npm package onnxruntime-web, its folder or its .tgz file; None looks for it in ./node_modules.
      float16: store the model's kernels in half the bytes.

    Returns:
      The size of all files, bytes.

    Raises:
      UserError: the folder is in use, the package is not to be had, or the network cannot be written as ONNX.
      RunError: a file cannot be written.
    """
    check_folder(folder)
    with tempfile.TemporaryDirectory() as temporary:
        package = find_runtime(runtime, Path(temporary))
        model = export_onnx(segmenter, float16=float16)
        described = about(segmenter, Prediction(segmenter.threshold)) | {"size": segmenter.image_size}
        with _whole_or_nothing(folder):
            for path in _STATIC.iterdir():
                if path.name not in _SERVER_ONLY:
                    _copy(path, folder / "static" / path.name)
            for name, copy in _RUNTIME.items():
                _copy(package / name, folder / "onnxruntime" / copy)
            if (package / "LICENSE").exists():
                _copy(package / "LICENSE", folder / "onnxruntime" / "LICENSE")
            (folder / "model.onnx").write_bytes(model)
            (folder / "model.json").write_text(json.dumps(described), encoding="utf-8")
            (folder / "index.html").write_text(_page(), encoding="utf-8")
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@contextlib.contextmanager
def _whole_or_nothing(folder: Path) -> Iterator[None]:
    """Removes what the block has written into a folder that was empty or missing, if the block fails.

    Raises:
      RunError: a file could not be written.
    """
    was_there = folder.exists()
    try:
        yield
    except BaseException as error:
        with contextlib.suppress(OSError):
            for path in folder.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            if not was_there:
                folder.rmdir()
        if isinstance(error, OSError):
            raise RunError(f"{folder}: cannot be written ({error.strerror or error})") from error
        raise


def check_folder(folder: Path) -> None:
    """Checks that a folder can take the page without replacing anything.

    Raises:
      UserError: it is a file, or holds something.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"--output {folder}: is there already; --format web writes a new folder, give another name")


def find_runtime(given: Path | None, temporary: Path) -> Path:
    """Returns the folder of the npm package onnxruntime-web.

    Args:
      given: its folder or its .tgz file; None looks in ./node_modules.
      temporary: a folder in which a .tgz file may be unpacked.

    Raises:
      UserError: it is not there, or lacks a file.
    """
    package = given or Path("node_modules") / PACKAGE
    how = f"`npm pack {PACKAGE}@{TRIED}` fetches it; then give --onnxruntime-web {PACKAGE}-{TRIED}.tgz"
    if not package.exists():
        where = f"--onnxruntime-web {given}: no such file or folder" if given else f"{package}: is not there"
        raise UserError(f"{where}; the page runs the model with the npm package {PACKAGE}: {how}")
    if package.is_file():
        package = _unpacked(package, temporary)
    if missing := [name for name in _RUNTIME if not (package / name).is_file()]:
        raise UserError(f"{given or package}: has no {missing[0]}, so it is not {PACKAGE} as of version {TRIED}; {how}")
    return package


def _unpacked(archive: Path, temporary: Path) -> Path:
    """Copies the files of the package that are needed out of its .tgz file; links and folders in it mean nothing."""
    try:
        with tarfile.open(archive) as file:
            members = {member.name: member for member in file if member.isfile()}
            for name in (*_RUNTIME, "LICENSE"):
                if member := members.get(f"package/{name}"):
                    target = temporary / "package" / name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with file.extractfile(member) as content, target.open("wb") as copy:
                        shutil.copyfileobj(content, copy)
    except (OSError, tarfile.TarError, EOFError) as error:
        raise UserError(f"--onnxruntime-web {archive}: cannot be unpacked ({one_line(error)})") from error
    return temporary / "package"


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _page() -> str:
    """Returns index.html with the other start file, and with the policy that the server sends as a header."""
    text = (_STATIC / "index.html").read_text(encoding="utf-8")
    policy = f'<meta http-equiv="Content-Security-Policy" content="{html.escape(_POLICY)}">'
    for old, new in (
        ('<meta charset="utf-8">', f'<meta charset="utf-8">\n{policy}'),
        ("static/start.js", "static/start_web.js"),
    ):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text
