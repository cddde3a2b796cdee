"""Values of one training step of the reference, and the state before it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

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


@dataclass(frozen=True)
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
    calls: list[str] = field(default_factory=list)
    sensitivity: StepSensitivity = field(default_factory=StepSensitivity)


class TrainStep(NamedTuple):
    """One step of torch, with what is needed for its forward pass alone.

    The activations are hundreds of MB: whoever holds the step may let go of them, once Paddle has
    run forward at them, and keep the record.

    Attributes:
        record: what the step did.
        activations: outputs of the layers and of the model, as in a `Trace`; in the dtype of the
            run.
    """

    record: TrainRecord
    activations: dict[ValueKey, np.ndarray]


@dataclass(frozen=True)
class TrainState:
    """Parameters, buffers and optimizer state before a step, by torch's names, as float32."""

    weights: Mapping[str, np.ndarray]
    slots: Mapping[str, Arrays] = field(default_factory=dict)

    def next_state(self, record: TrainRecord) -> TrainState:
        """Return the state after a step."""
        updated = {n: after(self.weights[n], update) for n, update in record.updates.items()}
        buffers = {name: rounded(array) for name, array in record.buffers.items()}
        return TrainState({**self.weights, **updated, **buffers}, record.slots)


def after(weight: np.ndarray, update: np.ndarray) -> np.ndarray:
    """Return the weight after a step, as both sides take it for the next one."""
    return (weight.astype(np.float64) + update).astype(np.float32)


def rounded(array: np.ndarray) -> np.ndarray:
    """Return floats as float32, anything else as it is."""
    return array.astype(np.float32) if array.dtype.kind == "f" else array


def norm_of(gradients: Iterable[tuple[str, np.ndarray]]) -> float:
    """Return L2 norm over all (name, gradient)."""
    squares = (float(np.vdot(g, g)) for g in (g.astype(np.float64) for _, g in gradients))
    return float(np.sqrt(sum(squares)))


@dataclass(frozen=True)
class PaddleStep:
    """What Paddle did in one step; arrays as in a `TrainRecord`, in Paddle's layout and names."""

    rate: float
    loss: float
    norm: float
    clipped_norm: float
    gradients: Arrays
    updates: Arrays
    buffers: Arrays
    slots: dict[str, Arrays]
