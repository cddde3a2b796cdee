"""A pair's own checks: comparisons of a step beside those of the models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from alignment.compare import TensorResult, compare
from alignment.pair import AlignmentError, Pair, Value
from alignment.tolerances import FLOAT64_BOUND

BOUNDS = {"float64": FLOAT64_BOUND, "float32": 1e-6}
"""Largest error of a check by the dtype of its reference; integers and booleans are equal."""

Values = dict[str, np.ndarray]


def reference_values(pair: Pair, step: str) -> Values:
    """Return the reference's values of a step's checks.

    Raises:
        AlignmentError: a check raised, is no (name, reference, ours), or occurs twice.
    """
    values = {}
    for name, reference, _ in _checks(pair, step):
        what = f"the check {name!r} of step {step}"
        values[name] = _guarded(what, lambda v=reference: _computed(v))
    return values


def our_values(pair: Pair, step: str) -> tuple[Values, dict[str, str]]:
    """Return our values of a step's checks, and what was raised in the place of others.

    What raises has failed, since it should give what the reference gives.

    Raises:
        AlignmentError: a check is no (name, reference, ours) or occurs twice, or needs what is
            not installed.
    """
    values, raised = {}, {}
    for name, _, ours in _checks(pair, step):
        try:
            values[name] = _computed(ours)
        except ImportError as error:
            raise AlignmentError(f"the check {name!r} of step {step} can't run: {error}") from error
        except Exception as error:  # what is under test may raise anything; the report says it
            raised[name] = f"ours raised {type(error).__name__}: {_first_line(error)}"
    return values, raised


def judged(theirs: Values, ours: Values, raised: Mapping[str, str]) -> list[TensorResult]:
    """Return the results of checks, in the reference's order; what one side lacks is a failure."""
    results = []
    for name, array in theirs.items():
        if name not in ours:
            reason = raised.get(name, "ours gives no such value")
            results.append(TensorResult.missing(name, array, reason))
            continue
        allowed = BOUNDS.get(str(array.dtype), 0.0)
        results.append(compare(name, array, ours[name], allowed=allowed, comparison="by_itself"))
    extra = [name for name in ours if name not in theirs]
    return results + [
        TensorResult.missing(n, ours[n], "the reference gives no such value") for n in extra
    ]


def _checks(pair: Pair, step: str) -> list[tuple[str, Value, Value]]:
    checks = _guarded(f"the checks of step {step}", lambda: list(pair.checks[step]()))
    names = set()
    for check in checks:
        if not isinstance(check, tuple) or len(check) != 3 or not isinstance(check[0], str):
            raise AlignmentError(
                f"the checks of step {step} give {check!r:.60}; give (name, reference, ours)"
            )
        if check[0] in names:
            raise AlignmentError(f"the check {check[0]!r} of step {step} occurs twice")
        names.add(check[0])
    return checks


def _computed(value: Value) -> np.ndarray:
    return np.asarray(value() if callable(value) else value)


def _guarded(what: str, function: Callable[[], Any]) -> Any:
    try:
        return function()
    except Exception as error:  # a user's check may raise anything; the cause stays attached
        raise AlignmentError(
            f"{what} raised {type(error).__name__}: {_first_line(error)}"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or "no message").splitlines()[0]
