"""The names of all files of a run and of an evaluation, and reading and writing of those that describe a run.

Every file is replaced atomically.
"""

import contextlib
import datetime
import hashlib
import importlib.metadata
import json
import platform
import subprocess
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jaxseg
from jaxseg.config import SCHEMA_VERSION, Config
from jaxseg.errors import RunError, UserError, disk_fault, one_line, out_of_space, shown
from jaxseg.pretrained.place import CARD, is_packed
from jaxseg.system.files import read_json, write_text

CONFIG, HISTORY, SUMMARY, CURVES = "config.json", "metrics.jsonl", "summary.json", "curves.png"
"""Files in a run's folder: settings and facts, a line per epoch, best epoch and final scores, and curves."""

SESSIONS = "sessions.json"
"""File in the folder of a run that went on with other versions, devices or source."""

PAGE = "report.html"
"""The page about a run, in its folder."""

CHECKPOINTS, REPLACED = "checkpoints", "replaced-"
"""Folder of checkpoints in a run's folder; what a checkpoint's name begins with until its successor is saved."""

IMAGES, LOOKS = "images.json", "looks.npz"
"""Files in a run's folder: which images trained and validated, and what they look like."""

METRICS, PER_IMAGE = "metrics.json", "per_image.csv"
"""Files in an evaluation's folder: scores of the whole set, and scores per image."""

CASES, PICTURES = "cases.json", "cases"
"""File and folder in an evaluation's folder: hard cases, and their pictures."""

PER_IMAGE_HASH = "per_image_sha256"
"""Key in the scores of the whole set: SHA-256 of the scores per image that belong to them."""

_RECORDED_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "tensorflow-datasets", "numpy")


@contextlib.contextmanager
def disk_errors(workdir: Path) -> Iterator[None]:
    """Turns errors of the disk within the block into a RunError of one line.

    Args:
      workdir: the run's folder; errors on other files are not changed.

    Raises:
      RunError: the disk is full, or a file in the folder cannot be read or written.
    """
    try:
        yield
    except (UserError, RunError):
        raise
    except Exception as error:
        if out_of_space(error):
            raise RunError(
                f"{workdir}: no space left on the disk; the checkpoints written before are intact. "
                "Make room and give the same command again"
            ) from error
        if isinstance(error, OSError) and str(error.filename).startswith((str(workdir), str(workdir.resolve()))):
            raise RunError(f"{workdir}: {one_line(error)}; the checkpoints written before are intact") from error
        # An open file has no name in its errors; those of tensorstore, which writes arrays, are of a kind of their own.
        if not getattr(error, "filename", None) and (fault := disk_fault(error)):
            raise RunError(
                f"{workdir}: {fault}; the checkpoints written before are intact. Mend that and give the same command "
                "again"
            ) from error
        raise


def hash_per_image(folder: Path) -> str:
    """Returns the SHA-256, as hexadecimal digits, of an evaluation's scores per image.

    Args:
      folder: the evaluation's folder.

    Raises:
      OSError: they cannot be read.
    """
    return hashlib.sha256((folder / PER_IMAGE).read_bytes()).hexdigest()


def belongs_to(folder: Path, metrics: Mapping[str, Any]) -> bool:
    """Tells whether an evaluation's scores per image are those that were written with its scores of the whole set.

    Args:
      folder: the evaluation's folder.
      metrics: its scores of the whole set; older releases recorded nothing that tells.

    Raises:
      OSError: the scores per image cannot be read.
    """
    return metrics.get(PER_IMAGE_HASH) in (None, hash_per_image(folder))


def write_metrics(workdir: Path, history: Iterable[Mapping[str, Any]]) -> None:
    """Replaces `metrics.jsonl` by the whole history, so that no line is ever missing or doubled.

    Args:
      workdir: the run's folder.
      history: one mapping per epoch, without NaN or infinities.
    """
    write_text(workdir / HISTORY, "".join(json.dumps(line, allow_nan=False) + "\n" for line in history))


def description_of(workdir: Path) -> Path:
    """Returns the file that says what a folder's run is: `config.json`, or `card.json` of a packed model."""
    return workdir / (CARD if is_packed(workdir) else CONFIG)


def read_config(workdir: Path) -> Config:
    """Returns the settings that a run was started with.

    Raises:
      UserError: there is no run in this folder, or another version of jaxseg wrote it.
    """
    path = description_of(workdir)
    if not path.exists():
        raise UserError(
            f"{workdir}: no {CONFIG} in it, so no run; train first: python -m jaxseg.train --workdir {workdir}"
        )
    values = read_json(path)
    version = values.get("schema_version")
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise UserError(
            f"{path}: schema_version {version} is that of a newer jaxseg than this, which reads up to "
            f"{SCHEMA_VERSION}: update jaxseg, or give another --workdir"
        )
    if version != SCHEMA_VERSION:
        raise UserError(
            f"{path}: schema_version {shown(version)} is none that jaxseg has written (this one writes "
            f"{SCHEMA_VERSION}); restore the file from a copy, or give another --workdir"
        )
    try:
        return Config.from_dict(values.get("config"))
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def planned_epochs(workdir: Path) -> int | None:
    """Returns the most epochs that a run was asked for until now; None where the folder holds no run.

    Raises:
      UserError: another version of jaxseg wrote the run.
    """
    if not (workdir / CONFIG).exists():
        return None
    started_with = read_config(workdir).train.epochs
    try:
        return max(started_with, int(read_json(workdir / SUMMARY)["planned_epochs"]))
    except (
        UserError,
        LookupError,
        TypeError,
        ValueError,
    ):  # it has not ended, or is an older jaxseg's
        return started_with


