"""Each layer by itself: what it makes of the reference's own input and output gradient.

The reference is torch in float64, with whatever passes from layer to layer rounded to float32, so
that a float32 layer can be given exactly the same. A layerwise run of a model, torch's or Paddle's,
stops at every layer twice:

- when the layer is called, what the code before it made is observed, and the layer is given the
  reference's input in its place;
- when it returns, its output is observed, its gradients are computed from the reference's output
  gradient, and the reference's output is handed on.

In backward, the gradient that reaches a layer's output is observed likewise, and what goes on from
the layer's input is the reference's. So neither a fault nor rounding spreads: each observed value
differs from the reference's by what one layer, or the code between two layers, did to it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from alignment.pair import AlignmentError
from alignment.recording.calls import CallTree, CallWatch
from alignment.recording.nested import OpaqueValueError, flatten, replace_tensors
from alignment.recording.trace import distinct
from alignment.recording.value_key import (
    Kind,
    ValueKey,
    lookup_value,
    model_input,
    values_of_kind,
)

Observe = Callable[[ValueKey, "np.ndarray | None"], None]
"""Told each value of a layerwise run under its key; None where there is no gradient."""


@dataclass
class LayerwiseReference:
    """What the reference's layers are given and give.

    Attributes:
        values: what each call is given and gives, forth and back, and what the model does; float32,
            integers as they are.
        inputs: {call: for each tensor among its arguments, which of the distinct ones it is}:
            [0, 0, 0] for attention over (x, x, x).
        outputs: {call: names of its outputs}.
        origins: {input or output of a call, or output of the model: the values that it was made
            of, and the model's inputs}, the nearest ones only.
        tree: the calls.
        rounding: {key: error of torch float32 by itself}.
        rounding_of_containers: {(call, parameter): the same of the parameter's gradient where the
            call as a whole is the layer}.
        dtypes: {key: dtype that torch's float32 run gives}, where it is not float32.
    """

    values: dict[ValueKey, np.ndarray] = field(default_factory=dict)
    inputs: dict[str, list[int]] = field(default_factory=dict)
    outputs: dict[str, list[str]] = field(default_factory=dict)
    origins: dict[ValueKey, list[ValueKey]] = field(default_factory=dict)
    tree: CallTree = field(default_factory=CallTree)
    rounding: dict[ValueKey, float] = field(default_factory=dict)
    rounding_of_containers: dict[tuple[str, str], float] = field(default_factory=dict)
    dtypes: dict[ValueKey, str] = field(default_factory=dict)

    def of_kind(self, kind: Kind) -> dict[str, np.ndarray]:
        """Return the values of a kind by their labels."""
        return values_of_kind(self.values, kind)

    def keys_of_call(self, call: str, *kinds: Kind) -> list[ValueKey]:
        """Return the keys of a call's arguments, or of its outputs, or of their gradients."""
        keys: list[ValueKey] = []
        for kind in kinds:
            if kind in (Kind.INPUT, Kind.GRAD_INPUT):
                keys += [ValueKey(kind, call, i) for i in sorted(set(self.inputs[call]))]
            else:
                keys += [ValueKey(kind, name) for name in self.outputs[call]]
        return keys

    def sources(self, key: ValueKey, layers: Iterable[str]) -> list[str]:
        """Return the calls among `layers`, and the model's inputs, that a value was made of."""
        boundaries = {
            output: call for call in layers for output in self.keys_of_call(call, Kind.OUTPUT)
        }
        found: dict[str, None] = {}
        seen, waiting = set(), list(self.origins.get(key, ()))
        while waiting:
            origin = waiting.pop()
            if origin in seen:
                continue
            seen.add(origin)
            if origin in boundaries:
                found[boundaries[origin]] = None
            elif origin in self.origins:
                waiting += self.origins[origin]
            else:
                found[origin.label] = None
        return list(found)

    def last_source(self, key: ValueKey, layers: Sequence[str]) -> str:
        """Return the last of `layers` that a value was made of, or the model's input."""
        order = {call: position for position, call in enumerate(layers)}
        sources = self.sources(key, layers)
        return max(sources, key=lambda source: order.get(source, -1), default=model_input(0).label)


@dataclass
class SubstitutedCall:
    """A call that has begun.

    Attributes:
        name: the reference's call.
        own: the distinct tensors that it came with.
        indices: which of the reference's distinct arguments each of them stands for.
        leaves: the reference's values in their place.
        handed: copies of the leaves, which the layer gets.
        versions: counts of in-place changes of these at first.
    """

    name: str
    own: Sequence[Any]
    indices: Sequence[int]
    leaves: Sequence[Any]
    handed: Sequence[Any]
    versions: Sequence[int]


class LayerwiseRun(ABC):
    """A layerwise run of one model; a subclass for each framework knows its tensors.

    Args:
        alone: the reference.
        layers: {call here: the reference's call}, of the layers to stop at.
        observe: told every value.
        dtype: dtype of the model.
        backward: whether to go back as well.

    Attributes:
        mismatched_calls: calls that were given another number of tensors than the reference's;
            they count as code between layers.
    """

    def __init__(
        self,
        alone: LayerwiseReference,
        layers: Mapping[str, str],
        observe: Observe,
        *,
        dtype: str,
        backward: bool,
    ) -> None:
        self.alone, self.observe = alone, observe
        self.dtype, self.backward = dtype, backward
        self.mismatched_calls: list[str] = []
        self._layers = layers
        self._open: dict[str, SubstitutedCall] = {}

    def run(self, model: Any, inputs: Sequence[np.ndarray], rename: Mapping[str, str]) -> None:
        """Run the model; its parameters' gradients, if any, are overwritten."""
        leaves = [self.tensor(array, leaf=True) for array in inputs]
        self.anchor = self.tensor(np.zeros(1, np.float32), leaf=True)
        with self.watch(model, rename, self._begin, self._end):
            # Clones: a model may overwrite what it is given, and a leaf must not be.
            output = model(*(self.clone(leaf) for leaf in leaves))
        named = dict(flatten(output, self.is_tensor, "output"))
        for name, tensor in named.items():
            self.observe(ValueKey(Kind.MODEL_OUTPUT, name), self.array(tensor))
        if not self.backward:
            return
        self.end(self.with_gradients(named.items(), Kind.MODEL_GRAD_OUTPUT))
        for index, leaf in enumerate(leaves):
            if self.is_float(leaf):
                key = ValueKey(Kind.MODEL_GRAD_INPUT, "inputs", index)
                self.observe(key, self.gradient_of(leaf))
        for name, gradient in self.parameter_gradients(model).items():
            self.observe(ValueKey(Kind.PARAMETER_GRAD, name), gradient)

    def _begin(self, call: str, layer: Any, args: tuple, kwargs: dict) -> Any:
        name = self._layers.get(call)
        if name is None:
            self.pass_by(call, layer, args, kwargs)
            return None
        opened, handed = self.substitute_inputs(name, args, kwargs)
        if opened is None:
            self.mismatched_calls.append(call)
            return None
        for tensor, index in zip(opened.own, opened.indices, strict=True):
            self.observe(ValueKey(Kind.INPUT, name, index), self.array(tensor))
        self._open[call] = opened
        return handed

    def substitute_inputs(
        self, name: str, args: tuple, kwargs: dict
    ) -> tuple[SubstitutedCall | None, Any]:
        """Return the arguments with the reference's values; None where their number differs."""
        given = [t for _, t in flatten((args, kwargs), self.is_tensor, strict=False)]
        own = distinct(given)
        indices = _assigned(given, own, self.alone.inputs.get(name))
        if indices is None:
            return None, None
        values = (self.alone.values[ValueKey(Kind.INPUT, name, index)] for index in indices)
        leaves = [self.tensor(array, leaf=True) for array in values]
        handed = [self.clone(leaf) for leaf in leaves]
        versions = [self.version(tensor) for tensor in handed]
        by_own = {id(o): h for o, h in zip(own, handed, strict=True)}
        replacement = (by_own[id(tensor)] for tensor in given)
        fed = replace_tensors((args, kwargs), self.is_tensor, replacement, strict=False)
        return SubstitutedCall(name, own, indices, leaves, handed, versions), fed

    def _end(self, call: str, layer: Any, output: Any) -> Any:
        opened = self._open.pop(call, None)
        if opened is None:
            return None
        try:
            named = list(flatten(output, self.is_tensor, opened.name))
        except OpaqueValueError as error:
            raise AlignmentError(
                f"its output has another structure than torch's: {error}"
            ) from error
        for name, tensor in named:
            self.observe(ValueKey(Kind.OUTPUT, name), self.array(tensor))
        if self.backward:
            pairs = self.with_gradients(named, Kind.GRAD_OUTPUT)
            gradients = self.layer_gradients(opened, layer, pairs)
            for index, gradient in _summed(opened.indices, gradients).items():
                self.observe(ValueKey(Kind.GRAD_INPUT, opened.name, index), gradient)
        handed_on = self._handed_on(opened, named)
        return replace_tensors(output, self.is_tensor, (handed_on[id(t)] for _, t in named))

    def with_gradients(self, named: Iterable[tuple[str, Any]], kind: Kind) -> list[tuple]:
        """(tensor, the reference's gradient of it), where both can have one and shapes agree."""
        sums: dict[int, tuple[Any, np.ndarray]] = {}  # one tensor may go by several names
        for name, tensor in named:
            gradient = lookup_value(ValueKey(kind, name), self.alone.values)
            fits = gradient is not None and gradient.shape == tuple(tensor.shape)
            if fits and self.needs_gradient(tensor):
                earlier = sums.get(id(tensor))
                total = gradient if earlier is None else earlier[1] + gradient
                sums[id(tensor)] = (tensor, total)
        return [(tensor, self.tensor(total)) for tensor, total in sums.values()]

    def _handed_on(
        self, opened: SubstitutedCall, named: Sequence[tuple[str, Any]]
    ) -> dict[int, Any]:
        """Return what stands for each output tensor, by its id, in the code that follows."""
        first = {}  # one tensor may be returned under several names
        for name, tensor in named:
            first.setdefault(id(tensor), (name, tensor))
        outputs = []
        for name, tensor in first.values():
            reference = lookup_value(ValueKey(Kind.OUTPUT, name), self.alone.values)
            outputs.append(self.array(tensor) if reference is None else reference)
        # Where two tensors stand for one of the reference's, its gradient goes to the first.
        gradients = [
            None
            if index in opened.indices[:position]
            else self.alone.values.get(ValueKey(Kind.GRAD_INPUT, opened.name, index))
            for position, index in enumerate(opened.indices)
        ]
        reached = [ValueKey(Kind.GRAD_OUTPUT, name) for name, _ in first.values()]
        made = self.boundary(opened.own, gradients, outputs, reached)
        handed_on = dict(zip(first, made, strict=True))
        for own, handed, version in zip(opened.own, opened.handed, opened.versions, strict=True):
            if self.version(handed) != version:  # the layer works in place, and the model may rely
                self.write_over(own, handed_on.get(id(handed), handed))
                if id(handed) in handed_on:
                    handed_on[id(handed)] = own
        return handed_on

    @abstractmethod
    def pass_by(self, call: str, layer: Any, args: tuple, kwargs: dict) -> None:
        """Told of the beginning of each call that is not stopped at."""

    @abstractmethod
    def watch(self, model: Any, rename: Mapping[str, str], on_begin: Any, on_end: Any) -> CallWatch:
        """Return a watch over the model's calls."""

    @abstractmethod
    def is_tensor(self, value: Any) -> bool:
        """Return whether a value is a tensor of the framework."""

    @abstractmethod
    def is_float(self, tensor: Any) -> bool:
        """Return whether it holds floating-point numbers."""

    @abstractmethod
    def needs_gradient(self, tensor: Any) -> bool:
        """Return whether a gradient can be sent back from the tensor."""

    @abstractmethod
    def array(self, tensor: Any) -> np.ndarray:
        """Return a copy of the tensor's values."""

    @abstractmethod
    def tensor(self, array: np.ndarray, *, leaf: bool = False) -> Any:
        """Return a tensor of the run's dtype if it is a float; a leaf has a gradient of its own."""

    @abstractmethod
    def clone(self, tensor: Any) -> Any:
        """Return a copy that hands its gradient on."""

    @abstractmethod
    def version(self, tensor: Any) -> int:
        """Return the tensor's count of in-place changes."""

    @abstractmethod
    def write_over(self, tensor: Any, value: Any) -> None:
        """Replace the tensor's values in place; gradients go to `value` from then on."""

    @abstractmethod
    def boundary(
        self,
        own: Sequence[Any],
        gradients: Sequence[np.ndarray | None],
        outputs: Sequence[np.ndarray],
        reached: Sequence[ValueKey],
    ) -> list[Any]:
        """Tensors with the values `outputs` that depend on `own`.

        In backward, the gradient of each is observed under its key in `reached`, and the gradient
        of each of `own` is the given one.
        """

    @abstractmethod
    def layer_gradients(
        self, fed: SubstitutedCall, layer: Any, pairs: Sequence[tuple]
    ) -> list[np.ndarray | None]:
        """Send gradients back through one layer: what reaches each of the leaves.

        The parameters' gradients are added up for `parameter_gradients`.
        """

    @abstractmethod
    def end(self, pairs: Sequence[tuple]) -> None:
        """Send the model's output gradients back."""

    @abstractmethod
    def gradient_of(self, leaf: Any) -> np.ndarray | None:
        """Return the gradient that reached a leaf."""

    @abstractmethod
    def parameter_gradients(self, model: Any) -> dict[str, np.ndarray | None]:
        """Return the sums of the parameters' gradients by this framework's names."""


def _assigned(given: Sequence[Any], own: Sequence[Any], theirs: list[int] | None) -> list | None:
    """Return which of the reference's arguments each own tensor stands for, or None.

    By position where both sides give as many, else by order where as many are distinct: attention
    may be called with (x, x, x) there and with (x) here.
    """
    if theirs is None:
        return None
    if len(given) == len(theirs):
        first = {id(tensor): theirs[i] for i, tensor in reversed(list(enumerate(given)))}
        return [first[id(tensor)] for tensor in own]
    return list(range(len(own))) if len(own) == len(set(theirs)) else None


def _summed(
    indices: Sequence[int], gradients: Sequence[np.ndarray | None]
) -> dict[int, np.ndarray | None]:
    sums: dict[int, np.ndarray | None] = {}
    for index, gradient in zip(indices, gradients, strict=True):
        earlier = sums.get(index)
        sums[index] = gradient if earlier is None or gradient is None else earlier + gradient
    return sums
