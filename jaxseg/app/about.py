"""What the page shows of a model, whether a server runs it or the browser."""

from typing import Any

from jaxseg.data.listing import HEIF_SUFFIXES, SUFFIXES
from jaxseg.inference.masks import Prediction
from jaxseg.inference.segmenter import Segmenter
from jaxseg.inference.table import FIRST
from jaxseg.inference.threshold import GRID
from jaxseg.pretrained import card, place
from jaxseg.runs.workdir import description_of
from jaxseg.system.files import read_json


def stops_of(prediction: Prediction) -> tuple[float, ...]:
    """Returns the thresholds that the page offers, rising: 0.01 to 0.99, and the model's own."""
    return tuple(sorted({*GRID, prediction.threshold}))


def about(segmenter: Segmenter, prediction: Prediction) -> dict[str, Any]:
    """Returns what the page has to know of a model, for JSON; `static/types.js` describes it.

    Args:
      segmenter: the model.
      prediction: how its probabilities become masks, unless the page asks otherwise.
    """
    first = segmenter.members[0].workdir
    packed = place.is_packed(first)
    described = read_json(description_of(first))
    data = described.get("data")
    name = described["name"] if packed else f"run {first.resolve().name}"
    if more := len(segmenter.members) - 1:
        name += f" and {more} more"
    stops = stops_of(prediction)
    return {
        "name": name,
        "text": card.line(described) if packed else "",
        "synthetic": bool(isinstance(data, dict) and data.get("synthetic")),
        "stops": stops,
        "stop": stops.index(prediction.threshold),
        "largest_component": prediction.largest_component,
        "fill_holes": prediction.fill_holes,
        "endings": [*SUFFIXES, *HEIF_SUFFIXES],
        "columns": FIRST,
    }
