"""The report on a screen: a line a step, the verdict, and the one thing to look at next."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from alignment.compare import TensorResult
from alignment.location import AtGradient, AtWeight, Between
from alignment.report.ratios import (
    BY_ITSELF,
    SERIES,
    printable,
    ratio,
    series_of,
    shown_ratio,
    worst,
)

if TYPE_CHECKING:
    from alignment.report.results import AlignmentResults, StepResult

COLUMNS = 100
ROWS = 23
"""A screen of 24 rows, less the line that says where the report lies."""

INDENT = 11
"""Width of a step's name."""

REASON_ROWS = 5
"""A reason may be as long as the entries of `rename` that it names."""


def step_text(step: StepResult) -> str:
    """Return a step's line, and where it failed what was found at the first divergence."""
    return "\n".join([*_step_line(step), *_divergence(step), *_found(step)])


def report_text(report: AlignmentResults) -> str:
    """Return the whole report; it ends with the verdict and, where that is no, what to look at."""
    if report:
        end = [f"ALIGNED: {printable(report.pair)}, {len(report.steps)} steps"]
    else:
        place = printable(str(report.first_divergence))
        end = [f"MISALIGNED: {printable(report.pair)}, first divergence at {place}"]
        end += _wrapped(f"{'next':<{INDENT}}{next_look(report)}", rows=3)
    body = _steps(report, followers=True)
    if len(body) + len(end) > ROWS:
        body = _steps(report, followers=False)
    return "\n".join([*body, *_notes(report, ROWS - len(body) - len(end)), *end])


def tensor_text(tensor: TensorResult) -> str:
    """Return what was found about one tensor, in one sentence."""
    end_to_end = series_of(tensor) != BY_ITSELF
    exact = end_to_end and not tensor.allowed  # what is held, not computed: a weight, an input
    what = f"{tensor.name}: " if exact else f"{tensor.name}, {comparison_text(tensor)}: "
    if tensor.error is None:
        return what + (tensor.reason or "nothing to compare")
    verdict = f"error {tensor.error:.2e}, allowed {tensor.allowed:.2e}"
    return f"{what}{verdict}; {tensor.reason}" if tensor.reason else what + verdict


def comparison_text(tensor: TensorResult) -> str:
    """Return how a tensor was compared: "by itself in float32"."""
    how = "by itself" if series_of(tensor) == BY_ITSELF else "end to end"
    return f"{how} in {tensor.dtype}" if tensor.dtype else how


def next_look(report: AlignmentResults) -> str:
    """Return the one thing to look at: what the first divergence means; "" where there is none."""
    step = next((step for step in report.steps if not step), None)
    if step is None:
        return "" if report.steps else "name the steps to compare: nothing was"
    tensor = step.first_failure
    if tensor is None:
        return f"look at what the pair gives to the step {step.step}: nothing was compared"
    if tensor.error is None:
        # A long reason stands in the report beside this.
        detail = f" ({tensor.reason})" if 0 < len(tensor.reason) <= COLUMNS else ""
    else:
        detail = f" (error {tensor.error:.2e}, allowed {tensor.allowed:.2e})"
    return f"look at {_advice(step.step, tensor)}{detail}"


def _advice(step: str, tensor: TensorResult) -> str:
    """Return what a first divergence means."""
    match tensor.location:
        case None:
            return _advice_on_step(step, tensor)
        case AtWeight(name):
            return _advice_on_weight(step, name, tensor)
        case AtGradient(name):
            return f"what {name} goes through: its gradient is not torch's"
        case Between(before, after):
            between = f"the code between {before} and {after}"
            if step == "backward":
                return f"{between}: the gradient that comes back through it is not torch's"
            return f"{between}: what goes in is right, what comes out is not"
        case location:
            return _advice_on_call(step, str(location), tensor)


def _advice_on_call(step: str, call: str, tensor: TensorResult) -> str:
    if series_of(tensor) != BY_ITSELF:
        return call if tensor.error is None else f"{call}: its values are the first to differ"
    if step == "backward":
        return f"the backward pass of {call}: given torch's own values it gives another gradient"
    return f"{call}: given torch's own input it computes something else"


