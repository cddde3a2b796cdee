"""How near errors come to what is allowed, by kind of comparison: what the reports show."""

from __future__ import annotations

import math
from collections.abc import Iterable

from alignment.compare import TensorResult

BY_ITSELF, FLOAT64, FLOAT32 = "by itself", "float64", "float32"

SERIES = (BY_ITSELF, FLOAT64, FLOAT32)
"""The three comparisons; the latter two are of whole runs, end to end."""

MEANINGLESS = 1.0
"""A tensor to which more than its own size is allowed is zero but for rounding (see
`alignment.tolerances.SCALE_FLOOR`): its error, relative to itself, says nothing to a reader."""


def series_of(tensor: TensorResult) -> str:
    """Return which of SERIES a result belongs to; whatever is not float64 ran beside float32."""
    if tensor.comparison == "by_itself":
        return BY_ITSELF
    return FLOAT64 if tensor.dtype in ("float64", "complex128") else FLOAT32


def ratio(tensor: TensorResult) -> float | None:
    """Return the error as a multiple of what is allowed; None where there is no number to give."""
    if tensor.error is None:
        return None
    if tensor.allowed:
        return tensor.error / tensor.allowed
    return math.inf if tensor.error else 0.0


def worst(tensors: Iterable[TensorResult], series: str) -> TensorResult | None:
    """Return the tensor of a series that comes nearest to what is allowed, or lies farthest beyond.

    Left out is what has to be equal to the bit, what is declared, and what is zero but for
    rounding.
    """
    judged = [
        tensor
        for tensor in tensors
        if series_of(tensor) == series
        and tensor.status != "declared"
        and tensor.error is not None
        and 0 < tensor.allowed <= MEANINGLESS
    ]
    return max(judged, key=ratio, default=None)


def shown_ratio(value: float) -> str:
    """Format a ratio for people: a percentage up to what is allowed, a multiple beyond it."""
    if value > 1:
        return (
            f"{value:.3g}x"
            if value < 999.5
            else f"{value:.0e}x".replace("e+0", "e").replace("e+", "e")
        )
    if 0 < value < 1e-3:
        return "<0.1%"
    return f"{100 * value:.{0 if value >= 0.1 else 1}f}%" if value else "0%"


def printable(text: str) -> str:
    """Return text without control characters: XML can't write them, terminals obey them."""
    return "".join(c if c.isprintable() or c in "\t\n" else "\ufffd" for c in text)
