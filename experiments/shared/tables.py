"""Markdown tables, numbers as tables show them, and the pages that tables are written into."""

import statistics
from collections.abc import Sequence
from pathlib import Path

from experiments.shared.origin import JSON, RESULTS, ROOT
from jaxseg.system.files import write_text

README = ROOT / "README.md"
"""The page with the one table of results."""

PAGE = RESULTS / "RESULTS.md"
"""The page with all tables and charts."""


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
    """Converts a spread of seconds per step into a spread of items per second.

    Args:
      count: items that one step processes.
      seconds: spread of seconds per step, as `spread` returns it.

    Returns:
      The spread of items per second, in the same form.
    """
    return {
        "median": count / seconds["median"],
        "quartiles": [count / s for s in reversed(seconds["quartiles"])],
        "range": [count / s for s in reversed(seconds["range"])],
        "rounds": seconds["rounds"],
    }


def shown(values: JSON, unit: str = "") -> str:
    """Returns a spread as tables show it: the median, and the quartiles in brackets.

    Args:
      values: spread, as `spread` returns it.
      unit: text after the median, " s" for example.
    """
    low, high = values["quartiles"]
    return f"{number(values['median'])}{unit} ({number(low)} to {number(high)})"


def number(value: float) -> str:
    """Returns a number with three digits."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.2g}"


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a Markdown table.

    Args:
      head: titles of the columns.
      rows: cells of each line, as many as there are titles.
    """
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def write_between(mark: str, text: str, page: Path = PAGE) -> None:
    """Replaces the text between `<!-- MARK -->` and `<!-- /MARK -->` on a page.

    Args:
      mark: name of the pair of marks.
      text: Markdown to put there; links are relative to the page.
      page: file that has the marks.

    Raises:
      SystemExit: the page lacks the marks; it is left as it is.
    """
    start, end = f"<!-- {mark} -->", f"<!-- /{mark} -->"
    before, found, rest = page.read_text().partition(start)
    _, ended, after = rest.partition(end)
    if not (found and ended):
        raise SystemExit(
            f"{page.relative_to(ROOT)}: lacks the marks {start} and {end}; add them where the text belongs"
        )
    write_text(page, f"{before}{start}\n{text}\n{end}{after}")
