"""The folder of the paper's experiments: what is there, and what is trained where it is not.

`OUT/rows/NAME` holds a training row: `row.json`, `maps.npz` (probabilities of the external and validation images), each
run as a workdir (`member-0`, ...), and `under-way` while the row trains. `OUT/sections/NAME` holds a table or
figure. A finished row is not trained again, and an interrupted one continues from its last epoch. Runs whose scores
were brought from another machine (`keep --into`) have no workdir.
"""

import dataclasses
import itertools
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.paper import plan, rows, teaching, under_way
from experiments.paper.in_turn import train_in_turn
from experiments.paper.pool import resized
from experiments.paper.rows import Row
from experiments.paper.scales import Scale
from experiments.paper.stacked import (
    Member,
    StackedSteps,
    Trained,
    devices_of,
    predict,
    restore,
    save_members,
    train_together,
)
from experiments.shared.console import say
from experiments.shared.origin import JSON, command_line, hardware, names_alone, origin
from jaxseg import data
from jaxseg.config import Config, preset
from jaxseg.data import Examples
from jaxseg.errors import RunError, UserError
from jaxseg.losses import create_loss
from jaxseg.steps import forget_compiled
from jaxseg.system import lock
from jaxseg.system.files import replacing, write_json

ROW_FILE = "row.json"
"""A finished row: settings, scores and curves of its runs."""

MAPS = "maps.npz"
"""Probabilities of a row's runs [M, N, S, S] on what they are tested on, "external", and on "validation"."""


