"""How far torch float32 is off on each layer by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from alignment.compare import relative_error
from alignment.recording.calls import CallWatch
from alignment.recording.layerwise import (
    LayerwiseReference,
    LayerwiseRounding,
    LayerwiseRun,
    SubstitutedCall,
)
from alignment.recording.nested import flatten
from alignment.recording.trace import LayerRecorder, Trace
from alignment.recording.value_key import Kind, ValueKey, lookup_value
from alignment.torch_side.tensors import TORCH, is_float
from alignment.weights.models import array_of_torch

PERTURBATION = 2.0**-23
"""An output gradient is also sent back with each element moved by up to this, one rounding: a sum
of few terms may be exact by luck, and its error then says nothing about another order of them."""

WORST_PERTURBED = 1e-4
"""No larger error is believed of that: where a rounding decides (equal maxima), all may move."""


def watch_torch(
    model: torch.nn.Module, rename: Mapping[str, str], on_begin: Any = None, on_end: Any = None
) -> CallWatch:
    """Return a watch over the calls of all modules below the model."""
    return CallWatch(
        ((name, module) for name, module in model.named_modules() if name),
        rename,
        add_pre_hook=lambda module, hook: module.register_forward_pre_hook(
            hook, prepend=True, with_kwargs=True
        ),
        add_post_hook=lambda module, hook: module.register_forward_hook(hook, with_kwargs=True),
        on_begin=on_begin,
        on_end=on_end,
    )


def recording(model: torch.nn.Module, trace: Trace) -> CallWatch:
    """Return a watch that adds the calls and the layers' outputs to a trace."""
    watch = watch_torch(model, {}, on_end=LayerRecorder(trace, TORCH))
    trace.tree = watch.tree
    return watch


