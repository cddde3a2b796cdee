"""The reference's layers by themselves: torch in float64, see `alignment.recording.layerwise`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from alignment.recording.layerwise import LayerwiseReference
from alignment.recording.nested import OpaqueValueError, flatten, replace_tensors
from alignment.recording.trace import distinct
from alignment.recording.value_key import Kind, ValueKey, model_input
from alignment.torch_side.layerwise import is_float, watch_torch
from alignment.torch_side.provenance import Origins
from alignment.weights.models import array_of_torch


class LayerwiseReferenceRecorder:
    """Runs a torch model in float64 and rounds whatever passes between its layers to float32.

    Args:
        tensor: makes a tensor of an array, on the device, floats in the run's dtype.
    """

    def __init__(self, tensor: Callable[[np.ndarray], torch.Tensor]) -> None:
        self.alone = LayerwiseReference()
        self._tensor = tensor
        self._known: dict[bytes, np.ndarray] = {}
        self._open: dict[str, tuple] = {}
        self._origins = Origins()

    def run(
        self,
        model: torch.nn.Module,
        inputs: Sequence[np.ndarray],
        output_gradients: Mapping[str, np.ndarray],
    ) -> LayerwiseReference:
        """Run the model; go back where output gradients are given."""
        self._inputs = [self._tensor(array) for array in inputs]
        for index, tensor in enumerate(self._inputs):
            tensor.requires_grad_(tensor.is_floating_point())
            self._origins.set(tensor, model_input(index))
        self._anchor = torch.zeros(1, dtype=torch.float32, requires_grad=True)
        watch = watch_torch(model, {}, self._begin, self._end)
        with watch, torch.enable_grad(), self._origins:
            output = model(*(tensor.clone() for tensor in self._inputs))
        self.alone.tree = watch.tree
        for call in self._open:  # it raised, and the model went on
            del self.alone.inputs[call]
        named = dict(flatten(output, torch.is_tensor, "output"))
        for name, tensor in named.items():
            key = ValueKey(Kind.MODEL_OUTPUT, name)
            self._keep(key, tensor)
            self.alone.origins[key] = self._origins.of(tensor)
        if output_gradients:
            self._go_back(model, named, output_gradients)
        return self.alone

    def _go_back(
        self,
        model: torch.nn.Module,
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
        for index, tensor in enumerate(self._inputs):
            if tensor.grad is not None:
                self._keep(ValueKey(Kind.MODEL_GRAD_INPUT, "inputs", index), tensor.grad)
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                self._keep(ValueKey(Kind.PARAMETER_GRAD, name), parameter.grad)

    def _begin(self, call: str, _module: torch.nn.Module, args: tuple, kwargs: dict) -> Any:
        given = [t for _, t in flatten((args, kwargs), torch.is_tensor, strict=False)]
        own = distinct(given)
        position = {id(tensor): index for index, tensor in enumerate(own)}
        self.alone.inputs[call] = [position[id(tensor)] for tensor in given]
        rounded = [
            self._passed(tensor, ValueKey(Kind.INPUT, call, index))
            for index, tensor in enumerate(own)
        ]
        versions = [tensor._version for tensor in rounded]
        self._open[call] = (own, rounded, versions)
        by_own = {id(o): r for o, r in zip(own, rounded, strict=True)}
        replacement = (by_own[id(tensor)] for tensor in given)
        return replace_tensors((args, kwargs), torch.is_tensor, replacement, strict=False)

    def _end(self, call: str, _module: torch.nn.Module, output: Any) -> Any:
        own, given, versions = self._open.pop(call)
        try:
            named = list(flatten(output, torch.is_tensor, call))
        except OpaqueValueError:
            del self.alone.inputs[call]  # it can't be handed on: such a call is not stopped at
            return None
        self.alone.outputs[call] = [name for name, _ in named]
        passed = {}
        for name, tensor in named:
            key = ValueKey(Kind.OUTPUT, name)
            if id(tensor) in passed:
                self._keep(key, tensor)
            else:
                passed[id(tensor)] = self._passed(tensor, key)
        for original, tensor, version in zip(own, given, versions, strict=True):
            if tensor._version != version:  # an in-place layer: the model may use what it was given
                original.copy_(passed.get(id(tensor), tensor))
                if id(tensor) in passed:
                    passed[id(tensor)] = original
        return replace_tensors(output, torch.is_tensor, (passed[id(t)] for _, t in named))

    def _passed(self, tensor: torch.Tensor, key: ValueKey) -> torch.Tensor:
        """Return the tensor as it goes on: recorded and rounded, and its gradient likewise."""
        self.alone.origins[key] = self._origins.of(tensor)
        array = self._keep(key, tensor)
        if is_float(tensor):
            passed = _Passed.apply(tensor, self._anchor, self, key, array)
        else:
            passed = tensor.clone()
        self._origins.set(passed, key)
        return passed

    def _keep(self, key: ValueKey, value: torch.Tensor | np.ndarray) -> np.ndarray:
        array = self._array(value)
        self.alone.values[key] = array
        return array

    def _array(self, value: torch.Tensor | np.ndarray) -> np.ndarray:
        """As float32; equal arrays, as one layer's output and the next one's input, are one."""
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