@dataclasses.dataclass(frozen=True)
class Study:
    """A folder of experiments.

    Attributes:
      out: the folder.
      scale: size of the experiments.
      encoder: encoder of the ResNet rows.
      pretrained: "imagenet" or a file, for rows that start with ImageNet weights.
      train: training data set.
      external: data set and split that is scored and never trained on.
      data_dir: folder of the prepared data sets; empty: TFDS' own.
      report: whether to compute nothing that takes long, and to show what is there.
      planned: all rows that the command will ask for, to tell the time left.
      runs: at most so many runs of each row, its first seeds or folds; None: all that the scale has.
      in_turn: whether a row's runs train one after the other instead of together.
      only: names of the rows that may be trained, the others being shown if they are there; None: all.
    """

    out: Path
    scale: Scale
    encoder: str
    pretrained: str
    train: str
    external: tuple[str, str]
    data_dir: str
    report: bool = False
    planned: tuple[Row, ...] = ()
    runs: int | None = None
    in_turn: bool = False
    only: Sequence[str] | None = None

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
        """Returns a row's runs: a seed each, or a fold each with the first seed.

        Args:
          row: the row.
          config: its settings.
        """
        if row.folds:
            parts = [dataclasses.replace(config.data, fold=fold) for fold in range(config.data.folds)]
            return [Member(0, *data.training_splits(part), fold=part.fold) for part in parts[: self.count(row)]]
        train, validation = self.splits(config)
        if row.teacher:
            maps = load_maps(self.folder(row.teacher) / MAPS)
            means = {name: found.mean(axis=0) for name, found in maps.items()}
            train = teaching.taught(train, validation, self.external_set(config), means, config)
        count = self.count(row)
        chosen = [rows.few(train, row.train_images, seed) for seed in range(count)]
        parents = [self.folder(row.parent) / f"member-{seed}" if row.parent else None for seed in range(count)]
        return [Member(seed, chosen[seed], validation, parent=parents[seed]) for seed in range(count)]

    def count(self, row: Row) -> int:
        """Returns the number of a row's runs."""
        most = self.scale.folds if row.folds else self.scale.seeds
        return min(self.runs or most, most)

    def splits(self, config: Config) -> tuple[Examples, Examples]:
        """Opens what a row of seeds trains on, and what it validates on."""
        return data.training_splits(config.data)

    def home_validation(self, config: Config) -> Examples:
        """Opens the validation images of the study's training set, whatever a row trains on."""
        return data.training_splits(dataclasses.replace(config.data, name=self.train, folds=0, fold=0))[1]

    def external_set(self, config: Config) -> Examples:
        """Opens the external set."""
        name, split = self.external
        return data.open_split(dataclasses.replace(config.data, name=name, folds=0, fold=0), split)

    def test_set(self, row: Row, config: Config) -> Examples:
        """Opens what a row's runs are tested on: the external set, or the half of it that they do not learn from.

        Args:
          row: the row.
          config: its settings.
        """
        external = self.external_set(config)
        return external.select(teaching.halves(external)[1], f"half of {external.split}") if row.teacher else external

    def folder(self, row: Row) -> Path:
        """Returns the folder of a row's files."""
        return self.out / "rows" / row.name

    def workdirs(self, row: Row) -> list[Path]:
        """Returns the workdirs of a finished row's runs; those of runs from another machine are not there."""
        runs = len(json.loads((self.folder(row) / ROW_FILE).read_text())["members"])
        return [self.folder(row) / f"member-{i}" for i in range(runs)]

    def workdirs_here(self, row: Row) -> list[Path]:
        """Returns the workdirs of those runs of a finished row that were trained on this machine."""
        return [workdir for workdir in self.workdirs(row) if workdir.is_dir()]

    def row(self, row: Row) -> JSON:
        """Returns a row's result, and trains the row if it is not there.

        A row that cannot be run, because weights or data are missing, is {"name", "title", "missing": why}, and is
        tried again next time.

        Raises:
          UserError: the folder holds this row with other settings.
        """
        folder, config = self.folder(row), self.config(row)
        path, earlier = folder / ROW_FILE, None
        if path.exists():
            result = earlier = json.loads(path.read_text())
            # Settings that are newer than the row have their defaults; folders of the machine are not recorded.
            if names_alone(Config.from_dict(result["settings"]).to_dict()) != names_alone(config.to_dict()):
                raise UserError(f"{path}: was made with other settings; give another --out, or remove {folder}")
            if not self._may_train(row) or len(result["members"]) >= self.count(row):
                return result
            if not (result.get("in_turn") and self.in_turn):
                raise UserError(
                    f"{path}: has {len(result['members'])} of {self.count(row)} runs, and only runs trained one after "
                    f"the other can be added to; give --runs {len(result['members'])}, or remove {folder}"
                )
        if not self._may_train(row):
            return rows.left_out(row, f"was not run at scale {self.scale.name}")
        for before in filter(None, (row.parent, row.teacher)):
            if "missing" in (done := self.row(before)):
                return rows.left_out(row, f"{done['title']}: {done['missing']}")
        if row.teacher and not (self.folder(row.teacher) / MAPS).exists():
            return rows.left_out(row, f"{row.teacher.title}: has no maps on this machine")
        say(f"{row.name}: {row.title}")
        if self.planned:
            say(plan.sentence(self.out, [(planned, self.count(planned)) for planned in self.planned]))
        with lock.held(folder, "--out"):
            try:
                members, external = self.members(row, config), self.test_set(row, config)
                return self._train(row, config, members, external, earlier)
            except (UserError, RunError) as error:
                say(f"{row.name} is left out: {error}")
                return rows.left_out(row, str(error))
            finally:
                # Dozens of rows keep so many programs that the process meets the kernel's limit of memory maps.
                forget_compiled()

    def _may_train(self, row: Row) -> bool:
        return not self.report and (self.only is None or row.name in self.only)

    def _train(
        self, row: Row, config: Config, members: Sequence[Member], external: Examples, earlier: JSON | None
    ) -> JSON:
        began, about, folder = time.perf_counter(), self._origin("row"), self.folder(row)
        in_turn = self.in_turn and not (row.train_images or row.teacher)  # of which `jaxseg.train` knows nothing
        brought = self._brought(row) if earlier else 0
        members = members[brought:]
        train = train_in_turn if in_turn else train_together
        trained, steps = train(config, members, say, folder)
        tests, maps = _tested(config, members, external, trained, steps)
        about_run = {"commit": about["commit"], "hardware": about["hardware"]}
        runs = [
            {**rows.member_result(*run), **about_run}
            for run in zip(members, trained.progress, trained.at_best, strict=True)
        ]
        seconds = trained.earlier_seconds + time.perf_counter() - began
        if earlier:
            runs, tests, seconds = _added(earlier, brought, runs, tests, seconds)
        result = {
            **about,
            "name": row.name,
            "title": row.title,
            "scale": self.scale.name,
            "in_turn": in_turn,
            "settings": names_alone(config.to_dict()),
            "data": {
                "train": members[0].train.dataset,
                "external": {"dataset": external.dataset, "split": external.split, "images": len(external)},
            },
            "metric": f"at {config.data.image_size} px, probability above 0.5, weights of the lowest validation loss",
            "members": runs,
            "tests": tests,
            "seconds": round(seconds, 1),
            "sessions": trained.sessions,
            "training_seconds": round(trained.seconds, 1),
            "compile_seconds": round(trained.compile_seconds, 1),
            "steps": trained.steps,
        }
        # Of fewer runs, where the row is added to. What is measured has an entry for each run, and is added to as well.
        for derived in (*folder.glob("*.npz"), *(() if earlier else folder.glob("*.json"))):
            derived.unlink()
        if row.keep:
            if not in_turn:
                save_members(trained, folder)
            save_maps(folder / MAPS, maps)
        write_json(folder / ROW_FILE, result)
        under_way.remove(folder)
        dice = rows.cell(result, "external", "pooled", "dice")
        say(f"{row.name}: {result['seconds']:.0f} s; Dice external {dice}")
        return result

    def _brought(self, row: Row) -> int:
        """Returns how many runs, the first of the row, came from another machine without their weights."""
        return len(list(itertools.takewhile(lambda workdir: not workdir.is_dir(), self.workdirs(row))))

    def restore(
        self, row: Row, workdirs: Sequence[Path] | None = None, *, tta: bool = False
    ) -> tuple[StackedSteps, Any]:
        """Returns the compiled steps of a row that kept its runs, and their best variables, stacked.

        Args:
          row: the row.
          workdirs: those of the runs; None: of all that are there.
          tta: whether `predict` averages over the symmetries of the square.
        """
        config = self.config(row)
        steps = StackedSteps(config, devices_of(config), tta=tta)
        return steps, restore(steps, config, workdirs or self.workdirs_here(row))

    def _origin(self, kind: str) -> JSON:
        first = jax.local_devices()[0]
        device = {"platform": first.platform, "kind": first.device_kind, "count": jax.local_device_count()}
        return {**origin(kind, device), "command": self.command()}

    def command(self) -> str:
        """Returns the command that makes the whole study, without folders of the machine."""
        words = ["python", "-m", "experiments.paper", "--out", str(self.out), "--scale", self.scale.name]
        for flag, value, usual in (
            ("--encoder", self.encoder, self.scale.encoder),
            ("--pretrained", self.pretrained, "imagenet"),
            ("--train", self.train, self.scale.train),
            ("--external", ":".join(self.external), ":".join(self.scale.external)),
            ("--data-dir", self.data_dir, ""),
        ):
            words += [flag, value] if value != usual else []
        words += ["--runs", str(self.runs)] if self.runs else []
        words += ["--in-turn"] if self.in_turn else []
        return command_line(words)

    def section(self, name: str, **content: Any) -> None:
        """Writes a section of the page.

        Args:
          name: name of the section's folder.
          content: "title", "about", and optionally "paper" (place in the paper), "tables", "figures", "missing",
            "seconds" (wall time of the section). Tables without rows are left out.
        """
        about = self._origin("section")
        device = about["hardware"]
        source = {
            "command": about["command"],
            "commit": about["commit"],
            "date": about["date"],
            "hardware": f"{hardware(about)} ({device['cpu']}, {device['memory_gib']} GiB)",
            "versions": ", ".join(f"{package} {version}" for package, version in about["versions"].items()),
            "seconds": content.pop("seconds", 0.0),
        }
        facts = {"synthetic": self.synthetic, "scale": self.scale.name, "source": source}
        blank = {"name": name, "paper": "", "figures": [], "missing": []}
        tables = [table for table in content.pop("tables", []) if table["rows"]]
        write_json(self.place(name, "section.json"), {**blank, "tables": tables, **content, **facts})

    def place(self, name: str, file: str) -> Path:
        """Returns the path of a section's file, and makes its folder.

        Args:
          name: name of the section.
          file: name of the file.
        """
        path = self.out / "sections" / name / file
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