def run_id(workdir: Path) -> str:
    """Returns a short hash of `config.json` (settings, start time), which tells runs apart wherever they lie.

    A packed model has the hash of its weights.

    Raises:
      UserError: the file cannot be read.
    """
    values = read_json(description_of(workdir))
    if is_packed(workdir):
        return packed_id(values)
    # Where the data lie may change while a run goes on.
    config = values.get("config")
    if isinstance(config, dict) and isinstance(config.get("data"), dict):
        values["config"] = {**config, "data": {**config["data"], "name": ""}}
    text = json.dumps({name: value for name, value in values.items() if name != "data"}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def packed_id(card: Mapping[str, Any]) -> str:
    """Returns what `run_id` returns for a packed model with this `card.json`."""
    weights = card.get("weights")
    return str(weights.get("sha256") if isinstance(weights, Mapping) else None)[:16]


def was_started(workdir: Path) -> bool:
    """Tells whether a folder holds a run that took its first steps; what a start that failed has left binds nobody."""
    return bool(_checkpoints(workdir)) or (workdir / SUMMARY).exists()


def _checkpoints(workdir: Path) -> list[Path]:
    """Returns the folders of a run's checkpoints, with that which was being replaced when the run was killed."""
    return sorted(path for path in workdir.glob(f"{CHECKPOINTS}/*") if path.name.removeprefix(REPLACED).isdigit())


def refuse_among_checkpoints(out: Path, flag: str) -> None:
    """Checks that results do not go among the checkpoints of a run.

    Args:
      out: folder for results, or a file.
      flag: the flag that names `out`, for the message.

    Raises:
      UserError: it is the folder of a run's checkpoints, or within.
    """
    path = out.expanduser().resolve()
    for folder in (path, *path.parents):
        if folder.name == CHECKPOINTS and was_started(folder.parent):
            raise UserError(f"{flag} {out}: lies among the checkpoints of {folder.parent}; give a folder of its own")


def check_has_checkpoints(workdir: Path) -> None:
    """Checks that a folder with records of a run still holds checkpoints: training would begin anew and replace them.

    Raises:
      UserError: the checkpoints are gone.
    """
    history = workdir / HISTORY
    # A run that was killed in its second epoch may have one line and no whole checkpoint.
    lines = len(history.read_bytes().splitlines()) if history.exists() else 0
    if not _checkpoints(workdir) and (lines > 1 or (workdir / SUMMARY).exists()):
        raise UserError(
            f"{workdir}: holds the records of a run of {lines} epochs ({HISTORY}) but no checkpoint, so it cannot go "
            f"on; restore {CHECKPOINTS}/ from a copy, or give another --workdir"
        )


def check_is_free(workdir: Path) -> None:
    """Checks that a folder without `config.json` holds no file that a run would take for its own, or replace.

    Raises:
      UserError: it holds such a file, which the message names.
    """
    if is_packed(workdir):
        raise UserError(f"{workdir}: holds a packed model, in which no run can be trained; give another --workdir")
    names = [HISTORY, SUMMARY, CURVES, PAGE, SESSIONS]
    if not _is_list_of_images(workdir / IMAGES):  # of a start that ended before there was a `config.json`
        names += [IMAGES, LOOKS]
    for path in (*(workdir / name for name in names), *_checkpoints(workdir)):
        if path.exists():
            raise UserError(
                f"{workdir}: holds {path.relative_to(workdir)} but no {CONFIG}, so there is no run to resume; restore "
                f"{CONFIG} from a copy, or give another --workdir"
            )


def _is_list_of_images(path: Path) -> bool:
    """Tells whether a file is a run's list of images, by its members; a COCO file may have the same name."""
    try:
        return {"version", "columns"} <= json.loads(path.read_text(encoding="utf-8")).keys()
    except (OSError, ValueError, AttributeError, RecursionError):
        return False


def check_same_run(saved: Config, config: Config, workdir: Path, but: Collection[str] = ()) -> None:
    """Checks that a run may be resumed with these settings.

    Args:
      saved: the settings that the run was started with.
      config: the settings to resume with.
      workdir: the run's folder, for the message.
      but: dotted names of settings that are checked elsewhere.

    Raises:
      UserError: a setting differs that changes results; the message names the first one.
    """
    for dotted, field in Config.settings():
        old, new = saved.get(dotted), config.get(dotted)
        if old != new and not field.metadata["resumable"] and dotted not in but:
            raise UserError(
                f"{workdir} holds a run with {dotted} = {old!r}, not {new!r}; "
                "leave the setting out, or the --config that holds it, to resume that run; for a new run with its "
                f"other settings, give --config {workdir / CONFIG} and another --workdir"
            )


def describe_run(config: Config, **facts: Any) -> dict[str, Any]:
    """Returns the content of `config.json`: settings, given facts, versions, source commit, and time.

    Args:
      config: resolved settings.
      **facts: further entries, as JSON values.
    """
    return {
        "schema_version": SCHEMA_VERSION,
        "config": config.to_dict(),
        **facts,
        "versions": {
            "jaxseg": jaxseg.__version__,
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in _RECORDED_PACKAGES},
        },
        "commit": _source_commit(),
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _source_commit() -> str | None:
    """Returns the git commit of jaxseg's source, or None where it is installed without one."""
    source = Path(jaxseg.__file__).parent
    command = ["git", "-C", str(source), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        tracked = subprocess.run([*command[:3], "ls-files", "--error-unmatch", __file__], capture_output=True)
        if tracked.returncode:
            return None  # a virtual environment inside some other project's checkout
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