class TorchLayerwiseRun(LayerwiseRun):
    """A layerwise run of torch in float32: how far rounding takes the reference's own layers.

    It stops at the layers that call no others. A layer that does is also run by itself, in case
    that Paddle's counterpart has no such parts.

    Args:
        reference: the reference, as yet without its rounding.
        device: "cpu" or "cuda".
        backward: whether to go back as well.
    """

    ops = TORCH

    def __init__(self, reference: LayerwiseReference, *, device: str, backward: bool) -> None:
        innermost = reference.dataflow.tree.finest(reference.dataflow.inputs)
        super().__init__(
            reference,
            {call: call for call in innermost},
            self._measure,
            dtype="float32",
            backward=backward,
        )
        self._device = device
        self._errors: dict[ValueKey, float] = {}
        self._of_containers: dict[tuple[str, str], float] = {}
        self._dtypes: dict[ValueKey, str] = {}
        self._sums: dict[int, torch.Tensor] = {}
        self._perturbed_sums: dict[int, torch.Tensor] = {}
        self._generator = torch.Generator().manual_seed(0)

    def rounding(self) -> LayerwiseRounding:
        """Return what the run has found."""
        return LayerwiseRounding(self._errors, self._of_containers, self._dtypes)

    def _measure(self, key: ValueKey, array: np.ndarray | None) -> None:
        reference = lookup_value(key, self.reference.values)
        if reference is not None and array is not None:
            self._note_error(key, relative_error(reference, array))
            if array.dtype != reference.dtype:
                self._dtypes[key] = str(array.dtype)

    def _note_error(self, key: ValueKey, error: float) -> None:
        self._errors[key] = max(error, self._errors.get(key, 0.0))

    def watch(self, model: Any, rename: Mapping[str, str], on_begin: Any, on_end: Any) -> CallWatch:
        """Return a watch over the model's calls."""
        self._watch = watch_torch(model, rename, on_begin, on_end)
        self._names = {id(p): name for name, p in model.named_parameters()}
        return self._watch

    def pass_by(self, call: str, layer: Any, args: tuple, kwargs: dict) -> None:
        """Run a layer with parts by itself, given what the reference gave it."""
        opened, substituted = self.open_call(call, args, kwargs)
        if opened is None:
            return
        self._watch.paused = True
        try:
            output = layer(*substituted[0], **substituted[1])
        finally:
            self._watch.paused = False
        named = list(flatten(output, torch.is_tensor, call))
        for name, tensor in named:
            self._measure(ValueKey(Kind.OUTPUT, name), array_of_torch(tensor))
        pairs = self.with_gradients(named, Kind.GRAD_OUTPUT) if self.backward else []
        if pairs:
            self._measure_gradients(opened, layer, pairs)

    def _measure_gradients(
        self, opened: SubstitutedCall, layer: torch.nn.Module, pairs: Sequence[tuple]
    ) -> None:
        gradients, parameters = self._back(pairs, opened.leaves, layer, perturbed=False)
        for index, gradient in enumerate(gradients):
            key = ValueKey(Kind.GRAD_INPUT, opened.name, index)
            self._measure(key, _array_or_none(gradient))
        for parameter, gradient in parameters.items():
            name = self._names[id(parameter)]
            reference = self.reference.values.get(ValueKey(Kind.PARAMETER_GRAD, name))
            if reference is not None and gradient is not None:
                error = relative_error(reference, array_of_torch(gradient))
                self._of_containers[opened.name, name] = error

    def layer_gradients(
        self, opened: SubstitutedCall, layer: Any, pairs: Sequence[tuple]
    ) -> list[np.ndarray | None]:
        """Send gradients back through one layer, and a second time slightly moved."""
        gradients, parameters = self._back(pairs, opened.leaves, layer, perturbed=False)
        perturbed, perturbed_parameters = self._back(pairs, opened.leaves, layer, perturbed=True)
        for sums, gradients_of in (
            (self._sums, parameters),
            (self._perturbed_sums, perturbed_parameters),
        ):
            for parameter, gradient in gradients_of.items():
                if gradient is not None:
                    earlier = sums.get(id(parameter))
                    sums[id(parameter)] = gradient if earlier is None else earlier + gradient
        for index, gradient in enumerate(perturbed):
            key = ValueKey(Kind.GRAD_INPUT, opened.name, index)
            self._measure_perturbed(key, _array_or_none(gradient))
        return [_array_or_none(gradient) for gradient in gradients]

    def _measure_perturbed(self, key: ValueKey, array: np.ndarray | None) -> None:
        reference = self.reference.values.get(key)
        if reference is not None and array is not None:
            error = min(relative_error(reference, array), WORST_PERTURBED)
            self._note_error(key, error)

    def _back(
        self,
        pairs: Sequence[tuple],
        leaves: Sequence[Any],
        layer: torch.nn.Module,
        *,
        perturbed: bool,
    ) -> tuple[list, dict]:
        parameters = [p for p in layer.parameters() if p.requires_grad]
        wanted = [leaf for leaf in leaves if leaf.requires_grad]
        if not pairs or not [*wanted, *parameters]:
            return [None] * len(leaves), {}
        gradients = [g for _, g in pairs]
        if perturbed:
            gradients = [g * (1 + PERTURBATION * self._noise(g)) for g in gradients]
        gradients_of_wanted = torch.autograd.grad(
            [t for t, _ in pairs],
            [*wanted, *parameters],
            gradients,
            allow_unused=True,
            retain_graph=True,
        )
        by_leaf = dict(zip(map(id, wanted), gradients_of_wanted, strict=False))
        of_parameters = dict(zip(parameters, gradients_of_wanted[len(wanted) :], strict=True))
        return [by_leaf.get(id(leaf)) for leaf in leaves], of_parameters

    def _noise(self, like: torch.Tensor) -> torch.Tensor:
        noise = torch.rand(like.shape, generator=self._generator, dtype=torch.float32)
        return (2 * noise - 1).to(like.device, like.dtype)

    def send_back(self, pairs: Sequence[tuple]) -> None:
        """Send gradients back, given as (tensor, gradient)."""
        if pairs:
            torch.autograd.backward([t for t, _ in pairs], [g for _, g in pairs])

    def gradient_of(self, leaf: torch.Tensor) -> np.ndarray | None:
        """Return the gradient that reached a leaf."""
        return _array_or_none(leaf.grad)

    def parameter_gradients(self, model: torch.nn.Module) -> dict[str, np.ndarray | None]:
        """Return sums over the layers, and over code between them that uses a parameter itself."""
        gradients = {}
        for name, parameter in model.named_parameters():
            total = _sum(self._sums.get(id(parameter)), parameter.grad)
            perturbed = _sum(self._perturbed_sums.get(id(parameter)), parameter.grad)
            self._measure_perturbed(ValueKey(Kind.PARAMETER_GRAD, name), _array_or_none(perturbed))
            gradients[name] = _array_or_none(total)
        return gradients

    def is_float(self, tensor: torch.Tensor) -> bool:
        """Return whether it holds floating-point numbers."""
        return is_float(tensor)

    def needs_gradient(self, tensor: torch.Tensor) -> bool:
        """Return whether a gradient can be sent back from the tensor."""
        return tensor.requires_grad

    def tensor(self, array: np.ndarray, *, leaf: bool = False) -> torch.Tensor:
        """Return a tensor in float32 if it is a float; a leaf has a gradient of its own."""
        tensor = torch.from_numpy(np.array(array, order="C")).to(self._device)
        if tensor.is_floating_point():
            tensor = tensor.to(torch.float32)
        return tensor.requires_grad_(leaf and is_float(tensor))

    def boundary(
        self,
        originals: Sequence[torch.Tensor],
        gradients: Sequence[np.ndarray | None],
        outputs: Sequence[np.ndarray],
        reached: Sequence[ValueKey],
    ) -> list[torch.Tensor]:
        """See `LayerwiseRun.boundary`."""
        floats = [(t, g) for t, g in zip(originals, gradients, strict=True) if t.requires_grad]
        tensors = _Boundary.apply(
            self, outputs, reached, [g for _, g in floats], self.anchor, *(t for t, _ in floats)
        )
        return list(tensors)


