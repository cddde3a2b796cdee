"""The recorded run of PaDiff on the planted faults, which `scripts/record_padiff.py` made."""

from __future__ import annotations

import json
from pathlib import Path

PADIFF = Path(__file__).resolve().parent / "padiff_recorded.json"


def padiff_verdicts() -> dict[str, str]:
    """Return "missed", "flagged" or "placed" by name of the fault; empty where none is recorded."""
    return json.loads(PADIFF.read_text("utf-8"))["faults"] if PADIFF.is_file() else {}
