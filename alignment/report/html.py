"""report.html: one file that opens from disk, however many tensors were compared."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from alignment.compare import TensorResult
from alignment.report.ratios import MEANINGLESS, SERIES, ratio, series_of, shown_ratio, worst
from alignment.report.text import next_look, tensor_text

if TYPE_CHECKING:
    from alignment.report.results import AlignmentResults, StepResult

TEMPLATES = Path(__file__).resolve().parent / "templates"

FAILED_SHOWN, SHOWN = 200, 50
"""So many tensors of a step that failed, and that did not, have a row; report.json has them all."""

DEPTH_STEPS = ("forward", "backward")


@dataclass(frozen=True)
class Row:
    """A tensor, with its comparisons beside each other."""

    name: str
    results: tuple[TensorResult, ...]

    @property
    def status(self) -> str:
        """Return the worst of its comparisons."""
        statuses = {result.status for result in self.results}
        return next(s for s in ("failed", "declared", "passed") if s in statuses)

    @property
    def rank(self) -> float:
        """Return how near it comes to what is allowed; what is zero but for rounding is far."""
        ratios = [ratio(result) for result in self.results if result.allowed <= MEANINGLESS]
        return max((value for value in ratios if value is not None), default=0.0)

    @property
    def reasons(self) -> str:
        """Return what is remarked on it; what is the worst in two comparisons stands once."""
        remarks = {r.reason.partition(":")[0]: r.reason for r in reversed(self.results) if r.reason}
        return "; ".join(reversed(remarks.values()))

    def cell(self, series: str) -> list[TensorResult]:
        """Return its comparisons of one kind; integers have two end to end, others at most one."""
        return [result for result in self.results if series_of(result) == series]


@dataclass(frozen=True)
class Group:
    """Rows under one heading, and how many more there are."""

    status: str
    title: str
    rows: Sequence[Row]
    more: int


@dataclass(frozen=True)
class Figure:
    """A picture and the sentence below it."""

    title: str
    source: str
    caption: str


def html(report: AlignmentResults) -> str:
    """Render the page."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    failed = next((step for step in report.steps if not step), None)
    return environment.get_template("report.html.jinja").render(
        report=report,
        next_look=next_look(report),
        failure=None if failed is None else failed.first_failure,
        figures=_figures(report),
        series=SERIES,
        columns=columns,
        groups=groups,
        worst=worst,
        ratio=ratio,
        shown_ratio=shown_ratio,
        tensor_text=tensor_text,
    )


def columns(step: StepResult) -> list[str]:
    """Return the kinds of comparison that a step made."""
    return [s for s in SERIES if any(series_of(tensor) == s for tensor in step.tensors)]


def groups(step: StepResult) -> list[Group]:
    """Return what a step shows: failures in order, then what comes nearest to failing."""
    by_name: dict[str, list[TensorResult]] = {}
    for tensor in step.tensors:
        by_name.setdefault(tensor.name, []).append(tensor)
    rows = [Row(name, tuple(results)) for name, results in by_name.items()]
    groups_shown = []
    for status, title in (
        ("failed", "Failed, in the order in which a divergence spreads"),
        ("declared", "Declared: rounding decides these, or nothing can be decided"),
        ("passed", "Passed"),
    ):
        those = [row for row in rows if row.status == status]
        limit = FAILED_SHOWN if status == "failed" else SHOWN
        shown = those[:limit]
        if status != "failed" and len(those) > limit:
            shown = sorted(those, key=lambda row: row.rank, reverse=True)[:limit]
            title += f": the {limit} with the largest share of what is allowed"
        if those:
            groups_shown.append(Group(status, title, shown, len(those) - len(shown)))
    return groups_shown


def _figures(report: AlignmentResults) -> list[Figure]:
    from alignment.report.figures import curves_svg, depth_svg, on_scale, ratios_svg

    def depth(step: StepResult) -> Figure:
        names = {t.name for t in step.tensors}
        hidden = sum(not on_scale(tensor) for tensor in step.tensors)
        left_out = f" Not drawn: {hidden} comparisons of what is 0 but for rounding." * bool(hidden)
        return figure(
            f"Error along the depth of the network: {step.step}",
            f"{len(names)} tensors from left to right, in the order in which a divergence spreads. "
            "By itself, a layer is given torch's own values, so only what is at fault stands out; "
            f"end to end, a fault is carried on.{left_out}",
            lambda: depth_svg(step),
        )

    def figure(title: str, caption: str, draw: Callable[[], str]) -> Figure:
        data = base64.b64encode(draw().encode("utf-8")).decode("ascii")
        return Figure(title, f"data:image/svg+xml;base64,{data}", caption)

    figures = [depth(step) for step in report.steps if step.step in DEPTH_STEPS and step.tensors]
    judged = _judged(tensor for step in report.steps for tensor in step.tensors)
    if judged:
        figures.append(
            figure(
                "How near the errors come to what is allowed",
                "All steps together, without what has to be equal to the bit. Right of 1 an error "
                "is larger than is allowed; 0 is no error at all.",
                lambda: ratios_svg(judged),
            )
        )
    if any(report.curves.values()):
        figures.append(
            figure(
                "The loss while training",
                "Both sides train by themselves in float32. This decides nothing: two right "
                "programs drift apart, as torch does from itself when its weights are moved by "
                "their last bit.",
                lambda: curves_svg(report.curves),
            )
        )
    return figures


def _judged(tensors: Iterable[TensorResult]) -> list[TensorResult]:
    return [tensor for tensor in tensors if tensor.error is not None and tensor.allowed > 0]
