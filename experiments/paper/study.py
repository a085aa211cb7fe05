"""The folder of the paper's experiments, and the command line that all of their scripts have.

`OUT/rows/NAME` holds a training row: `row.json`, `maps.npz` (probabilities of the external and validation images) and
each run as a workdir, `member-0` and so on. `OUT/sections/NAME` holds a table or figure. A row that is there is not
trained again.
"""

import argparse
import dataclasses
import json
import logging
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.paper import rows
from experiments.paper.rows import Row
from experiments.paper.scales import SCALES, Scale
from experiments.paper.stacked import Member, StackedSteps, predict, resized, restore, save_members, train_together
from experiments.shared.origin import JSON, hardware, module_name, origin
from jaxseg import cli, data
from jaxseg.config import Config, preset
from jaxseg.data import Examples
from jaxseg.errors import RunError, UserError
from jaxseg.system import lock, startup
from jaxseg.system.devices import pick_devices
from jaxseg.system.files import replacing, write_json


@dataclasses.dataclass(frozen=True)
class Study:
    """A folder of experiments.

    Attributes:
      out: the folder.
      scale: how large they are.
      encoder: of the ResNet rows.
      pretrained: "imagenet" or a file, for rows that start with ImageNet weights.
      train: data set that is trained on.
      external: data set and split that is scored and never trained on.
      data_dir: folder of the prepared data sets; empty: TFDS' own.
      report: compute nothing that takes long, and show what is there.
    """

    out: Path
    scale: Scale
    encoder: str
    pretrained: str
    train: str
    external: tuple[str, str]
    data_dir: str
    report: bool = False

    @property
    def synthetic(self) -> bool:
        """Whether images are generated, which every picture must say."""
        return "synthetic" in (self.train, self.external[0])

    def config(self, row: Row) -> Config:
        """Returns a row's settings; seed and fold are its members'."""
        settings = {
            "data.name": self.train,
            "data.data_dir": self.data_dir,
            "model.encoder": self.encoder,
            "model.pretrained": self.pretrained,
            **self.scale.settings,
            "data.folds": self.scale.folds if row.folds else 0,
        }
        changes, encoder = dict(row.changes), row.changes.get("model.encoder", self.encoder)
        if encoder == "none" or not row.pretrained:
            settings |= {**self.scale.random_start, "model.pretrained": "none"}
        if encoder == "none":
            settings |= self.scale.plain
            changes.pop("optim.encoder_rate", None)
        return preset("paper").updated({**settings, **changes})

    def members(self, row: Row, config: Config) -> list[Member]:
        """Returns a row's runs: a seed each, or a fold each with the first seed."""
        if row.folds:
            parts = [dataclasses.replace(config.data, fold=fold) for fold in range(config.data.folds)]
            return [Member(0, *data.training_splits(part), fold=part.fold) for part in parts]
        train, validation = self.splits(config)
        return [Member(seed, rows.few(train, row.train_images, seed), validation) for seed in range(self.scale.seeds)]

    def splits(self, config: Config) -> tuple[Examples, Examples]:
        """Opens what a row of seeds trains on, and what it validates on."""
        return data.training_splits(config.data)

    def external_set(self, config: Config) -> Examples:
        """Opens the external set."""
        name, split = self.external
        return data.open_split(dataclasses.replace(config.data, name=name, folds=0, fold=0), split)

    def folder(self, row: Row) -> Path:
        """Returns where a row's files are."""
        return self.out / "rows" / row.name

    def row(self, row: Row) -> JSON:
        """Returns a row's result, and trains it if it is not there.

        A row that cannot be run, for want of weights or data, is {"title", "missing": why}, and tried again next time.

        Raises:
          UserError: the folder holds this row with other settings.
        """
        folder, config = self.folder(row), self.config(row)
        path = folder / "row.json"
        if path.exists():
            result = json.loads(path.read_text())
            # Settings that are newer than the row have their defaults.
            if Config.from_dict(result["settings"]) != config:
                raise UserError(f"{path}: was made with other settings; give another --out, or remove {folder}")
            return result
        if self.report:
            return {"name": row.name, "title": row.title, "missing": f"was not run at scale {self.scale.name}"}
        say(f"{row.name}: {row.title}")
        with lock.held(folder, "--out"):
            try:
                members, external = self.members(row, config), self.external_set(config)
                return self._train(row, config, members, external)
            except (UserError, RunError) as error:
                say(f"{row.name} is left out: {error}")
                return {"name": row.name, "title": row.title, "missing": str(error)}

    def _train(self, row: Row, config: Config, members: Sequence[Member], external: Examples) -> JSON:
        began, about, folder = time.perf_counter(), self._origin("row"), self.folder(row)
        trained, steps = train_together(config, members, say)
        maps = {}
        if not any(m.train.shared_with(external) for m in members):  # else it is no external set
            images, masks = resized(external, config)
            maps["external"] = predict(steps, trained.states.variables, images)
        tests = {"validation": [rows.validation_of(progress) for progress in trained.at_best]}
        if maps:
            tests["external"] = [rows.score(found > 0.5, masks[..., 0]) for found in maps["external"]]
        if not row.folds:
            images, _ = resized(members[0].validation, config)
            maps["validation"] = predict(steps, trained.states.variables, images)
        result = {
            **about,
            "name": row.name,
            "title": row.title,
            "scale": self.scale.name,
            "settings": config.to_dict(),
            "data": {
                "train": members[0].train.dataset,
                "external": {"dataset": external.dataset, "split": external.split, "images": len(external)},
            },
            "metric": f"at {config.data.image_size} px, probability above 0.5, weights of the lowest validation loss",
            "members": [
                rows.member_result(*run) for run in zip(members, trained.progress, trained.at_best, strict=True)
            ],
            "tests": tests,
            "seconds": round(time.perf_counter() - began, 1),
            "training_seconds": round(trained.seconds, 1),
            "compile_seconds": round(trained.compile_seconds, 1),
            "steps": trained.steps,
        }
        if row.keep:
            save_members(trained, folder)
            save_maps(folder / "maps.npz", maps)
        write_json(folder / "row.json", result)
        dice = rows.cell(result, "external", "pooled", "dice")
        say(f"{row.name}: {result['seconds']:.0f} s; Dice external {dice}")
        return result

    def restore(self, row: Row, *, tta: bool = False) -> tuple[StackedSteps, Any]:
        """Returns the steps of a row that kept its runs, and their best variables, stacked."""
        config = self.config(row)
        steps = StackedSteps(config, pick_devices(config.train.devices, config.train.batch_size), tta=tta)
        return steps, restore(steps, config, sorted(self.folder(row).glob("member-*")))

    def _origin(self, kind: str) -> JSON:
        first = jax.local_devices()[0]
        device = {"platform": first.platform, "kind": first.device_kind, "count": jax.local_device_count()}
        return {**origin(kind, device), "command": self.command()}

    def command(self) -> str:
        """Returns the command that makes all of it."""
        words = ["python", "-m", "experiments.paper", "--out", str(self.out), "--scale", self.scale.name]
        for flag, value, usual in (
            ("--encoder", self.encoder, self.scale.encoder),
            ("--pretrained", self.pretrained, "imagenet"),
            ("--train", self.train, self.scale.train),
            ("--external", ":".join(self.external), ":".join(self.scale.external)),
            ("--data-dir", self.data_dir, ""),
        ):
            words += [flag, value] if value != usual else []
        return shlex.join(words)

    def section(self, name: str, **content: Any) -> None:
        """Writes a section of the page.

        Args:
          name: of its folder.
          content: "title", "about"; and "paper" (where in it), "tables", "figures", "missing", "seconds" (of all that
            it took), "numbers" (what the page does not show, for those who compute with it).
        """
        about = self._origin("section")
        of = about["hardware"]
        source = {
            "command": about["command"],
            "commit": about["commit"],
            "date": about["date"],
            "hardware": f"{hardware(about)} ({of['cpu']}, {of['memory_gib']} GiB)",
            "versions": ", ".join(f"{package} {version}" for package, version in about["versions"].items()),
            "seconds": content.pop("seconds", 0.0),
        }
        facts = {"synthetic": self.synthetic, "scale": self.scale.name, "source": source}
        blank = {"paper": "", "tables": [], "figures": [], "missing": []}
        write_json(self.place(name, "section.json"), {"name": name, **blank, **content, **facts})

    def place(self, name: str, file: str) -> Path:
        """Returns where a section's file goes."""
        path = self.out / "sections" / name / file
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


