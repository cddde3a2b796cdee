"""One tensor against its reference, and the constants that decide.

The error of `ours` is max |ours - reference| / max |reference|, where the reference is torch's
value in float64. Two comparisons are made here of what a whole run leaves:

- Paddle float64 against it within FLOAT64_BOUND, which covers the operators that Paddle computes
  in float32 whatever it is given, or in training mode within what SENSITIVITY allows;
- Paddle float32 against it within FLOAT32_RATIO times the error that torch's own float32 makes.

In training mode the float32 comparison is shown and decides nothing: BatchNorm over a small batch
amplifies rounding in torch's own gradients up to 40 %.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from alignment.location import Location
from alignment.tolerances import OUTLIER, SCALE_FLOOR

SHOWN_ONLY = "float32 in training mode is shown and decides nothing"


@dataclass(frozen=True)
class TensorResult:
    """The verdict on one tensor.

    `error` is None where no number can be given; `reason` says why. `location` is where the fault
    is that the tensor shows; None for the tensor itself, as a value of its step.
    """

    name: str
    comparison: str
    shape: tuple[int, ...]
    dtype: str
    error: float | None
    allowed: float
    status: str
    reason: str = ""
    location: Location | None = None

    @classmethod
    def missing(
        cls, name: str, present: np.ndarray | None, reason: str, location: Location | None = None
    ) -> TensorResult:
        """Return the failure of a tensor that one side lacks; `present` is the other side's."""
        shape = () if present is None else tuple(present.shape)
        dtype = "" if present is None else str(present.dtype)
        return cls(name, "end_to_end", shape, dtype, None, 0.0, "failed", reason, location)

    @classmethod
    def waived(cls, name: str, ours: np.ndarray, reason: str) -> TensorResult:
        """Return a tensor on which nothing can be decided; reports call it declared."""
        shape, dtype = tuple(ours.shape), str(ours.dtype)
        return cls(name, "end_to_end", shape, dtype, None, 0.0, "declared", reason)

    def __bool__(self) -> bool:
        return not self.failed

    @property
    def failed(self) -> bool:
        """Return whether the tensor differs by more than is allowed, or could not be compared."""
        return self.status == "failed"

    @property
    def bar_percent(self) -> int:
        """Return the error as a share of what is allowed: 1e-6 is 0, all is 100, logarithmic."""
        if self.error is None:
            return 100
        share = self.error / self.allowed if self.allowed else float(self.error > 0)
        return int(min(100.0, max(0.0, 100 + 100 / 6 * math.log10(max(share, 1e-6)))))

    def __str__(self) -> str:
        error = "-" if self.error is None else f"{self.error:.2e}"
        line = (
            f"{self.status:8} {self.name} {self.dtype} error {error} (allowed {self.allowed:.2e})"
        )
        return f"{line}: {self.reason}" if self.reason else line


def compare(
    name: str,
    reference: np.ndarray,
    ours: np.ndarray,
    *,
    allowed: float,
    dtype: str | None = None,
    scale: float = 0.0,
    discontinuities: np.ndarray | None = None,
    decides: bool = True,
    comparison: str = "end_to_end",
    location: Location | None = None,
) -> TensorResult:
    """Judge one tensor strictly: nothing is transposed, broadcast, cast or skipped.

    Args:
        name: what the report calls it.
        reference: what it should be.
        ours: what it is.
        allowed: largest error that passes.
        dtype: dtype that `ours` should have; that of the reference where None.
        scale: of the tensors of this kind, see `scale_of` and SCALE_FLOOR.
        discontinuities: by how much rounding may move each element of the reference (a top-k
            selection); elements that move by no more are declared. Same shape as the reference.
        decides: False shows the error and lets it pass as declared.
        comparison: "end_to_end" or "by_itself".
        location: see `TensorResult`.

    Returns:
        The verdict, with a reason unless it passed without remark.
    """
    reference, ours = np.asarray(reference), np.asarray(ours)
    dtype = dtype or str(reference.dtype)

    def result(status: str, error: float | None, reason: str = "") -> TensorResult:
        shape, kind = tuple(ours.shape), str(ours.dtype)
        return TensorResult(name, comparison, shape, kind, error, allowed, status, reason, location)

    reason = _incomparable(reference, ours, dtype)
    if reason:
        return result("failed", None, reason)
    largest = largest_value(reference)
    unit = max(largest, SCALE_FLOOR.get(dtype, 0.0) * scale)
    difference = _difference(reference, ours)
    # The error is relative to the tensor's own size; below the floor, more is allowed instead.
    stretch = unit / largest if largest else 1.0
    limits = allowed * unit
    at_a_jump: np.ndarray | None = None
    if discontinuities is not None:
        at_a_jump = (difference > limits) & (difference <= 1.5 * discontinuities + limits)
    judged = difference if at_a_jump is None else difference[~at_a_jump]
    error = _quotient(_largest(judged), unit) * stretch
    allowed *= stretch
    if not error <= allowed:
        shown = error if math.isfinite(error) else None
        if not decides:
            return result("declared", shown, SHOWN_ONLY)
        reason = _where(difference, at_a_jump, reference, ours)
        if not unit:
            reason = f"the reference is 0 everywhere; {reason}"
        return result("failed", shown, reason)
    if at_a_jump is not None and at_a_jump.any():
        return result(
            "declared",
            error,
            f"{at_a_jump.sum()} of {difference.size} elements lie where rounding decides what the "
            "loss selects; the reference's own gradient jumps there as far",
        )
    return result("passed", error)


