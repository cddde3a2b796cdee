"""Results and reports made by hand."""

from __future__ import annotations

from alignment import Report, StepResult
from alignment.compare import TensorResult
from alignment.location import AtCall

STRANGE = "<i>&\"'$x^{$_é層\x1b[1m\x00\ud800 name</i>"


def tensor(
    name="a", error=1e-7, allowed=1e-6, *, by_itself=False, dtype="float32", status=None, **more
):
    status = status or ("passed" if error is not None and error <= allowed else "failed")
    comparison = "by_itself" if by_itself else "end_to_end"
    return TensorResult(name, comparison, (2, 3), dtype, error, allowed, status, **more)


def in_all_comparisons(name, errors, location=None):
    by_itself, float64, float32 = errors
    return (
        tensor(name, by_itself, by_itself=True, location=location),
        tensor(name, float64, 1e-5, dtype="float64", location=location),
        tensor(name, float32, location=location),
    )


def deep(count, fault=None):
    """A step of `count` layers; the fault is in one and is carried on by those behind it."""
    results = []
    for i in range(count):
        own = 0.5 if i == fault else 1e-7 * (i % 3)
        end = own if fault is None or i < fault else 0.3
        results += in_all_comparisons(
            f"block{i}.conv", (own, end * 1e-3, end), AtCall(f"block{i}.conv")
        )
    results.sort(key=lambda t: t.comparison != "by_itself")
    return StepResult("forward", tuple(results))


def report_of(*steps, **more):
    return Report("pair", tuple(steps), {"python": "3"}, {"inputs[0]": "ab" * 32}, **more)
