"""Paddle's layers by themselves: given what torch's layers were given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import paddle
from paddle import nn
from paddle.autograd import PyLayer

from alignment.paddle_side.tensors import PADDLE, array_of_paddle
from alignment.recording.calls import CallWatch
from alignment.recording.layerwise import LayerwiseRun, SubstitutedCall
from alignment.recording.nested import OpaqueValueError, flatten
from alignment.recording.substitution import substitute_outputs
from alignment.recording.value_key import Kind, ValueKey, lookup_value


def watch_paddle(
    model: nn.Layer, rename: Mapping[str, str], on_begin: Any = None, on_end: Any = None
) -> CallWatch:
    """Return a watch over the calls of all layers below the model."""
    return CallWatch(
        model.named_sublayers(),
        rename,
        add_pre_hook=lambda layer, hook: layer.register_forward_pre_hook(
            hook, prepend=True, with_kwargs=True
        ),
        add_post_hook=lambda layer, hook: layer.register_forward_post_hook(hook, with_kwargs=True),
        on_begin=on_begin,
        on_end=on_end,
    )


def in_place_of(tensor: paddle.Tensor, reference: np.ndarray | None) -> paddle.Tensor:
    """Return the reference's value with the tensor's gradient, where there is one that fits."""
    if reference is None or not tensor.is_floating_point():
        return tensor
    if tuple(tensor.shape) != reference.shape:
        return tensor  # the forward step names it
    return _InPlaceOf.apply(tensor, reference)


def all_in_place_of(
    value: Any, kind: Kind, name: str, reference: Mapping[ValueKey, np.ndarray]
) -> Any:
    """Return the reference's values of a kind, by their names under `name`, with these gradients.

    Raises:
        OpaqueValueError: the value is no known structure.
    """
    named = list(flatten(value, paddle.is_tensor, name))
    return substitute_outputs(
        value,
        named,
        lambda tensors: [
            in_place_of(tensor, lookup_value(ValueKey(kind, part), reference))
            for part, tensor in tensors
        ],
        PADDLE,
    )


def output_at_the_reference(output: Any, activations: Mapping[ValueKey, np.ndarray]) -> Any:
    """Return the reference's outputs with a model's gradients; `activations` as in its trace."""
    return all_in_place_of(output, Kind.MODEL_OUTPUT, "output", activations)


def at_the_reference(
    model: nn.Layer,
    rename: Mapping[str, str],
    activations: Mapping[ValueKey, np.ndarray],
    matched: Mapping[str, str],
) -> CallWatch:
    """Let each layer, while it is active, hand on the reference's output with its own gradient.

    Args:
        model: the port.
        rename: from the pair.
        activations: the reference's, as in its trace.
        matched: {call of Paddle's: torch's}, see `match_calls`.
    """

    def force(call: str, _layer: nn.Layer, output: Any) -> Any:
        if call not in matched:
            return None
        try:
            return all_in_place_of(output, Kind.OUTPUT, matched[call], activations)
        except OpaqueValueError:
            return None  # it stays as it is; the forward step says so

    return watch_paddle(model, rename, on_end=force)


class _InPlaceOf(PyLayer):
    """Another value with a tensor's gradient; the value may be infinite, as attention masks are."""

    @staticmethod
    def forward(_ctx: Any, tensor: paddle.Tensor, value: np.ndarray) -> paddle.Tensor:
        """Return the value, in the tensor's dtype."""
        return paddle.to_tensor(value).astype(tensor.dtype)

    @staticmethod
    def backward(_ctx: Any, gradient: paddle.Tensor) -> paddle.Tensor:
        """Return the gradient as it is."""
        return gradient


