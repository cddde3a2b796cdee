"""What reprod_log says of the values that a comparison recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

DEFAULTS: Mapping[str, float] = {}
"""reprod_log's own: the mean of the absolute difference is held to 1e-6 everywhere."""

USUAL = {"forward": 1e-5, "loss": 1e-5, "backward": 1e-4}
"""What people set it to, since its defaults flag right networks."""


def judge_by_reprod_log(
    folder: Path, steps: Sequence[str], place: str, thresholds: Mapping[str, float]
) -> str:
    """Return reprod_log's verdict on STEP_torch.npy and STEP_paddle.npy.

    Every step is given to it, in order; a file that is missing, or that it raises on, counts as
    flagged.

    Args:
        folder: where the files are.
        steps: the steps to look at.
        place: the place that should be named.
        thresholds: by step, 1e-6 where none is given.

    Returns:
        "missed", "flagged", or "placed" when the first value that it flags is at that place.
    """
    for step in steps:
        files = [folder / f"{step}_{side}.npy" for side in ("torch", "paddle")]
        if not files[0].is_file():
            continue  # this step has no values of its own (weights)
        if not files[1].is_file():
            return "flagged"
        first = _first_flagged(*files, thresholds.get(step, 1e-6))
        if first is not None:
            return "placed" if _means(first, step, place) else "flagged"
    return "missed"


def _first_flagged(theirs: Path, ours: Path, threshold: float) -> str | None:
    """Return the first name that reprod_log finds different; "" where it only says that some is."""
    from reprod_log.compare import check_data, check_print_diff, compute_diff

    first, second = (np.load(path, allow_pickle=True).tolist() for path in (theirs, ours))
    lines: list[str] = []
    try:
        check_data(first, second)
        differences = compute_diff(first, second)
        passed = check_print_diff(
            differences, diff_method="mean", diff_threshold=threshold, print_func=lines.append
        )
    except Exception:
        return ""
    if passed:
        return None
    over = [name for name, diff in differences.items() if diff["mean"] > threshold]
    return over[0] if over else ""


def _means(name: str, step: str, place: str) -> bool:
    """Return whether a recorded value's name is the place."""
    kind, _, rest = name.partition("/")
    if not rest:
        return place == f"{step}:{name}"
    named = {"layer": rest, "gradient": f"grad:{rest}", "loss": f"loss:{rest}"}
    ends = place.split(" -> ")
    if kind == "layer" and (rest in ends or place.startswith(f"weights:{rest}.")):
        return True  # either end of `A -> B`, and the layer of a wrong weight, as for PaDiff
    return place in (named.get(kind), f"{step}:{kind}.{rest}", f"{step}:{rest}")
