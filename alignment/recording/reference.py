"""What the reference leaves for the comparison, in memory and in a folder.

A record lets the two frameworks run in two environments: `--side torch` writes it, and
`--torch-records` compares with it. It holds plain arrays and JSON; reading it runs no code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from alignment.recording.determinism import Randomness
from alignment.recording.layerwise import LayerwiseReference
from alignment.recording.trace import Trace
from alignment.recording.train_record import TrainRecord
from alignment.recording.value_key import ValueKey
from alignment.weights.tensors import TensorSpec
from factseg_paddle.files import sha256_of_array

ARRAYS, HEADER = "record_torch.npz", "record_torch.json"


@dataclass
class Reference:
    """The torch side's part of a comparison.

    Attributes:
        pair: the pair's name.
        mode: "eval" or "train".
        specs: what each tensor becomes in Paddle.
        weights: arrays by torch name.
        received: inputs and targets as torch holds them.
        trace: the run that Paddle is judged by.
        dtype: the dtype of that run: float64, or float32 where torch can't run it in float64.
        activations: layers and outputs of torch's float32 run, at which Paddle's float32 gradients
            are computed.
        rounding: error of torch float32 against `trace`.
        sensitivity: by how much layers, outputs and loss of the trace change when torch is
            perturbed, see `alignment.torch_side.perturbation`; in training mode.
        float32_dtypes: dtype of each value in torch's float32 run.
        discontinuities: see `TorchSide.gradient_discontinuities`.
        alone: the layers by themselves; without values where that could not be run.
        random: where two runs of the torch side differ.
        train: function of a dtype that gives torch's training steps one by one; None without.
        train_dtype: the dtype that torch trains in.
        train_steps: how many there are.
        train_notes: remarks for the report of the step train.
        curves: losses of torch's free runs: "torch", and the "lowest" and "highest" of several.
        random_training: like `random`, in training mode.
        checks: {step: {name: array}}, the reference values of the pair's checks.
        environment: versions on that side.
        identity: what the record was made of, beside its inputs: seed and weight file.
        notes: remarks for the report.
    """

    pair: str
    mode: str
    specs: tuple[TensorSpec, ...] = ()
    weights: dict[str, np.ndarray] = field(default_factory=dict)
    received: dict[str, np.ndarray] = field(default_factory=dict)
    trace: Trace = field(default_factory=Trace)
    dtype: str = "float64"
    activations: dict[ValueKey, np.ndarray] = field(default_factory=dict)
    rounding: dict[ValueKey, float] = field(default_factory=dict)
    sensitivity: dict[ValueKey, float] = field(default_factory=dict)
    float32_dtypes: dict[ValueKey, str] = field(default_factory=dict)
    discontinuities: dict[ValueKey, np.ndarray] = field(default_factory=dict)
    alone: LayerwiseReference = field(default_factory=LayerwiseReference)
    random: Randomness | None = None
    train: Callable[[str], Iterable[TrainRecord]] | None = None
    train_dtype: str = ""
    train_steps: int = 0
    train_notes: list[str] = field(default_factory=list)
    curves: dict[str, list[float]] = field(default_factory=dict)
    random_training: Randomness | None = None
    checks: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    identity: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def release(self) -> None:
        """Let go of the values of the model's runs, hundreds of MB."""
        self.trace, self.activations, self.discontinuities = Trace(), {}, {}
        self.alone.values = {}


def hashes(arrays: Mapping[str, np.ndarray]) -> dict[str, str]:
    """SHA-256 by name."""
    return {name: sha256_of_array(array) for name, array in arrays.items()}
