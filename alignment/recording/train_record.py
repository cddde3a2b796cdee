"""Values of one training step of the reference, and the state before it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from alignment.recording.value_key import ValueKey

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class StepSensitivity:
    """Relative changes when torch is perturbed, see `alignment.torch_side.perturbation`.

    Attributes:
        loss: of the loss.
        norm: of the norm of all gradients.
        gradients: of the gradients by parameter.
        buffers: of what the step adds to the buffers.
    """

    loss: float = 0.0
    norm: float = 0.0
    gradients: Mapping[str, float] = field(default_factory=dict)
    buffers: Mapping[str, float] = field(default_factory=dict)


@dataclass
class TrainRecord:
    """One step of torch; arrays are float32 and by torch's names.

    Attributes:
        step: its number, from 0.
        rate: the learning rate.
        loss: the loss.
        norm: L2 norm of all gradients, before clipping.
        clipped_norm: after clipping.
        gradients: of the parameters, before clipping.
        updates: what the step added to each parameter.
        buffers: their values after the step; float64, integers as they are.
        biased: running variances as they would be were the batch's variance not multiplied by
            n / (n - 1); float64.
        samples: n of each running variance.
        slots: {parameter: {"velocity", "moment1", …: values after the step}}.
        activations: outputs of the layers and of the model, named as in a `Trace`; in the dtype of
            the run.
        calls: the layers' calls in order.
        sensitivity: by how much the step changes when torch is perturbed.
    """

    step: int
    rate: float = 0.0
    loss: float = 0.0
    norm: float = 0.0
    clipped_norm: float = 0.0
    gradients: Arrays = field(default_factory=dict)
    updates: Arrays = field(default_factory=dict)
    buffers: Arrays = field(default_factory=dict)
    biased: Arrays = field(default_factory=dict)
    samples: dict[str, int] = field(default_factory=dict)
    slots: dict[str, Arrays] = field(default_factory=dict)
    activations: dict[ValueKey, np.ndarray] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    sensitivity: StepSensitivity = field(default_factory=StepSensitivity)


@dataclass
class TrainState:
    """Parameters, buffers and optimizer state before a step, by torch's names, as float32."""

    weights: Arrays
    slots: dict[str, Arrays] = field(default_factory=dict)

    def advance(self, record: TrainRecord) -> None:
        """Go on to the state after a step."""
        for name, update in record.updates.items():
            self.weights[name] = after(self.weights[name], update)
        for name, array in record.buffers.items():
            self.weights[name] = rounded(array)
        self.slots = record.slots


def after(weight: np.ndarray, update: np.ndarray) -> np.ndarray:
    """Return the weight after a step, as both sides take it for the next one."""
    return (weight.astype(np.float64) + update).astype(np.float32)


def rounded(array: np.ndarray) -> np.ndarray:
    """Floats as float32, anything else as it is."""
    return array.astype(np.float32) if array.dtype.kind == "f" else array


def norm_of(gradients: Iterable[tuple[str, np.ndarray]]) -> float:
    """L2 norm over all (name, gradient)."""
    squares = (float(np.vdot(g, g)) for g in (g.astype(np.float64) for _, g in gradients))
    return float(np.sqrt(sum(squares)))


@dataclass
class PaddleStep:
    """What Paddle did in one step; arrays as in a `TrainRecord`, in Paddle's layout and names.

    `refused` says why torch's optimizer state could not be loaded: then nothing else is there.
    """

    rate: float = 0.0
    loss: float = 0.0
    norm: float = 0.0
    clipped_norm: float = 0.0
    gradients: Arrays = field(default_factory=dict)
    updates: Arrays = field(default_factory=dict)
    buffers: Arrays = field(default_factory=dict)
    slots: dict[str, Arrays] = field(default_factory=dict)
    refused: str = ""
