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
from alignment.recording.calls import CallWatch
from alignment.recording.dataflow import Dataflow
from alignment.recording.nested import OpaqueValueError, flatten
from alignment.recording.substitution import (
    CallArguments,
    NamedTensor,
    SubstitutedInputs,
    substitute_inputs,
    substitute_outputs,
)
from alignment.recording.tensor_ops import TensorOps
from alignment.recording.value_key import Kind, ValueKey, lookup_value, values_of_kind

Observe = Callable[[ValueKey, "np.ndarray | None"], None]
"""Called with each value of a layerwise run and its key; None where there is no gradient."""


@dataclass(frozen=True)
class LayerwiseRounding:
    """How far torch float32 is off on the reference's values, layer by layer.

    Attributes:
        errors: {key: error}.
        of_containers: {(call, parameter): the same of the parameter's gradient where the call as a
            whole is the layer}.
        dtypes: {key: dtype that torch's float32 run gives}, where it is not float32.
    """

    errors: Mapping[ValueKey, float] = field(default_factory=dict)
    of_containers: Mapping[tuple[str, str], float] = field(default_factory=dict)
    dtypes: Mapping[ValueKey, str] = field(default_factory=dict)


@dataclass(frozen=True)
class LayerwiseReference:
    """What the reference's layers are given and give.

    Attributes:
        values: what each call is given and gives, forth and back, and what the model does; float32,
            integers as they are.
        dataflow: the calls, and what each value was made of.
        rounding: torch's own float32 errors; empty where the reference itself is in float32.
    """

    values: Mapping[ValueKey, np.ndarray]
    dataflow: Dataflow
    rounding: LayerwiseRounding = field(default_factory=LayerwiseRounding)

    def of_kind(self, kind: Kind) -> dict[str, np.ndarray]:
        """Return the values of a kind by their labels."""
        return values_of_kind(self.values, kind)


@dataclass(frozen=True)
class SubstitutedCall:
    """A call that has begun.

    Attributes:
        name: the reference's call.
        indices: which of the reference's distinct arguments each of the call's own stands for.
        leaves: the reference's values for them.
        inputs: the call's own tensors and the copies of the leaves that the layer got.
    """

    name: str
    indices: Sequence[int]
    leaves: Sequence[Any]
    inputs: SubstitutedInputs