def _advice_on_weight(step: str, name: str, tensor: TensorResult) -> str:
    if tensor.error is None:
        return f"{name}: it has no counterpart that fits; rename and convert join what differs"
    if step == "weights":
        return f"where {name} comes from: its values are not torch's"
    return f"the weight {name}: its layer is given torch's own input, and the weight is not torch's"


def _advice_on_step(step: str, tensor: TensorResult) -> str:
    name = tensor.name
    if tensor.error is None:
        return f"{name} in the step {step}"
    return {
        "data": f"what the pair gives for {name}: the two sides do not hold the same",
        "forward": f"what the model returns as {name}: it is not what torch's returns",
        "loss": f"{name} among the pair's losses: it is the first to differ",
        "backward": f"{name}: it is the first to differ on the way back",
        "train": f"{name}, and at the optimizer, the schedule and the clipping before it",
    }.get(step, f"{name} in the step {step}: it is the first to differ")


def _steps(report: AlignmentResults, *, followers: bool) -> list[str]:
    """Return the steps; `followers` tells of steps that failed after another where they did."""
    first = next((step for step in report.steps if not step), None)
    lines = []
    for step in report.steps:
        lines += _step_line(step)
        if step is first or (followers and not step):
            lines += _divergence(step)
        if step is first:
            lines += _found(step)
    return lines


def _step_line(step: StepResult) -> list[str]:
    """Return one line in any case: what fits, of ever shorter forms."""
    head = f"{step.step:<{INDENT}}{'passed' if step else 'FAILED':<8}"
    counts, errors = _counts(step), _largest_errors(step)
    forms = [counts]
    if errors:
        few = [count for count in counts if "declared" not in count]
        forms = [[*counts, f"{errors} of allowed"], [*counts, errors], [*few, errors]]
    texts = [head + ", ".join(form) for form in forms]
    fitting = next((text for text in texts if len(text) <= COLUMNS), texts[-1])
    return _wrapped(fitting, indent=len(head), rows=1)


def _divergence(step: StepResult) -> list[str]:
    return [] if step else _indented(f"first divergence: {step.first_divergence}", rows=2)


def _found(step: StepResult) -> list[str]:
    failure = step.first_failure
    return [] if failure is None else _indented(tensor_text(failure), rows=REASON_ROWS)


def _counts(step: StepResult) -> list[str]:
    # By name: most tensors are compared in two dtypes.
    parts = [f"{len({tensor.name for tensor in step.tensors})} compared"]
    for status in ("failed", "declared"):
        names = {tensor.name for tensor in step.tensors if tensor.status == status}
        parts += [f"{len(names)} {status}"] if names else []
    return parts


def _largest_errors(step: StepResult) -> str:
    """Return the largest error of each comparison, relative to what is allowed there."""
    worst_tensors = {series: worst(step.tensors, series) for series in SERIES}
    return ", ".join(
        f"{s} {shown_ratio(ratio(t))}" for s, t in worst_tensors.items() if t is not None
    )


def _notes(report: AlignmentResults, rows: int) -> list[str]:
    notes = list(dict.fromkeys(note for step in report.steps for note in step.notes))
    rows = max(1, rows)
    shown = notes if len(notes) <= rows else notes[: rows - 1]
    width = COLUMNS - INDENT
    lines = [textwrap.shorten(printable(note), width, placeholder=" …") for note in shown]
    if len(shown) < len(notes):
        lines.append(f"{len(notes) - len(shown)} notes more in the report")
    return [f"{'note':<{INDENT}}{line}" for line in lines]


def _indented(text: str, *, rows: int) -> list[str]:
    return _wrapped(f"{'':{INDENT}}{text}", rows=rows)


def _wrapped(text: str, *, indent: int = INDENT, rows: int | None = None) -> list[str]:
    """Return lines that fit the screen, all but the first indented; `rows` cuts them with " …"."""
    head, rest = text[:indent], printable(text[indent:])
    return textwrap.wrap(
        rest,
        COLUMNS,
        initial_indent=head,
        subsequent_indent=" " * indent,
        break_on_hyphens=False,
        max_lines=rows,
        placeholder=" …",
    ) or [head.rstrip()]
