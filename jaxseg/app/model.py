"""What the server computes for the page: probabilities as levels, uncertainty, measurements, trust.

The page moves the threshold itself. For that it gets one byte for each pixel, its level: the number of thresholds in
`PageModel.stops` that the pixel's probability is above. The mask of stop i is `level > i`, which is what
`Prediction.mask` makes of the probabilities with that threshold, pixel for pixel.
"""

import dataclasses
import io
import secrets
from typing import Any

import numpy as np
from PIL import Image

from jaxseg.app.about import about, stops_of
from jaxseg.app.recent import Recent
from jaxseg.data.depth import HOW
from jaxseg.data.identity import hash_bytes, hash_pixels
from jaxseg.data.images import Header, decode_image, header_of
from jaxseg.inference.masks import Prediction
from jaxseg.inference.measurements import measure
from jaxseg.inference.segmenter import Segmenter, resize_probability
from jaxseg.inference.table import row_of
from jaxseg.inference.trust import trust_of
from jaxseg.runs import images as run_images

_KEPT_BYTES = 512 * 2**20
"""Most bytes of photographs that are kept; the page sends one again that was forgotten."""

_DECODED_BYTES = 256 * 2**20

_PICTURE_QUALITY = 92

_LONGEST_JPEG = 65_500
"""Longest side that a JPEG file is written with, pixels."""

_BINS = 4096
"""Bins of equal width in [0, 1] in which thresholds are looked up: a bin rarely has two."""


