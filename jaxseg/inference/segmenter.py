"""A trained model ready to use: the best weights of a run, or of several, behind one call."""

import dataclasses
import itertools
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Self, TypeVar

import numpy as np
from PIL import Image

from jaxseg.config import Config
from jaxseg.data import Examples
from jaxseg.data.images import decode_image, decode_pillow, resize_image
from jaxseg.errors import UserError
from jaxseg.inference import runtime as runtimes
from jaxseg.inference.masks import THRESHOLD
from jaxseg.inference.runtime import Runtime
from jaxseg.pretrained import card, place
from jaxseg.runs.fingerprint import fingerprint_of
from jaxseg.runs.images import Recognised, recognise
from jaxseg.runs.workdir import read_config
from jaxseg.system.files import read_json

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Member:
    """One run of a model.

    Attributes:
      workdir: the run's folder.
      config: settings of the run.
      step: training step of its best weights.
      threshold: probability above which a pixel is lesion, unless another is asked for.
    """

    workdir: Path
    config: Config
    step: int
    threshold: float = THRESHOLD


class Segmenter:
    """Maps images to probability maps; an ensemble of runs, to the mean of its members' maps.

        segmenter = Segmenter.load("runs/full")
        probability = segmenter("photo.jpg")  # float32 [H, W]; also for a Pillow image or an array uint8 [H, W, 3]

    Attributes:
      members: the runs, at least one, of one image size.
      runtime: what runs their networks.
      tta: whether each member averages over the eight symmetries of the square.
      config: settings of the first run.
      step: training step of the first run's weights.
      image_size: side of the network's square input, pixels.
      threshold: probability above which a pixel is lesion, unless another is asked for: 0.5, but for a packed model.
      batch_size: images that go through the network at once, over all devices.
    """

    def __init__(self, members: Sequence[Member], runtime: Runtime, *, tta: bool, batch_size: int | None = None):
        self.members = tuple(members)
        self.runtime = runtime
        self.tta = tta
        self.config = members[0].config
        self.step = members[0].step
        self.image_size = self.config.data.image_size
        self.threshold = members[0].threshold if len(members) == 1 else THRESHOLD
        wanted = batch_size or self.config.train.batch_size
        self.batch_size = -(-wanted // runtime.fewest) * runtime.fewest

    @classmethod
    def load(
        cls,
        workdir: Path | str = place.NAME,
        *more: Path | str,
        tta: bool = False,
        batch_size: int | None = None,
        runtime: str = runtimes.JAX,
    ) -> Self:
        """Loads the best checkpoint of a run, or of several as an ensemble, onto all local devices.

        Args:
          workdir: the run's folder; "builtin", the default, is the model inside the package.
          more: folders of further runs; their networks may differ, but not their image size.
          tta: test-time augmentation: average over flips and quarter turns, at eight times the cost.
          batch_size: images that go through the network at once, over all devices; default: as in training.
          runtime: "jax", whose results `evaluate` scores, or "onnx", which runs the network as `jaxseg.export` writes
            it, on the CPU, by the fastest of OpenVINO and ONNX Runtime that is installed.

        Returns:
          The segmenter.

        Raises:
          UserError: no run in a folder, no checkpoint yet, runs of different image sizes, no such runtime here, or a
            batch of no image.
        """
        if batch_size is not None and batch_size < 1:
            raise UserError(f"batch_size = {batch_size}: must be at least 1")
        workdirs = [place.folder_of(folder) for folder in (workdir, *more)]
        _tell_of_repeats([Path(folder).resolve() for folder in workdirs])
        configs = [read_config(folder) for folder in workdirs]
        sizes = [config.data.image_size for config in configs]
        for folder, size in zip(workdirs, sizes, strict=True):
            if size != sizes[0]:
                raise UserError(
                    f"{folder}: takes images of {size} pixels, but {workdirs[0]} of {sizes[0]}; runs of one ensemble "
                    "must have been trained with the same data.image_size"
                )
        wanted = batch_size or configs[0].train.batch_size
        loaded = runtimes.load(runtime, workdirs, configs, tta=tta, batch_size=wanted)
        members = []
        for folder, config, step in zip(workdirs, configs, loaded.steps, strict=True):
            about = read_json(folder / place.CARD) if place.is_packed(folder) else {}
            if about:
                log.info("model %s: %s", place.display_name(folder), card.line(about))
            members.append(Member(folder, config, step, about.get("threshold", THRESHOLD)))
        return cls(members, loaded.runtime, tta=tta, batch_size=batch_size)

    def __call__(self, image: np.ndarray | Image.Image | str | os.PathLike[str]) -> np.ndarray:
        """Segments one image of any size.

        Args:
          image: a file's path or a Pillow image, which are read as `jaxseg.predict` reads them (turned by their EXIF
            orientation, of any mode), or an array uint8 [H, W, 3], RGB in [0, 255], which is taken as it is.

        Returns:
          float32 [H, W], the probability of lesion.

        Raises:
          UserError: a file or a Pillow image that cannot be read.
          ValueError: an array of another type or shape.
        """
        if isinstance(image, str | os.PathLike):
            image = decode_image(Path(image).expanduser())
        elif isinstance(image, Image.Image):
            image = decode_pillow(image)
        elif hasattr(image, "__array__"):
            image = np.asarray(image)  # of JAX, for example
        else:
            raise ValueError(f"image is {type(image).__name__}: must be a path, a Pillow image or an array")
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"image is {image.dtype} {list(image.shape)}: must be uint8 [H, W, 3], RGB in [0, 255]")
        ((_, probability),) = self.stream([(None, self.resize(image))])
        return resize_probability(probability, image.shape[:2])

    def resize(self, image: np.ndarray) -> np.ndarray:
        """Resizes an image uint8 [H, W, 3] to the network's input, uint8 [S, S, 3]."""
        return resize_image(image, (self.image_size, self.image_size))

    def trained_on(self, examples: Examples, data_dir: str) -> int | None:
        """Returns how many of the images any member was trained on.

        Args:
          examples: the images.
          data_dir: folder of the prepared data sets.

        Returns:
          Their number; None where it cannot be told: a member of an older release keeps no list of its images, and
          they are not to be had, or have changed.
        """
        return self.recognise(examples, data_dir).trained_on

    def recognise(self, examples: Examples, data_dir: str) -> Recognised:
        """Tells by content which images the members were trained on and validated on.

        Args:
          examples: the images in question, with their masks.
          data_dir: folder of the prepared data sets, where images of older runs are looked up.
        """
        return recognise([(member.workdir, member.config) for member in self.members], examples, data_dir)

    def stream(self, items: Iterable[tuple[T, np.ndarray]]) -> Iterator[tuple[T, np.ndarray]]:
        """Segments images batch by batch; a device works on one batch while the host prepares the next.

        Args:
          items: pairs of a tag of any type and an image uint8 [S, S, 3] from `resize`.

        Yields:
          Pairs of each tag and the probability of lesion, float32 [S, S], in the order of `items`.
        """
        running: tuple[list[T], Callable[[], np.ndarray]] | None = None
        for tags, images in self._batches(items):
            started = tags, self.runtime.start(images)
            if running:
                yield from _finished(*running)
            running = started
        if running:
            yield from _finished(*running)

    def _batches(self, items: Iterable[tuple[T, np.ndarray]]) -> Iterator[tuple[list[T], np.ndarray]]:
        """Groups images into batches; blank images fill the last one where each size of a batch is compiled."""
        remaining = iter(items)
        batch = list(itertools.islice(remaining, self.batch_size))
        # Few images alone would wait for the blank images of a whole batch.
        size = self.runtime.fewest if len(batch) <= self.runtime.fewest else self.batch_size
        while batch:
            shape = (len(batch) if self.runtime.any_size else size, self.image_size, self.image_size, 3)
            images = np.zeros(shape, np.uint8)
            images[: len(batch)] = [image for _, image in batch]
            yield [tag for tag, _ in batch], images
            batch = list(itertools.islice(remaining, self.batch_size))


def _tell_of_repeats(folders: Sequence[Path]) -> None:
    """Warns of a member of an ensemble that is given more than once, or beside a copy of it: it counts as often."""
    for folder, times in Counter(folders).items():
        if times > 1:
            log.warning("%s: is given %d times, and counts as often", folder, times)
    copies: dict[str, list[Path]] = {}
    for folder in set(folders) if len(folders) > 1 else ():
        if weights := fingerprint_of(folder):
            copies.setdefault(weights.sha256, []).append(folder)
    for same in copies.values():
        if len(same) > 1:
            log.warning("%s: hold the same weights, which count %d times", ", ".join(map(str, sorted(same))), len(same))


def _finished(tags: list[T], result: Callable[[], np.ndarray]) -> Iterator[tuple[T, np.ndarray]]:
    """Waits for a batch; blank images at its end have no tag."""
    yield from zip(tags, result(), strict=False)


def resize_probability(probability: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes a probability map bilinearly.

    Args:
      probability: float32 [S, S].
      size: (height, width) wanted, pixels.

    Returns:
      float32 [height, width].
    """
    return np.asarray(Image.fromarray(probability).resize(size[::-1], Image.Resampling.BILINEAR))
