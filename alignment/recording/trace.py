"""What one run of one model leaves behind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from alignment.recording.calls import CallTree
from alignment.recording.nested import OpaqueValueError, flatten
from alignment.recording.tensor_ops import TensorOps
from alignment.recording.value_key import Kind, ValueKey, values_of_kind


@dataclass
class Trace:
    """The values of one run, filled in while it runs, and what is said about them.

    Attributes:
        values: outputs of the layers' calls, the model's output, the loss, and gradients of the
            model's output, inputs and parameters, in the order in which they arose. Layers are
            spelt as torch spells them; parameters keep their own framework's names.
        calls: {name of a layer's output: the call}, where a call gave several.
        tree: which layers were called, in order.
        loss_terms: sum of |output x gradient| over all outputs, the size of the loss's terms.
        unread: calls whose output is no known structure, with a reason.
    """

    values: dict[ValueKey, np.ndarray] = field(default_factory=dict)
    calls: dict[str, str] = field(default_factory=dict)
    tree: CallTree = field(default_factory=CallTree)
    unread: list[str] = field(default_factory=list)
    loss_terms: float = 0.0

    def of_kind(self, kind: Kind) -> dict[str, np.ndarray]:
        """Return the values of a kind by name."""
        return values_of_kind(self.values, kind)

    def layers(self, matched: Mapping[str, str]) -> dict[ValueKey, np.ndarray]:
        """Return the layers' outputs of calls that have a counterpart, under its name.

        Args:
            matched: {call here: call there}, from `match_calls`.
        """
        layers = {}
        for name, array in self.of_kind(Kind.OUTPUT).items():
            call = self.calls.get(name, name)
            if call in matched:
                layers[ValueKey(Kind.OUTPUT, matched[call] + name[len(call) :])] = array
        return layers


class ModelRun(NamedTuple):
    """One run of a model.

    Attributes:
        trace: its values.
        output: the model's output, cut off from its graph, for its structure.
    """

    trace: Trace
    output: Any


class LayerRecorder:
    """Copies the output of every named layer when the layer returns; `on_end` of a `CallWatch`.

    A copy at once, since an in-place activation overwrites what it was given. A container that
    hands on its last layer's tensor shares that layer's copy.

    Args:
        trace: takes the values as they arise, so that they are there when the model raises.
        ops: of the framework.
    """

    def __init__(self, trace: Trace, ops: TensorOps) -> None:
        self._trace, self._ops = trace, ops
        self._last: tuple[Any, int, np.ndarray] | None = None

    def __call__(self, call: str, _layer: Any, output: Any) -> None:
        """Record the output of a call."""
        try:
            parts = list(flatten(output, self._ops.is_tensor, call))
        except OpaqueValueError as error:
            self._trace.unread.append(str(error))
            return
        for name, tensor in parts:
            self._trace.values[ValueKey(Kind.OUTPUT, name)] = self._copy(tensor)
            if name != call:
                self._trace.calls[name] = call

    def _copy(self, tensor: Any) -> np.ndarray:
        version = self._ops.version(tensor)
        if self._last and self._last[0] is tensor and self._last[1] == version:
            return self._last[2]
        array = self._ops.to_array(tensor)
        self._last = (tensor, version, array)
        return array