def save_maps(path: Path, maps: Mapping[str, np.ndarray]) -> None:
    """Writes probabilities [M, N, S, S] in steps of 1/255."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **{name: np.rint(255 * found).astype(np.uint8) for name, found in maps.items()})


def load_maps(path: Path) -> dict[str, np.ndarray]:
    """Reads what `save_maps` wrote, float32 in [0, 1]."""
    with np.load(path) as stored:
        return {name: stored[name].astype(np.float32) / 255 for name in stored.files}


def say(text: str) -> None:
    """Tells on stderr how far it is."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def parser(doc: str) -> argparse.ArgumentParser:
    """Returns the parser of an experiment, with the arguments that all have."""
    result = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="the study's folder; made, or gone on with"
    )
    result.add_argument("--scale", choices=SCALES, default="full", help="how large (default: %(default)s)")
    result.add_argument(
        "--encoder", choices=("resnet50v2", "resnet50", "none"), help="of the ResNet rows (default: the scale's)"
    )
    result.add_argument("--pretrained", metavar="FILE", default="imagenet", help="its weights (default: %(default)s)")
    result.add_argument("--train", metavar="D", help="what is trained on (default: the scale's, ph2)")
    result.add_argument(
        "--external", metavar="D:SPLIT", help="what is scored and never trained on (default: isic2016:test)"
    )
    result.add_argument("--report", action="store_true", help="compute nothing new, and show what is there")
    result.add_argument("--data-dir", default="", metavar="DIR", help="folder of the prepared data sets")
    return result


def study_of(args: argparse.Namespace) -> Study:
    """Returns the study that the command line means."""
    scale = SCALES[args.scale]
    name, colon, split = (args.external or ":".join(scale.external)).rpartition(":")
    if not colon:
        raise UserError(f"--external {args.external}: name a split too, as {args.external}:test")
    pretrained = str(Path(args.pretrained).resolve()) if Path(args.pretrained).exists() else args.pretrained
    return Study(
        args.out,
        scale,
        args.encoder or scale.encoder,
        pretrained,
        args.train or scale.train,
        (name, split),
        args.data_dir,
        args.report,
    )


def main(run: Callable[[Study], None], doc: str) -> None:
    """Runs one experiment from the command line."""
    arguments = parser(doc)
    start(lambda: run(study_of(arguments.parse_args())))


def start(program: Callable[[], None]) -> None:
    """Runs a program as jaxseg's commands are run: a mistake or a failure ends it with a line and an exit code."""
    # Not all of `startup.tune`: memory that is kept between steps would be kept between rows, too, and grow with them.
    startup.keep_compiled_programs()
    cli.start_logging()
    logging.getLogger("jaxseg").setLevel(logging.WARNING)  # of every run of a row the same would be told
    cli.run_program(f"python -m {module_name()}", program)
