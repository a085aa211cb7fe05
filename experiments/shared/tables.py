"""Markdown tables, and numbers as they show them."""

import statistics
from collections.abc import Sequence

from experiments.shared.origin import JSON, ROOT


def spread(values: Sequence[float]) -> JSON:
    """Returns median, quartiles, extremes and the number of some values."""
    low, _, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
    return {
        "median": statistics.median(values),
        "quartiles": [low, high],
        "range": [min(values), max(values)],
        "rounds": len(values),
    }


def per_second(count: float, seconds: JSON) -> JSON:
    """Turns the spread of seconds per step into that of things per second, `count` to a step."""
    return {
        "median": count / seconds["median"],
        "quartiles": [count / s for s in reversed(seconds["quartiles"])],
        "range": [count / s for s in reversed(seconds["range"])],
        "rounds": seconds["rounds"],
    }


def shown(values: JSON, unit: str = "") -> str:
    """Returns a spread as tables show it: the median, and the quartiles in brackets."""
    low, high = values["quartiles"]
    return f"{number(values['median'])}{unit} ({number(low)} to {number(high)})"


def number(value: float) -> str:
    """Returns a number with three digits."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.2g}"


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a Markdown table."""
    return "\n".join([row(*head), row(*["---"] * len(head)), *(row(*cells) for cells in rows)])


def row(*cells: str) -> str:
    """Returns a line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def write_between(mark: str, text: str) -> None:
    """Replaces what stands in README between `<!-- MARK -->` and `<!-- /MARK -->`."""
    readme = ROOT / "README.md"
    start, end = f"<!-- {mark} -->", f"<!-- /{mark} -->"
    before, _, rest = readme.read_text().partition(start)
    readme.write_text(f"{before}{start}\n{text}\n{end}{rest.partition(end)[2]}")
