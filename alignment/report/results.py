"""The outcome of a comparison as data: steps, the verdict, and report.json's object."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from alignment.compare import TensorResult
from alignment.location import InStep


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
        """Return True when something was compared and nothing failed."""
        return bool(self)

    @property
    def first_divergence(self) -> str | None:
        """Return where the step first fails; None when it passed."""
        if not self.tensors:
            return f"{self.step}:nothing was compared"
        tensor = self.first_failure
        return None if tensor is None else str(tensor.location or InStep(self.step, tensor.name))

    @property
    def counts(self) -> dict[str, int]:
        """Return number of tensors by status."""
        statuses = [tensor.status for tensor in self.tensors]
        return {status: statuses.count(status) for status in ("passed", "failed", "declared")}

    @property
    def first_failure(self) -> TensorResult | None:
        """Return the tensor at the first divergence; None where nothing failed or was compared."""
        return next((tensor for tensor in self.tensors if tensor.failed), None)


@dataclass(frozen=True)
class AlignmentResults:
    """The whole comparison; true when every step passed.

    Attributes:
        pair: its name.
        steps: in the order in which they ran.
        environment: versions and the machine.
        inputs: {name: SHA-256} of what both models were given.
        curves: the loss of each step of a free run in float32, which decides nothing: "torch",
            "paddle", and "lowest" and "highest", where torch's lies when its weights are moved by
            their last bit.
    """

    pair: str
    steps: tuple[StepResult, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    curves: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.steps) and all(self.steps)

    @property
    def passed(self) -> bool:
        """Return True when there are steps and all of them passed."""
        return bool(self)

    @property
    def first_divergence(self) -> str | None:
        """Return the first divergence of the first step that failed; None when all passed."""
        return next((step.first_divergence for step in self.steps if not step), None)

    def as_dict(self) -> dict:
        """Return what report.json holds; a loss that is no number is null."""
        curves = {
            name: [value if math.isfinite(value) else None for value in map(float, values)]
            for name, values in self.curves.items()
        }
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
        } | ({"curves": curves} if curves else {})


def _tensor_dict(tensor: TensorResult) -> dict:
    values = asdict(tensor)
    del values["location"]
    allowed = tensor.allowed if math.isfinite(tensor.allowed) else None
    return values | {"shape": list(tensor.shape), "allowed": allowed}