class PaddleLayerwiseRun(LayerwiseRun):
    """A layerwise run of Paddle; see `LayerwiseRun`."""

    ops = PADDLE

    def watch(self, model: Any, rename: Mapping[str, str], on_begin: Any, on_end: Any) -> CallWatch:
        """Return a watch over the model's calls."""
        return watch_paddle(model, rename, on_begin, on_end)

    def pass_by(self, call: str, layer: Any, args: tuple, kwargs: dict) -> None:
        """Ask nothing of layers with parts, which are judged one by one."""

    def is_float(self, tensor: paddle.Tensor) -> bool:
        """Return whether it holds floating-point numbers."""
        return tensor.is_floating_point() or tensor.is_complex()

    def needs_gradient(self, tensor: paddle.Tensor) -> bool:
        """Return whether a gradient can be sent back from the tensor."""
        return not tensor.stop_gradient

    def tensor(self, array: np.ndarray, *, leaf: bool = False) -> paddle.Tensor:
        """Return a tensor of the run's dtype if it is a float; a leaf has a gradient of its own."""
        tensor = paddle.to_tensor(np.array(array, order="C"))
        if tensor.is_floating_point():
            tensor = tensor.astype(self.dtype)
        tensor.stop_gradient = not (leaf and self.is_float(tensor))
        return tensor

    def boundary(
        self,
        originals: Sequence[paddle.Tensor],
        gradients: Sequence[np.ndarray | None],
        outputs: Sequence[np.ndarray],
        reached: Sequence[ValueKey],
    ) -> list[paddle.Tensor]:
        """See `LayerwiseRun.boundary`."""
        # A PyLayer wants no gradient for a tensor that needs none, and a value for each other.
        floats = [(t, g) for t, g in zip(originals, gradients, strict=True) if not t.stop_gradient]
        back = [
            (gradient, tuple(tensor.shape), str(tensor.dtype)[7:]) for tensor, gradient in floats
        ]
        is_number = [array.dtype.kind in "fc" for array in outputs]
        held = _Held(
            self,
            [array for array, number in zip(outputs, is_number, strict=True) if number],
            [key for key, number in zip(reached, is_number, strict=True) if number],
            back,
        )
        numbers = iter(())
        if any(is_number):
            result = _Boundary.apply(held, self.anchor, *(tensor for tensor, _ in floats))
            numbers = iter(result if isinstance(result, (list, tuple)) else [result])
        return [
            next(numbers) if number else self.tensor(array)
            for array, number in zip(outputs, is_number, strict=True)
        ]

    def layer_gradients(
        self,
        opened: SubstitutedCall,
        layer: Any,  # noqa: ARG002 - torch's run asks for it
        pairs: Sequence[tuple],
    ) -> list[np.ndarray | None]:
        """Send gradients back through one layer: what reaches the leaves."""
        self.send_back(pairs)
        return [self.gradient_of(leaf) for leaf in opened.leaves]

    def send_back(self, pairs: Sequence[tuple]) -> None:
        """Send gradients back, given as (tensor, gradient)."""
        if pairs:
            tensors, gradients = zip(*pairs, strict=True)
            paddle.autograd.backward(
                list(tensors), [g.astype(t.dtype) for t, g in zip(tensors, gradients, strict=True)]
            )

    def gradient_of(self, leaf: paddle.Tensor) -> np.ndarray | None:
        """Return the gradient that reached a leaf."""
        return None if leaf.grad is None else array_of_paddle(leaf.grad)

    def parameter_gradients(self, model: nn.Layer) -> dict[str, np.ndarray | None]:
        """Return the sums of the parameters' gradients by Paddle's names."""
        return {name: self.gradient_of(p) for name, p in model.named_parameters()}


@dataclass
class _Held:
    """What a boundary knows; inside of one object, where a PyLayer looks for no tensors."""

    run: PaddleLayerwiseRun
    outputs: Sequence[np.ndarray]
    reached: Sequence[ValueKey]
    back: Sequence[tuple[np.ndarray | None, tuple[int, ...], str]]


class _Boundary(PyLayer):
    """The reference's outputs in the place of a layer's, its gradients in the place of its own."""

    @staticmethod
    def forward(ctx: Any, held: _Held, _anchor: paddle.Tensor, *_originals: paddle.Tensor) -> tuple:
        """Give the outputs."""
        ctx.held = held
        return tuple(held.run.tensor(array) for array in held.outputs)

    @staticmethod
    def backward(ctx: Any, *arrived: paddle.Tensor) -> tuple:
        """Observe what arrives; give the reference's."""
        held = ctx.held
        for key, gradient in zip(held.reached, arrived, strict=True):
            held.run.observe(key, array_of_paddle(gradient))
        passed_on = [
            paddle.zeros(shape, dtype)
            if gradient is None or gradient.shape != shape
            else held.run.tensor(gradient).astype(dtype)
            for gradient, shape, dtype in held.back
        ]
        return (paddle.zeros_like(held.run.anchor), *passed_on)
