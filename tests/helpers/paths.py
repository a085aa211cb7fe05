"""Where the repository and its neighbours lie."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The repository."""

SHARED = ROOT.parent / "shared"
"""Real data and weights beside a checkout; absent elsewhere, and then what needs them is skipped."""

FIXTURES = ROOT / "tests" / "fixtures"
REFERENCE = ROOT / "experiments" / "parity" / "reference"
