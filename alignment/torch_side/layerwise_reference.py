"""The reference's layers by themselves: torch in float64, see `alignment.recording.layerwise`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from alignment.recording.dataflow import Dataflow
from alignment.recording.layerwise import LayerwiseReference
from alignment.recording.nested import OpaqueValueError, flatten
from alignment.recording.substitution import (
    CallArguments,
    NamedTensor,
    SubstitutedInputs,
    substitute_inputs,
    substitute_outputs,
)
from alignment.recording.value_key import Kind, ValueKey, model_input
from alignment.torch_side.layerwise import watch_torch
from alignment.torch_side.provenance import Origins
from alignment.torch_side.tensors import TORCH, is_float
from alignment.weights.models import array_of_torch


class LayerwiseReferenceRecorder:
    """Runs a torch model in float64 and rounds whatever passes between its layers to float32.

    Args:
        tensor: makes a tensor of an array, on the device, floats in the run's dtype.
    """

    def __init__(self, tensor: Callable[[np.ndarray], torch.Tensor]) -> None:
        self._tensor = tensor
        self._values: dict[ValueKey, np.ndarray] = {}
        self._inputs: dict[str, list[int]] = {}
        self._outputs: dict[str, list[str]] = {}
        self._origins_of: dict[ValueKey, list[ValueKey]] = {}
        self._known: dict[bytes, np.ndarray] = {}
        self._open: dict[str, SubstitutedInputs] = {}
        self._origins = Origins()

    def run(
        self,
        model: torch.nn.Module,
        inputs: Sequence[np.ndarray],
        output_gradients: Mapping[str, np.ndarray],
    ) -> LayerwiseReference:
        """Run the model; go back where output gradients are given."""
        leaves = [self._tensor(array) for array in inputs]
        for index, tensor in enumerate(leaves):
            tensor.requires_grad_(tensor.is_floating_point())
            self._origins.set(tensor, model_input(index))
        self._anchor = torch.zeros(1, dtype=torch.float32, requires_grad=True)
        watch = watch_torch(model, {}, self._begin, self._end)
        with watch, torch.enable_grad(), self._origins:
            output = model(*(tensor.clone() for tensor in leaves))
        for call in self._open:  # it raised, and the model went on
            del self._inputs[call]
        named = dict(flatten(output, torch.is_tensor, "output"))
        for name, tensor in named.items():
            key = ValueKey(Kind.MODEL_OUTPUT, name)
            self._keep(key, tensor)
            self._origins_of[key] = self._origins.of(tensor)
        if output_gradients:
            self._go_back(model, leaves, named, output_gradients)
        dataflow = Dataflow(self._inputs, self._outputs, self._origins_of, watch.tree)
        return LayerwiseReference(self._values, dataflow)

    def _go_back(
        self,
        model: torch.nn.Module,
        leaves: Sequence[torch.Tensor],
        named: Mapping[str, torch.Tensor],
        output_gradients: Mapping[str, np.ndarray],
    ) -> None:
        rounded = {
            name: self._keep(ValueKey(Kind.MODEL_GRAD_OUTPUT, name), gradient)
            for name, gradient in output_gradients.items()
        }
        pairs = [
            (tensor, self._tensor(rounded[name]).to(tensor.dtype))
            for name, tensor in named.items()
            if name in rounded and tensor.requires_grad
        ]
        if pairs:
            torch.autograd.backward([t for t, _ in pairs], [g for _, g in pairs])
        for index, tensor in enumerate(leaves):
            if tensor.grad is not None:
                self._keep(ValueKey(Kind.MODEL_GRAD_INPUT, "inputs", index), tensor.grad)
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                self._keep(ValueKey(Kind.PARAMETER_GRAD, name), parameter.grad)

    def _begin(self, call: str, _module: torch.nn.Module, args: tuple, kwargs: dict) -> Any:
        arguments = CallArguments(args, kwargs, TORCH)
        self._inputs[call] = arguments.positions
        rounded = [
            self._passed(tensor, ValueKey(Kind.INPUT, call, index))
            for index, tensor in enumerate(arguments.distinct)
        ]
        self._open[call], substituted = substitute_inputs(arguments, rounded, TORCH)
        return substituted

    def _end(self, call: str, _module: torch.nn.Module, output: Any) -> Any:
        inputs = self._open.pop(call)
        try:
            named = list(flatten(output, torch.is_tensor, call))
        except OpaqueValueError:
            del self._inputs[call]  # it can't be passed on: such a call is not stopped at
            return None
        self._outputs[call] = [name for name, _ in named]
        substituted = substitute_outputs(output, named, self._passed_on, TORCH, inputs)
        first_names: dict[int, str] = {}
        for name, tensor in named:
            first = first_names.setdefault(id(tensor), name)
            self._values[ValueKey(Kind.OUTPUT, name)] = self._values[ValueKey(Kind.OUTPUT, first)]
        return substituted

    def _passed_on(self, outputs: Sequence[NamedTensor]) -> list[torch.Tensor]:
        return [self._passed(tensor, ValueKey(Kind.OUTPUT, name)) for name, tensor in outputs]

    def _passed(self, tensor: torch.Tensor, key: ValueKey) -> torch.Tensor:
        """Return the tensor as it goes on: recorded and rounded, and its gradient likewise."""
        self._origins_of[key] = self._origins.of(tensor)
        array = self._keep(key, tensor)
        if is_float(tensor):
            passed = _Passed.apply(tensor, self._anchor, self, key, array)
        else:
            passed = tensor.clone()
        self._origins.set(passed, key)
        return passed

    def _keep(self, key: ValueKey, value: torch.Tensor | np.ndarray) -> np.ndarray:
        array = self._array(value)
        self._values[key] = array
        return array

    def _array(self, value: torch.Tensor | np.ndarray) -> np.ndarray:
        """Return it as float32; equal arrays, as an output and the next layer's input, are one."""
        array = value if isinstance(value, np.ndarray) else array_of_torch(value)
        if array.dtype.kind in "fc":
            with np.errstate(over="ignore"):
                array = array.astype(np.complex64 if array.dtype.kind == "c" else np.float32)
        return self._known.setdefault(_content(array), array)


_GRADIENT_OF = {Kind.INPUT: Kind.GRAD_INPUT, Kind.OUTPUT: Kind.GRAD_OUTPUT}


class _Passed(torch.autograd.Function):
    """A value in its way from layer to layer."""

    @staticmethod
    def forward(ctx, tensor, _anchor, recorder, key, array):  # noqa: ANN001
        """Hand on the rounded value."""
        ctx.recorder, ctx.key = recorder, key
        return torch.from_numpy(array).to(tensor.device, tensor.dtype, copy=True)

    @staticmethod
    def backward(ctx, gradient):  # noqa: ANN001
        """Record the gradient under the value's key and hand it on rounded."""
        key = ctx.key._replace(kind=_GRADIENT_OF[ctx.key.kind])
        array = ctx.recorder._keep(key, gradient)
        rounded = torch.from_numpy(array).to(gradient.device, gradient.dtype)
        return rounded, None, None, None, None


def _content(array: np.ndarray) -> bytes:
    digest = hashlib.blake2b(np.ascontiguousarray(array).reshape(-1).view(np.uint8), digest_size=16)
    digest.update(f"{array.dtype}{array.shape}".encode())
    return digest.digest()