def relative_error(
    reference: np.ndarray,
    other: np.ndarray,
    *,
    scale: float = 0.0,
    discontinuities: np.ndarray | None = None,
) -> float:
    """Return torch float32's error against torch float64, elements at discontinuities left out.

    Infinite where an element is finite on one side only: then float32 has no error to go by.
    """
    if reference.shape != other.shape or not reference.size:
        return 0.0
    if _difference_of_non_finite(reference, other):
        return math.inf
    difference = _difference(reference, other)
    unit = max(largest_value(reference), SCALE_FLOOR["float32"] * scale)
    if discontinuities is not None:
        difference = difference[discontinuities == 0]
    return _quotient(_largest(difference), unit)


def distance(reference: np.ndarray, ours: np.ndarray) -> np.ndarray:
    """Return |ours - reference| of each element, in float64 or complex128."""
    return np.abs(_computable(ours) - _computable(reference))


def scale_of(arrays: Iterable[np.ndarray]) -> float:
    """Return how large the tensors of a kind are: the largest value of all, outliers left out."""
    sizes = [size for size in map(largest_value, arrays) if size > 0]
    return min(max(sizes), OUTLIER * float(np.median(sizes))) if sizes else 0.0


def largest_value(array: np.ndarray) -> float:
    """Return the largest finite absolute value, 0 where there is none."""
    values = np.abs(_computable(np.asarray(array)))
    largest = float(np.max(values, initial=0.0))
    if math.isfinite(largest):
        return largest
    return float(np.max(values, initial=0.0, where=np.isfinite(values)))


def _incomparable(reference: np.ndarray, ours: np.ndarray, dtype: str) -> str:
    """Return why no error can be given; "" where it can."""
    if ours.shape != reference.shape:
        return f"shape {list(ours.shape)} where the reference has {list(reference.shape)}"
    if str(ours.dtype) != dtype:
        return f"dtype {ours.dtype} where {dtype} is expected"
    if not {reference.dtype.kind, ours.dtype.kind} <= set("biufc"):
        return f"dtype {ours.dtype} holds no numbers"
    if not reference.size:
        return "the tensor is empty: nothing was compared"
    return _difference_of_non_finite(reference, ours)


def _difference(reference: np.ndarray, ours: np.ndarray) -> np.ndarray:
    """Return |ours - reference| in float64, 0 where neither is finite."""
    if reference.dtype.kind in "iu" and ours.dtype.kind in "iu":
        # float64 can't tell integers past 2^53 apart, so their equality is asked for first.
        apart = np.abs(_computable(ours) - _computable(reference))
        return np.where(reference == ours, 0.0, np.maximum(apart, 1.0))
    reference, ours = _computable(reference), _computable(ours)
    with np.errstate(over="ignore", invalid="ignore"):
        difference = np.abs(ours - reference)
    finite = np.isfinite(reference)
    return difference if finite.all() else np.where(finite, difference, 0.0)


def _computable(array: np.ndarray) -> np.ndarray:
    return np.asarray(array, np.complex128 if array.dtype.kind == "c" else np.float64)


def _quotient(largest: float, unit: float) -> float:
    if not largest:
        return 0.0
    # Beside a unit this small, the quotient overflows: infinitely far off.
    return largest / unit if unit > largest * 1e-300 else math.inf


def _largest(values: np.ndarray) -> float:
    return float(np.max(values, initial=0.0))


def _difference_of_non_finite(reference: np.ndarray, ours: np.ndarray) -> str:
    if "c" in (reference.dtype.kind, ours.dtype.kind):
        return _difference_of_non_finite(reference.real, ours.real) or _difference_of_non_finite(
            reference.imag, ours.imag
        )
    if not {reference.dtype.kind, ours.dtype.kind} & set("f"):
        return ""
    if np.isfinite(reference).all() and np.isfinite(ours).all():
        return ""
    for what, test in (("NaN", np.isnan), ("+infinity", np.isposinf), ("-infinity", np.isneginf)):
        in_reference, in_ours = test(reference), test(ours)
        if not np.array_equal(in_reference, in_ours):
            only = "ours" if (in_ours & ~in_reference).any() else "the reference"
            count = int((in_ours ^ in_reference).sum())
            return f"{what} in {count} of {ours.size} elements, in {only} alone"
    if not np.isfinite(reference).any():
        return "no element is finite on either side: nothing was compared"
    return ""


def _where(
    difference: np.ndarray, left_out: np.ndarray | None, reference: np.ndarray, ours: np.ndarray
) -> str:
    compared = difference if left_out is None else np.where(left_out, -1.0, difference)
    worst = np.unravel_index(np.argmax(compared), difference.shape)
    place = f" at {[int(i) for i in worst]}" if difference.ndim else ""
    return f"worst{place}: {_shown(ours[worst])}, reference {_shown(reference[worst])}"


def _shown(value: np.generic) -> str:
    return f"{value:.9g}" if value.dtype.kind in "fc" else str(value)