class LayerwiseRun(ABC):
    """A layerwise run of one model; a subclass for each framework knows its tensors.

    Args:
        reference: what the layers are given and should give.
        layers: {call here: the reference's call}, of the layers to stop at.
        observe: called with every value.
        dtype: dtype of the model.
        backward: whether to go back as well.

    Attributes:
        ops: of the framework.
        mismatched_calls: calls that were given another number of tensors than the reference's;
            they count as code between layers.
    """

    ops: TensorOps

    def __init__(
        self,
        reference: LayerwiseReference,
        layers: Mapping[str, str],
        observe: Observe,
        *,
        dtype: str,
        backward: bool,
    ) -> None:
        self.reference, self.observe = reference, observe
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
            output = model(*(self.ops.clone(leaf) for leaf in leaves))
        named = dict(flatten(output, self.ops.is_tensor, "output"))
        for name, tensor in named.items():
            self.observe(ValueKey(Kind.MODEL_OUTPUT, name), self.ops.to_array(tensor))
        if not self.backward:
            return
        self.send_back(self.with_gradients(named.items(), Kind.MODEL_GRAD_OUTPUT))
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
        opened, substituted = self.open_call(name, args, kwargs)
        if opened is None:
            self.mismatched_calls.append(call)
            return None
        for tensor, index in zip(opened.inputs.originals, opened.indices, strict=True):
            self.observe(ValueKey(Kind.INPUT, name, index), self.ops.to_array(tensor))
        self._open[call] = opened
        return substituted

    def open_call(self, name: str, args: tuple, kwargs: dict) -> tuple[SubstitutedCall | None, Any]:
        """Return the arguments with the reference's values; None where their number differs."""
        arguments = CallArguments(args, kwargs, self.ops)
        indices = _assigned(arguments, self.reference.dataflow.inputs.get(name))
        if indices is None:
            return None, None
        values = (self.reference.values[ValueKey(Kind.INPUT, name, index)] for index in indices)
        leaves = [self.tensor(array, leaf=True) for array in values]
        copies = [self.ops.clone(leaf) for leaf in leaves]
        inputs, substituted = substitute_inputs(arguments, copies, self.ops)
        return SubstitutedCall(name, indices, leaves, inputs), substituted

    def _end(self, call: str, layer: Any, output: Any) -> Any:
        opened = self._open.pop(call, None)
        if opened is None:
            return None
        try:
            named = list(flatten(output, self.ops.is_tensor, opened.name))
        except OpaqueValueError as error:
            raise AlignmentError(
                f"its output has another structure than torch's: {error}"
            ) from error
        for name, tensor in named:
            self.observe(ValueKey(Kind.OUTPUT, name), self.ops.to_array(tensor))
        if self.backward:
            pairs = self.with_gradients(named, Kind.GRAD_OUTPUT)
            gradients = self.layer_gradients(opened, layer, pairs)
            for index, gradient in _summed(opened.indices, gradients).items():
                self.observe(ValueKey(Kind.GRAD_INPUT, opened.name, index), gradient)
        return substitute_outputs(
            output, named, lambda outputs: self._passed_on(opened, outputs), self.ops, opened.inputs
        )

    def with_gradients(self, named: Iterable[NamedTensor], kind: Kind) -> list[tuple]:
        """Return (tensor, reference's gradient of it), where both can have one and shapes agree."""
        sums: dict[int, tuple[Any, np.ndarray]] = {}  # one tensor may go by several names
        for name, tensor in named:
            gradient = lookup_value(ValueKey(kind, name), self.reference.values)
            fits = gradient is not None and gradient.shape == tuple(tensor.shape)
            if fits and self.needs_gradient(tensor):
                earlier = sums.get(id(tensor))
                total = gradient if earlier is None else earlier[1] + gradient
                sums[id(tensor)] = (tensor, total)
        return [(tensor, self.tensor(total)) for tensor, total in sums.values()]

    def _passed_on(self, opened: SubstitutedCall, outputs: Sequence[NamedTensor]) -> list[Any]:
        """Return what stands for each distinct output in the code that follows."""
        values = []
        for name, tensor in outputs:
            value = lookup_value(ValueKey(Kind.OUTPUT, name), self.reference.values)
            values.append(self.ops.to_array(tensor) if value is None else value)
        # Where two tensors stand for one of the reference's, its gradient goes to the first.
        gradients = [
            None
            if index in opened.indices[:position]
            else self.reference.values.get(ValueKey(Kind.GRAD_INPUT, opened.name, index))
            for position, index in enumerate(opened.indices)
        ]
        reached = [ValueKey(Kind.GRAD_OUTPUT, name) for name, _ in outputs]
        return self.boundary(opened.inputs.originals, gradients, values, reached)

    @abstractmethod
    def pass_by(self, call: str, layer: Any, args: tuple, kwargs: dict) -> None:
        """Take note of a call that is not stopped at, when it begins."""

    @abstractmethod
    def watch(self, model: Any, rename: Mapping[str, str], on_begin: Any, on_end: Any) -> CallWatch:
        """Return a watch over the model's calls."""

    @abstractmethod
    def is_float(self, tensor: Any) -> bool:
        """Return whether it holds floating-point numbers."""

    @abstractmethod
    def needs_gradient(self, tensor: Any) -> bool:
        """Return whether a gradient can be sent back from the tensor."""

    @abstractmethod
    def tensor(self, array: np.ndarray, *, leaf: bool = False) -> Any:
        """Return a tensor of the run's dtype if it is a float; a leaf has a gradient of its own."""

    @abstractmethod
    def boundary(
        self,
        originals: Sequence[Any],
        gradients: Sequence[np.ndarray | None],
        outputs: Sequence[np.ndarray],
        reached: Sequence[ValueKey],
    ) -> list[Any]:
        """Return tensors with the values `outputs` that depend on `originals`.

        In backward, the gradient of each is observed under its key in `reached`, and the gradient
        of each of `originals` is the one given here.
        """

    @abstractmethod
    def layer_gradients(
        self, opened: SubstitutedCall, layer: Any, pairs: Sequence[tuple]
    ) -> list[np.ndarray | None]:
        """Send gradients back through one layer: what reaches each of the leaves.

        The parameters' gradients are added up for `parameter_gradients`.
        """

    @abstractmethod
    def send_back(self, pairs: Sequence[tuple]) -> None:
        """Send gradients back, given as (tensor, gradient)."""

    @abstractmethod
    def gradient_of(self, leaf: Any) -> np.ndarray | None:
        """Return the gradient that reached a leaf."""

    @abstractmethod
    def parameter_gradients(self, model: Any) -> dict[str, np.ndarray | None]:
        """Return the sums of the parameters' gradients by this framework's names."""


def _assigned(arguments: CallArguments, theirs: Sequence[int] | None) -> list[int] | None:
    """Return which of the reference's arguments each distinct tensor stands for, or None.

    By position where both sides give as many, else by order where as many are distinct: attention
    may be called with (x, x, x) there and with (x) here.
    """
    if theirs is None:
        return None
    if len(arguments.tensors) == len(theirs):
        first = dict(zip(reversed(arguments.positions), reversed(theirs), strict=True))
        return [first[position] for position in range(len(arguments.distinct))]
    count = len(arguments.distinct)
    return list(range(count)) if count == len(set(theirs)) else None


def _summed(
    indices: Sequence[int], gradients: Sequence[np.ndarray | None]
) -> dict[int, np.ndarray | None]:
    sums: dict[int, np.ndarray | None] = {}
    for index, gradient in zip(indices, gradients, strict=True):
        earlier = sums.get(index)
        sums[index] = gradient if earlier is None or gradient is None else earlier + gradient
    return sums