class _Boundary(torch.autograd.Function):
    """The reference's outputs in the place of a layer's, its gradients in the place of its own."""

    @staticmethod
    def forward(ctx, run, outputs, reached, gradients, anchor, *originals):  # noqa: ANN001
        """Give the outputs."""
        ctx.run, ctx.reached, ctx.gradients = run, reached, gradients
        ctx.shapes = [(tensor.shape, tensor.dtype) for tensor in originals]
        tensors = tuple(run.tensor(array) for array in outputs)
        ctx.mark_non_differentiable(*(tensor for tensor in tensors if not is_float(tensor)))
        ctx.device = anchor.device
        return tensors

    @staticmethod
    def backward(ctx, *arrived):  # noqa: ANN001
        """Observe what arrives; give the reference's."""
        for key, gradient in zip(ctx.reached, arrived, strict=True):
            if is_float(gradient):
                ctx.run.observe(key, array_of_torch(gradient))
        passed_on = [
            torch.zeros(shape, dtype=dtype, device=ctx.device)
            if gradient is None or tuple(shape) != gradient.shape
            else ctx.run.tensor(gradient).to(dtype)
            for gradient, (shape, dtype) in zip(ctx.gradients, ctx.shapes, strict=True)
        ]
        return None, None, None, None, None, *passed_on


def _sum(first: torch.Tensor | None, second: torch.Tensor | None) -> torch.Tensor | None:
    if first is None or second is None:
        return second if first is None else first
    return first + second


def _array_or_none(tensor: torch.Tensor | None) -> np.ndarray | None:
    return None if tensor is None else array_of_torch(tensor)