def _added(
    earlier: JSON, brought: int, runs: list[JSON], tests: dict[str, list[JSON]], seconds: float
) -> tuple[list[JSON], dict[str, list[JSON]], float]:
    """Returns runs, tests and seconds of a row that was added to; the runs that it had keep what is told of them."""
    done = len(earlier["members"])
    new = done - brought  # of the runs that are here, the first that the row did not have
    return (
        earlier["members"] + runs[new:],
        {test: earlier["tests"][test] + scored[new:] for test, scored in tests.items()},
        seconds + earlier["seconds"] * brought / done,
    )


def _tested(
    config: Config, members: Sequence[Member], external: Examples, trained: Trained, steps: StackedSteps
) -> tuple[dict[str, list[JSON]], dict[str, np.ndarray]]:
    """Returns the scores of each run and the maps [M, N, S, S] by set; runs of folds share no validation set."""
    maps = {}
    tests = {"validation": [rows.validation_of(progress) for progress in trained.at_best]}
    if not any(m.train.shared_with(external) for m in members):  # else the set is not external
        images, masks = resized(external, config)
        maps["external"] = predict(steps, trained.states.variables, images)
        tests["external"] = [_score(config, found, masks[..., 0]) for found in maps["external"]]
    if not config.data.folds:
        images, _ = resized(members[0].validation, config)
        maps["validation"] = predict(steps, trained.states.variables, images)
    return tests, maps


def _score(config: Config, maps: np.ndarray, truth: np.ndarray) -> JSON:
    """Returns a run's scores on a set, and the mean of its loss as "loss"; maps and truth are [N, S, S]."""
    found = np.clip(maps, 1 / 510, 1 - 1 / 510)  # as probabilities that are kept in steps of 1/255
    loss = create_loss(config.loss)(np.log(found / (1 - found)), truth)
    return {**rows.score(maps > 0.5, truth), "loss": float(loss)}


def save_maps(path: Path, maps: Mapping[str, np.ndarray]) -> None:
    """Writes probabilities in steps of 1/255.

    Args:
      path: NPZ file.
      maps: probabilities [M, N, S, S] by set.
    """
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **{name: np.rint(255 * found).astype(np.uint8) for name, found in maps.items()})


def load_maps(path: Path) -> dict[str, np.ndarray]:
    """Returns the probabilities that `save_maps` wrote, float32 in [0, 1]."""
    with np.load(path) as stored:
        return {name: stored[name].astype(np.float32) / 255 for name in stored.files}