@dataclasses.dataclass(frozen=True)
class Photograph:
    """One photograph and what the network says of it.

    Attributes:
      name: the file's name.
      content: the file.
      size: height and width as it is shown, pixels.
      probability: float32 [S, S], at the network's resolution.
      ending: how a file of its format is named, as ".jpg".
      turned_unseen: whether it has an EXIF orientation that does not swap its sides, or has equal sides: then a mask's
        size does not tell whether the mask is turned like the file or like the picture.
      notes: sentences for the user.
    """

    name: str
    content: bytes
    size: tuple[int, int]
    probability: np.ndarray
    ending: str
    turned_unseen: bool
    notes: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the page asks measurements for.

    Attributes:
      stop: index of the threshold.
      largest_component: as in `Prediction`.
      fill_holes: as in `Prediction`.
      pixels_per_mm: the photographs' scale; None where it is not known.
    """

    stop: int
    largest_component: bool
    fill_holes: bool
    pixels_per_mm: float | None


class PageModel:
    """A model in use by the page; safe to call from several threads, but for `segment`.

    Attributes:
      stops: the thresholds that the page offers, rising: 0.01 to 0.99, and the model's own.

    Args:
      segmenter: the model.
      prediction: how its probabilities become masks, unless the page asks otherwise.
    """

    def __init__(self, segmenter: Segmenter, prediction: Prediction):
        self.stops = stops_of(prediction)
        # In float32, as NumPy compares `probability > threshold` in `Prediction.mask`.
        self._below, self._inside = _tables(np.array(self.stops, np.float32))
        self._segmenter = segmenter
        self._prediction = prediction
        self._trust = trust_of(segmenter)
        self._photographs: Recent[Photograph] = Recent(
            _KEPT_BYTES, lambda photograph: len(photograph.content) + photograph.probability.nbytes
        )
        self._decoded: Recent[np.ndarray] = Recent(_DECODED_BYTES, lambda pixels: pixels.nbytes)
        lists = [images for member in segmenter.members if (images := run_images.read(member.workdir))]
        self._trained_on = frozenset().union(*(images.trained() for images in lists))

    def warm_up(self) -> None:
        """Compiles the network and imports what measurements need: the first photograph is as fast as the others."""
        image = np.zeros((8, 8, 3), np.uint8)
        self._segmenter(image)
        measure(np.ones((8, 8), bool), image)

    def about(self) -> dict[str, Any]:
        """Returns what the page has to know of the model, for JSON."""
        return about(self._segmenter, self._prediction)

    def segment(self, content: bytes, name: str) -> str:
        """Segments a photograph, and keeps it until others have taken its place.

        Args:
          content: the file.
          name: its name, for messages.

        Returns:
          A key for the photograph.

        Raises:
          UserError: the file cannot be read as an image.
        """
        header = header_of(content, name)
        pixels = decode_image(content, name)
        ((_, probability),) = self._segmenter.stream([(None, self._segmenter.resize(pixels))])
        size = pixels.shape[:2]
        key = secrets.token_hex(8)
        self._decoded.put(key, pixels)
        self._photographs.put(
            key,
            Photograph(
                name,
                content,
                size,
                probability,
                header.ending,
                turned_unseen=header.orientation != 1 and size == header.stored,
                notes=self._notes(content, pixels, header),
            ),
        )
        return key

    def _notes(self, content: bytes, pixels: np.ndarray, header: Header) -> tuple[str, ...]:
        notes = []
        if header.pictures > 1:
            notes.append(f"The file holds {header.pictures} pictures (frames or pages), of which this is the first.")
        if header.is_deep:
            notes.append(f"The file has more than 8 bits; the image is {HOW}.")
        if self._trained_on and self._trained_on & {hash_bytes(content), hash_pixels(pixels)}:
            notes.append("The model was trained on this photograph: how well it does here says little about others.")
        return tuple(notes)

    def photograph(self, key: str) -> Photograph | None:
        """Returns a photograph that was segmented; None where it is not kept any more."""
        return self._photographs.get(key)

    def _pixels(self, key: str, photograph: Photograph) -> np.ndarray:
        pixels = self._decoded.get(key)
        if pixels is None:
            pixels = decode_image(photograph.content, photograph.name)
            self._decoded.put(key, pixels)
        return pixels

    def picture(self, key: str, photograph: Photograph) -> bytes:
        """Returns a photograph as every browser shows it: a JPEG file of its own size, for the eye alone.

        A photograph with a side that JPEG cannot hold becomes a PNG file.

        Args:
          key: the photograph's key.
          photograph: the photograph.
        """
        buffer = io.BytesIO()
        image = Image.fromarray(self._pixels(key, photograph))
        if max(image.size) > _LONGEST_JPEG:
            image.save(buffer, "PNG", compress_level=1)
        else:
            image.save(buffer, "JPEG", quality=_PICTURE_QUALITY, subsampling=0)
        return buffer.getvalue()

    def levels(self, photograph: Photograph) -> np.ndarray:
        """Returns for every pixel how many thresholds its probability is above, uint8 [H, W]."""
        return self.to_levels(resize_probability(photograph.probability, photograph.size))

    def to_levels(self, probability: np.ndarray) -> np.ndarray:
        """Returns how many thresholds each probability is above: float32 [...] to uint8 [...]."""
        # As `np.searchsorted`, at a seventh of its time for a large photograph: most of the counting is a table's.
        # Multiplying by a power of two is exact, so a bin holds just the probabilities between its ends.
        bins = np.clip((probability * np.float32(_BINS)).astype(np.int32), 0, _BINS - 1)
        levels = self._below[bins]
        for stops in self._inside:
            levels += probability > stops[bins]
        return levels

    def uncertainty(self, photograph: Photograph) -> np.ndarray:
        """Returns how uncertain every pixel is, uint8 [H, W], as `predict --uncertainty` writes it."""
        native = resize_probability(photograph.probability, photograph.size)
        return np.rint(self._trust.uncertainty(native) * 255).astype(np.uint8)

    def measure(self, key: str, photograph: Photograph, mask: np.ndarray, settings: Settings) -> dict[str, str]:
        """Measures a mask, and scores how far the model's own mask can be trusted.

        Args:
          key: the photograph's key.
          photograph: the photograph.
          mask: bool [H, W], as the page shows it.
          settings: how the page made the mask, corrections aside.

        Returns:
          Cells by column, as in the `predictions.csv` of `predict --measure`.
        """
        prediction = dataclasses.replace(
            self._prediction,
            threshold=self.stops[settings.stop],
            largest_component=settings.largest_component,
            fill_holes=settings.fill_holes,
        )
        trust = self._trust.score(photograph.probability, prediction)
        values = measure(mask, self._pixels(key, photograph), settings.pixels_per_mm).as_row()
        return row_of(photograph.name, trust, values)


def _tables(stops: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """Returns what `PageModel.to_levels` looks up for each bin of probabilities.

    Args:
      stops: float32 [N], rising, in (0, 1).

    Returns:
      How many stops lie below each bin, uint8 [_BINS]; and as many arrays float32 [_BINS] as the fullest bin has stops,
      which hold a stop of each bin, or infinity.
    """
    bins = np.minimum((stops * np.float32(_BINS)).astype(int), _BINS - 1)  # 0.99999999 is 1 in float32
    counts = np.bincount(bins, minlength=_BINS)
    inside = np.full((counts.max(), _BINS), np.inf, np.float32)
    for i, here in enumerate(bins):
        inside[i - np.searchsorted(bins, here), here] = stops[i]
    return (np.cumsum(counts) - counts).astype(np.uint8), list(inside)
