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

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from alignment.structure import OpaqueValueError, flatten


@dataclass
class Trace:
    """The values of one run, and what is said about them.

    Attributes:
        values: see the module's docstring.
        calls: {NAME of a layer's value: name of the call}, where a call gave several values.
        not_called: layers that were never called.
        loss_terms: sum of |output x gradient| over all outputs, the size of the loss's terms.
        unread: calls whose output is no known structure, with a reason.
        output: the model's output, for its structure.
    """

    values: dict[str, np.ndarray] = field(default_factory=dict)
    calls: dict[str, str] = field(default_factory=dict)
    not_called: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    loss_terms: float = 0.0
    output: Any = None

    def of_kind(self, kind: str) -> dict[str, np.ndarray]:
        """The values under `kind/`, by the rest of their name."""
        prefix = f"{kind}/"
        return {k[len(prefix) :]: v for k, v in self.values.items() if k.startswith(prefix)}


class CallNames:
    """Names the calls of a model's layers: `NAME`, then `NAME#2`, … as torch spells NAME.

    Args:
        layers: (structured name, layer) of all layers below the model; of several names that share
            a layer the first counts.
        rename: regexes from this side's names to torch's.
    """

    def __init__(self, layers: Iterable[tuple[str, Any]], rename: Mapping[str, str]) -> None:
        self._names: dict[int, str] = {}
        self.layers: list[Any] = []
        for own_name, layer in layers:
            if id(layer) not in self._names:
                self._names[id(layer)] = renamed(own_name, rename)
                self.layers.append(layer)
        self._calls: Counter[str] = Counter()

    def next_call(self, layer: Any) -> str:
        """Count a call of the layer and give its name."""
        name = self._names[id(layer)]
        self._calls[name] += 1
        return name if self._calls[name] == 1 else f"{name}#{self._calls[name]}"

    @property
    def not_called(self) -> list[str]:
        """Layers that were not called so far."""
        return [name for name in self._names.values() if name not in self._calls]


class LayerRecorder:
    """Copies the output of every named layer when the layer returns.

    A copy at once, since an in-place activation overwrites what it was given. A container that
    hands on its last layer's tensor shares that layer's copy.

    Args:
        layers: (structured name, layer) of all layers below the model.
        add_hook: function (layer, callback(layer, inputs, output)) that returns a handle with
            `remove()`.
        is_tensor: whether a value is a tensor of the framework.
        to_array: copies a tensor into an array.
        version: a tensor's count of in-place changes.
        rename: regexes from this side's names to torch's.
        trace: takes the values as they arise, so that they are there when the model raises.
    """

    def __init__(
        self,
        layers: Iterable[tuple[str, Any]],
        *,
        trace: Trace,
        add_hook: Callable[[Any, Callable[..., None]], Any],
        is_tensor: Callable[[Any], bool],
        to_array: Callable[[Any], np.ndarray],
        version: Callable[[Any], int],
        rename: Mapping[str, str],
    ) -> None:
        self._trace = trace
        self._is_tensor, self._to_array, self._version = is_tensor, to_array, version
        self._last: tuple[Any, int, np.ndarray] | None = None
        self._names = CallNames(layers, rename)
        self._handles = [add_hook(layer, self._on_return) for layer in self._names.layers]

    def __enter__(self) -> LayerRecorder:
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._last = None
        self._trace.not_called = self._names.not_called

    def _on_return(self, layer: Any, _inputs: Any, output: Any) -> None:
        call = self._names.next_call(layer)
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


def counterpart(name: str, values: Mapping[str, Any]) -> Any:
    """The value under `name`; a lone tensor stands for the first of several and the reverse.

    torch's MultiheadAttention returns its weights too, Paddle's does not unless asked.
    """
    for candidate in (name, f"{name}[0]", name.removesuffix("[0]")):
        if candidate in values:
            return values[candidate]
    return None


def renamed(name: str, rename: Mapping[str, str]) -> str:
    """`name` after all regexes, one after the other."""
    for pattern, replacement in rename.items():
        name = re.sub(pattern, replacement, name)
    return name
