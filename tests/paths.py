"""Where things lie."""

from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
"""The repository's root."""

GOLDEN = REPO / "tests" / "golden"
"""Values computed by the original code."""
