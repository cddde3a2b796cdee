"""Where a divergence arises; `str` gives what report.json says as `first_divergence`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True)
class AtWeight:
    """A tensor of the models' states, by torch's name."""

    name: str

    def __str__(self) -> str:
        return f"weights:{self.name}"


@dataclass(frozen=True)
class AtCall:
    """A layer, by torch's name; `NAME#2` is its second call."""

    call: str

    def __str__(self) -> str:
        return self.call


@dataclass(frozen=True)
class Between:
    """The code between two layers that are right by themselves, or the model's input and output."""

    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.before} -> {self.after}"


@dataclass(frozen=True)
class AtGradient:
    """A parameter's gradient, by torch's name."""

    name: str

    def __str__(self) -> str:
        return f"grad:{self.name}"


@dataclass(frozen=True)
class InStep:
    """A value of a step that is none of these."""

    step: str
    name: str

    def __str__(self) -> str:
        return f"{self.step}:{self.name}"


Location: TypeAlias = AtWeight | AtCall | Between | AtGradient | InStep
