"""What the reference leaves for the comparison, in memory and in a folder.

A record lets the two frameworks run in two environments: `--side torch` writes it, and
`--torch-records` compares with it. It holds plain arrays and JSON; reading it runs no code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from alignment.recording.dataflow import Dataflow
from alignment.recording.determinism import Randomness
from alignment.recording.layerwise import LayerwiseReference
from alignment.recording.trace import Trace
from alignment.recording.train_record import TrainStep
from alignment.recording.value_key import ValueKey
from alignment.weights.tensors import TensorSpec
from factseg_paddle.files import sha256_of_array

ARRAYS, HEADER = "record_torch.npz", "record_torch.json"


@dataclass(frozen=True)
class ModelReference:
    """What torch computes for the steps forward, loss and backward; hundreds of MB.

    Attributes:
        trace: the run that Paddle is judged by.
        dtype: the dtype of that run: float64, or float32 where torch can't run it in float64.
        activations: layers and outputs of torch's float32 run, at which Paddle's float32 gradients
            are computed.
        rounding: error of torch float32 against `trace`.
        sensitivity: by how much layers, outputs and loss of the trace change when torch is
            perturbed, see `alignment.torch_side.perturbation`; in training mode.
        float32_dtypes: dtype of each value in torch's float32 run.
        discontinuities: see `TorchSide.gradient_discontinuities`.
        layerwise: the layers by themselves; None where that could not be run.
        random: where two runs of the torch side differ.
        notes: remarks for the report.
    """

    trace: Trace
    dtype: str
    activations: Mapping[ValueKey, np.ndarray] = field(default_factory=dict)
    rounding: Mapping[ValueKey, float] = field(default_factory=dict)
    sensitivity: Mapping[ValueKey, float] = field(default_factory=dict)
    float32_dtypes: Mapping[ValueKey, str] = field(default_factory=dict)
    discontinuities: Mapping[ValueKey, np.ndarray] = field(default_factory=dict)
    layerwise: LayerwiseReference | None = None
    random: Randomness | None = None
    notes: Sequence[str] = ()

    @property
    def dataflow(self) -> Dataflow:
        """Return the calls and what each value was made of; empty where that was not followed."""
        return self.layerwise.dataflow if self.layerwise else Dataflow()


@dataclass(frozen=True)
class TrainingReference:
    """What torch computes for the step train.

    Attributes:
        steps: function of a dtype that gives torch's training steps one by one.
        dtype: the dtype that torch trains in.
        count: how many steps there are.
        curves: losses of torch's free runs: "torch", and the "lowest" and "highest" of several.
        random: where two runs of the torch side in training mode differ.
        notes: remarks for the report.
    """

    steps: Callable[[str], Iterable[TrainStep]]
    dtype: str
    count: int
    curves: Mapping[str, Sequence[float]]
    random: Randomness | None = None
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Reference:
    """The torch side's part of a comparison.

    Attributes:
        pair: the pair's name.
        mode: "eval" or "train".
        specs: what each tensor becomes in Paddle.
        weights: arrays by torch name.
        received: inputs and targets as torch holds them.
        model: for forward, loss and backward; None where none of them was asked for.
        training: for train; None where it was not asked for.
        checks: {step: {name: array}}, the reference values of the pair's checks.
        environment: versions on that side.
        identity: what the record was made of, beside its inputs: seed and weight file.
    """

    pair: str
    mode: str
    specs: Sequence[TensorSpec]
    weights: Mapping[str, np.ndarray]
    received: Mapping[str, np.ndarray]
    model: ModelReference | None = None
    training: TrainingReference | None = None
    checks: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    identity: Mapping[str, str] = field(default_factory=dict)


def hashes(arrays: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Return SHA-256 by name."""
    return {name: sha256_of_array(array) for name, array in arrays.items()}
