"""What one run of one model leaves behind.

Values are kept under flat names, in the order in which they arose:

    layer/NAME            output of a layer's call; `NAME#2` is its second call
    output/NAME           what the model returned
    loss/loss             the loss
    output_gradient/NAME  the loss's gradient with respect to the model's output
    input_gradient/NAME   gradient with respect to the model's input
    gradient/NAME         gradient with respect to a parameter

NAME is the layer's structured name as torch spells it; parameters keep their own framework's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from alignment.recording.calls import CallTree
from alignment.recording.nested import OpaqueValueError, flatten


@dataclass
class Trace:
    """The values of one run, and what is said about them.

    Attributes:
        values: see the module's docstring.
        calls: {NAME of a layer's value: name of the call}, where a call gave several values.
        tree: which layers were called, in order.
        loss_terms: sum of |output x gradient| over all outputs, the size of the loss's terms.
        unread: calls whose output is no known structure, with a reason.
        output: the model's output, for its structure.
    """

    values: dict[str, np.ndarray] = field(default_factory=dict)
    calls: dict[str, str] = field(default_factory=dict)
    tree: CallTree = field(default_factory=CallTree)
    unread: list[str] = field(default_factory=list)
    loss_terms: float = 0.0
    output: Any = None

    def of_kind(self, kind: str) -> dict[str, np.ndarray]:
        """The values under `kind/`, by the rest of their name."""
        prefix = f"{kind}/"
        return {k[len(prefix) :]: v for k, v in self.values.items() if k.startswith(prefix)}

    def layers(self, matched: Mapping[str, str]) -> dict[str, np.ndarray]:
        """The layers' values of calls that have a counterpart, under its name.

        Args:
            matched: {call here: call there}, from `match_calls`.
        """
        found = {}
        for name, array in self.of_kind("layer").items():
            call = self.calls.get(name, name)
            if call in matched:
                found[matched[call] + name[len(call) :]] = array
        return found


class LayerRecorder:
    """Copies the output of every named layer when the layer returns; `on_end` of a `CallWatch`.

    A copy at once, since an in-place activation overwrites what it was given. A container that
    hands on its last layer's tensor shares that layer's copy.

    Args:
        trace: takes the values as they arise, so that they are there when the model raises.
        is_tensor: whether a value is a tensor of the framework.
        to_array: copies a tensor into an array.
        version: a tensor's count of in-place changes.
    """

    def __init__(
        self,
        trace: Trace,
        *,
        is_tensor: Callable[[Any], bool],
        to_array: Callable[[Any], np.ndarray],
        version: Callable[[Any], int],
    ) -> None:
        self._trace = trace
        self._is_tensor, self._to_array, self._version = is_tensor, to_array, version
        self._last: tuple[Any, int, np.ndarray] | None = None

    def __call__(self, call: str, _layer: Any, output: Any) -> None:
        """Record the output of a call."""
        try:
            parts = list(flatten(output, self._is_tensor, call))
        except OpaqueValueError as error:
            self._trace.unread.append(str(error))
            return
        for name, tensor in parts:
            self._trace.values[f"layer/{name}"] = self._copy(tensor)
            if name != call:
                self._trace.calls[name] = call

    def _copy(self, tensor: Any) -> np.ndarray:
        version = self._version(tensor)
        if self._last and self._last[0] is tensor and self._last[1] == version:
            return self._last[2]
        array = self._to_array(tensor)
        self._last = (tensor, version, array)
        return array


def lookup_value(name: str, values: Mapping[str, Any]) -> Any:
    """The value under `name`; a lone tensor stands for the first of several and the reverse.

    torch's MultiheadAttention returns its weights too, Paddle's does not unless asked.
    """
    for candidate in (name, f"{name}[0]", name.removesuffix("[0]")):
        if candidate in values:
            return values[candidate]
    return None


def distinct(tensors: Iterator[Any]) -> list[Any]:
    """The tensors without repetition, in order: attention over (x, x, x) is given one."""
    return list({id(tensor): tensor for tensor in tensors}.values())
