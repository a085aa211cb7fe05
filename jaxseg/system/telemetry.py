"""Imports of libraries that report to their makers, without the report.

It imports the standard library alone: a benchmark uses it in environments that have little else.
"""

import contextlib
import sys
from collections.abc import Iterator
from types import ModuleType


def import_openvino() -> ModuleType:
    """Imports OpenVINO without its telemetry.

    Its import reports itself to Google Analytics, from a forked process, unless one of its packages is not there.
    """
    with _hidden("openvino_telemetry"):
        import openvino

        return openvino


@contextlib.contextmanager
def _hidden(package: str) -> Iterator[None]:
    """Makes a package look as if it were not installed."""
    before = {name: module for name, module in sys.modules.items() if name.split(".")[0] == package}
    sys.modules.update(dict.fromkeys([*before, package]))
    try:
        yield
    finally:
        sys.modules.pop(package)
        sys.modules.update(before)
