"""The result of an alignment: what a person reads, and report.json, junit.xml, report.html."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from alignment.compare import TensorResult
from factseg_paddle.io import atomic_write

TEMPLATES = Path(__file__).resolve().parent / "templates"


@dataclass(frozen=True)
class StepResult:
    """One step: its tensors in the order in which a divergence would spread, and remarks."""

    step: str
    tensors: tuple[TensorResult, ...]
    notes: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.tensors) and all(self.tensors)

    @property
    def passed(self) -> bool:
        """True when something was compared and nothing failed."""
        return bool(self)

    @property
    def first_divergence(self) -> str | None:
        """Where the step first fails; None when it passed."""
        if not self.tensors:
            return f"{self.step}:nothing was compared"
        for tensor in self.tensors:
            if not tensor:
                return tensor.place or f"{self.step}:{tensor.name}"
        return None

    @property
    def counts(self) -> dict[str, int]:
        """Number of tensors by status."""
        statuses = [tensor.status for tensor in self.tensors]
        return {status: statuses.count(status) for status in ("passed", "failed", "declared")}

    def worst(self, dtype: str) -> TensorResult | None:
        """The tensor of `dtype` with the largest error relative to what is allowed."""
        judged = [
            t for t in self.tensors if t.dtype == dtype and t.error is not None and t.allowed > 0
        ]
        return max(judged, key=lambda t: t.error / t.allowed, default=None)

    def __str__(self) -> str:
        verdict = "passed" if self else "FAILED"
        line = f"{self.step:<11}{verdict:<8}{self._summary()}"
        if not self:
            line += f"\n{'':11}first divergence: {self.first_divergence}"
            failed = next((tensor for tensor in self.tensors if not tensor), None)
            line += "" if failed is None else f"\n{'':11}{failed}"
        return line

    def _summary(self) -> str:
        # By name: most tensors are compared in two dtypes.
        parts = [f"{len({tensor.name for tensor in self.tensors})} compared"]
        for status in ("failed", "declared"):
            names = {tensor.name for tensor in self.tensors if tensor.status == status}
            parts += [f"{len(names)} {status}"] if names else []
        for dtype in ("float64", "float32"):
            worst = self.worst(dtype)
            if worst is not None:
                parts.append(f"{dtype} error {worst.error:.1e} of {worst.allowed:.1e}")
        return ", ".join(parts)


@dataclass(frozen=True)
class Report:
    """The whole comparison; true when every step passed."""

    pair: str
    steps: tuple[StepResult, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    curves: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.steps) and all(self.steps)

    @property
    def passed(self) -> bool:
        """True when there are steps and all of them passed."""
        return bool(self)

    @property
    def first_divergence(self) -> str | None:
        """The first divergence of the first step that failed; None when all passed."""
        return next((step.first_divergence for step in self.steps if not step), None)

    def __str__(self) -> str:
        lines = [str(step) for step in self.steps]
        notes = dict.fromkeys(note for step in self.steps for note in step.notes)
        lines += [f"{'note':<11}{textwrap.shorten(note, 180, placeholder=' …')}" for note in notes]
        if self:
            lines.append(f"ALIGNED: {self.pair}, {len(self.steps)} steps")
        else:
            lines.append(f"MISALIGNED: {self.pair}, first divergence at {self.first_divergence}")
        return "\n".join(lines)

    def as_dict(self) -> dict:
        """What report.json holds."""
        return {
            "passed": self.passed,
            "pair": self.pair,
            "first_divergence": self.first_divergence,
            "steps": [
                {
                    "step": step.step,
                    "passed": step.passed,
                    "first_divergence": step.first_divergence,
                    "tensors": [_tensor_dict(tensor) for tensor in step.tensors],
                    "notes": list(step.notes),
                }
                for step in self.steps
            ],
            "environment": dict(self.environment),
            "inputs": dict(self.inputs),
        }

    def save(self, folder: Path) -> None:
        """Write report.json, junit.xml and report.html into `folder`, each whole or not at all."""
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(folder / "report.json") as path:
            path.write_text(json.dumps(self.as_dict(), indent=1, allow_nan=False), encoding="utf-8")
        with atomic_write(folder / "junit.xml") as path:
            _junit(self).write(str(path), pretty=True)
        with atomic_write(folder / "report.html") as path:
            path.write_text(_html(self), encoding="utf-8")


def _tensor_dict(tensor: TensorResult) -> dict:
    values = asdict(tensor)
    del values["place"]
    return values | {"shape": list(tensor.shape)}


def _junit(report: Report):
    from junitparser import Failure, JUnitXml, TestCase, TestSuite

    xml = JUnitXml()
    for step in report.steps:
        suite, class_name = TestSuite(step.step), _xml(f"{report.pair}.{step.step}")
        for tensor in step.tensors:
            case = TestCase(_xml(f"{tensor.name} [{tensor.dtype}]"), class_name)
            if not tensor:
                case.result = [Failure(_xml(str(tensor)))]
            suite.add_testcase(case)
        if not step.tensors:
            case = TestCase("something is compared", class_name)
            case.result = [Failure("nothing was compared")]
            suite.add_testcase(case)
        xml.add_testsuite(suite)
    return xml


def _xml(text: str) -> str:
    """Text without the control characters that XML has no way to write."""
    return "".join(c if c.isprintable() or c in "\t\n" else "\ufffd" for c in text)


def _html(report: Report) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(TEMPLATES)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    return environment.get_template("report.html.jinja").render(report=report)
