"""The torch model of a pair: its weights, and its runs in float32 and float64."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from alignment.compare import relative_error
from alignment.pair import AlignmentError, Pair
from alignment.recording.determinism import OTHER_SEED, Repeat
from alignment.recording.layerwise import LayerwiseReference
from alignment.recording.nested import flatten, replace_tensors
from alignment.recording.trace import ModelRun, Trace
from alignment.recording.train_record import TrainStep
from alignment.recording.value_key import LOSS, Kind, ValueKey
from alignment.torch_side.layerwise import TorchLayerwiseRun, recording, watch_torch
from alignment.torch_side.layerwise_reference import LayerwiseReferenceRecorder
from alignment.torch_side.perturbation import perturbed
from alignment.torch_side.tensors import TORCH
from alignment.torch_side.training import TorchTrainer, perturb_by_one_ulp
from alignment.weights.models import array_of_torch, load_torch_state, torch_specs, torch_state
from alignment.weights.tensors import TensorSpec

PERTURBATIONS = 16
"""Draws of `gradient_discontinuities`: a pixel at the cut goes unseen with a chance of 2^-16."""

PERTURBATION = 1e-5
"""Their size relative to the largest output, some times the float32 error of the networks here."""


class TorchSide:
    """The reference.

    Args:
        pair: the pair; a model given as an instance is copied before each run and never changed.
        device: "cpu" or "gpu".

    Raises:
        AlignmentError: the model can't be made, or there is no such device.
    """

    def __init__(self, pair: Pair, device: str = "cpu") -> None:
        if device == "gpu" and not torch.cuda.is_available():
            raise AlignmentError("torch sees no GPU; use --device cpu")
        self.pair = pair
        self.device = "cuda" if device == "gpu" else "cpu"
        with isolated_framework_state("float32"), _named_errors("torch_model"):
            self.model = _made(pair.torch_model)

    def specs(self) -> tuple[TensorSpec, ...]:
        """Return what each tensor becomes in Paddle."""
        return torch_specs(self.model)

    def weights(self) -> dict[str, np.ndarray]:
        """Return all tensors by name."""
        return torch_state(self.model)

    def load(self, weights: dict[str, np.ndarray]) -> None:
        """Set all tensors."""
        load_torch_state(self.model, weights)

    def received(self) -> dict[str, np.ndarray]:
        """Return inputs and targets as torch holds them."""
        with _named_errors("torch, given the inputs,"):
            return {n: array_of_torch(self._tensor(a)) for n, a in self.pair.named_arrays().items()}

    def run(
        self,
        dtype: str,
        *,
        backward: bool,
        mode: str | None = None,
        around: Callable[[torch.nn.Module], AbstractContextManager] = contextlib.nullcontext,
    ) -> ModelRun:
        """Run forward, and where the pair has a loss and `backward` is set, back.

        Args:
            dtype: "float32" or "float64".
            backward: whether to compute gradients.
            mode: "eval" or "train"; the pair's where None.
            around: gives what is active while the model runs.

        Raises:
            AlignmentError: the model or the loss raised.
        """
        with isolated_framework_state(dtype), _named_errors(f"the torch side in {dtype}"):
            model = self._copy_of_model(dtype, mode)
            inputs = [self._tensor(array, dtype) for array in self.pair.inputs]
            for tensor in inputs:
                tensor.requires_grad_(backward and tensor.is_floating_point())
            trace = Trace()
            watch = recording(model, trace)
            with torch.set_grad_enabled(backward), around(model), watch:
                # Clones: a model may overwrite what it is given, and a leaf must not be.
                output = model(*(tensor.clone() for tensor in inputs))
            outputs = dict(flatten(output, torch.is_tensor, "output"))
            _add(trace, Kind.MODEL_OUTPUT, outputs)
            if self.pair.torch_loss:
                loss, gradients = self._loss(output, dtype)
                trace.values[LOSS] = array_of_torch(loss)
                trace.loss_terms = _sum_of_terms(outputs.values(), gradients)
                if backward:
                    of_outputs = dict(zip(outputs, gradients, strict=True))
                    _add(trace, Kind.MODEL_GRAD_OUTPUT, of_outputs)
                    _backward(outputs.values(), gradients)
                    for index, tensor in enumerate(inputs):
                        if tensor.grad is not None:
                            key = ValueKey(Kind.MODEL_GRAD_INPUT, "inputs", index)
                            trace.values[key] = array_of_torch(tensor.grad)
                    named = model.named_parameters()
                    _add(trace, Kind.PARAMETER_GRAD, {name: p.grad for name, p in named})
            detached = (tensor.detach() for tensor in outputs.values())
            return ModelRun(trace, replace_tensors(output, torch.is_tensor, detached))

    def gradient_discontinuities(self, exact: ModelRun) -> dict[ValueKey, np.ndarray]:
        """Return where rounding decides the loss's own gradient, and by how much.

        A top-k selection takes another element when two losses are equal but for rounding. Then
        both gradients are right, and they differ by far more than rounding. Here the loss is
        differentiated at slightly perturbed outputs: where an element changes by more than half of
        itself, the largest change seen is given, elsewhere 0.

        Args:
            exact: a run in float64 with its gradients.

        Returns:
            For each gradient of an output a float64 array of its shape.
        """
        with isolated_framework_state("float64"), _named_errors("the torch side in float64"):
            outputs = exact.trace.of_kind(Kind.MODEL_OUTPUT)
            exact_gradients = {
                ValueKey(Kind.MODEL_GRAD_OUTPUT, name): gradient
                for name, gradient in exact.trace.of_kind(Kind.MODEL_GRAD_OUTPUT).items()
            }
            discontinuities = {key: np.zeros_like(g) for key, g in exact_gradients.items()}
            rng = np.random.default_rng(0)
            for _ in range(PERTURBATIONS):
                perturbed_outputs = [
                    self._tensor(_perturbed(array, rng)) for array in outputs.values()
                ]
                structure = replace_tensors(exact.output, torch.is_tensor, iter(perturbed_outputs))
                _, gradients = self._loss(structure, "float64")
                for name, gradient in zip(outputs, gradients, strict=True):
                    key = ValueKey(Kind.MODEL_GRAD_OUTPUT, name)
                    if key in exact_gradients and gradient is not None:
                        _note_jumps(
                            discontinuities[key], exact_gradients[key], array_of_torch(gradient)
                        )
            return discontinuities

    def layerwise(
        self, dtype: str, output_gradients: Mapping[str, np.ndarray]
    ) -> LayerwiseReference:
        """Return what each layer is given and gives by itself, and how far torch float32 is off.

        Args:
            dtype: "float64", or "float32" where the model can't run in float64.
            output_gradients: what is sent back; empty to run forward alone.
        """
        with (
            isolated_framework_state(dtype),
            _named_errors(f"the torch side, layer by layer in {dtype},"),
        ):
            recorder = LayerwiseReferenceRecorder(lambda array: self._tensor(array, dtype))
            model = self._copy_of_model(dtype)
            reference = recorder.run(model, self.pair.inputs, output_gradients)
        if dtype == "float32":
            return reference
        with isolated_framework_state("float32"), _named_errors("the torch side, layer by layer,"):
            run = TorchLayerwiseRun(reference, device=self.device, backward=bool(output_gradients))
            run.run(self._copy_of_model("float32"), self.pair.inputs, {})
        return replace(reference, rounding=run.rounding())

    def sensitivity(self, exact: Trace) -> dict[ValueKey, float]:
        """Return by how much a run changes with the differences that Paddle can't avoid.

        Args:
            exact: the run in float64.

        Returns:
            The relative change of each layer's output, of the outputs and of the loss.
        """
        trace, _ = self.run("float64", backward=False, around=perturbed)
        return {
            key: relative_error(exact.values[key], array) for key, array in trace.values.items()
        }

    def repeat(self, first: Trace, mode: str | None = None) -> Repeat:
        """Run forward in float32 once more, from another random state; see `Repeat`."""
        with (
            isolated_framework_state("float32"),
            _named_errors("the torch side, run a second time,"),
        ):
            torch.manual_seed(OTHER_SEED)
            model = self._copy_of_model("float32", mode)
            repeat = Repeat(first, TORCH)
            watch = watch_torch(model, {}, repeat.begin, repeat.end)
            with torch.no_grad(), repeat.over(watch):
                output = model(*(self._tensor(array, "float32") for array in self.pair.inputs))
            repeat.finish(output)
            return repeat

    def train(self, dtype: str) -> Iterator[TrainStep]:
        """Train as the pair says and record each step.

        Raises:
            AlignmentError: the model, the loss or the optimizer raised.
        """
        with isolated_framework_state(dtype), _named_errors(f"torch, training in {dtype},"):
            yield from self._trainer(dtype).steps(self.pair.train_steps)

    def free_run(self, moved_by: np.random.Generator | None = None) -> list[float]:
        """Return the losses of a free run in float32, from weights moved by one rounding or not.

        Raises:
            AlignmentError: the model, the loss or the optimizer raised.
        """
        with isolated_framework_state("float32"), _named_errors("torch, training in float32,"):
            return list(self._trainer("float32", moved_by).losses(self.pair.train_steps))

    def _trainer(self, dtype: str, moved_by: np.random.Generator | None = None) -> TorchTrainer:
        inputs = [self._tensor(array, dtype) for array in self.pair.inputs]
        targets = [self._tensor(array, dtype) for array in self.pair.targets]

        def run(model: torch.nn.Module) -> Any:
            return model(*(tensor.clone() for tensor in inputs))

        def loss(output: Any) -> torch.Tensor:
            return self.pair.torch_loss(output, *targets)

        model = self._copy_of_model(dtype, "train")
        if moved_by:
            perturb_by_one_ulp(model, self.weights(), moved_by)
        return TorchTrainer(model, self.pair.torch_train, run, loss)

    def _loss(self, output: Any, dtype: str) -> tuple[torch.Tensor, list]:
        """Compute the loss and its gradient with respect to the outputs as they are handed over."""
        leaves = [
            tensor.detach().requires_grad_(tensor.is_floating_point())
            for _, tensor in flatten(output, torch.is_tensor)
        ]
        targets = [self._tensor(array, dtype) for array in self.pair.targets]
        with torch.enable_grad():
            clones = (leaf.clone() for leaf in leaves)  # a loss may write into them
            loss = self.pair.torch_loss(replace_tensors(output, torch.is_tensor, clones), *targets)
        if not torch.is_tensor(loss):
            raise AlignmentError(f"torch_loss gives a {type(loss).__name__}; give a scalar tensor")
        if loss.numel() != 1:
            raise AlignmentError(f"torch_loss gives shape {list(loss.shape)}; give a scalar")
        gradients: list = [None] * len(leaves)
        if loss.requires_grad:
            wanted = [i for i, leaf in enumerate(leaves) if leaf.requires_grad]
            wanted_gradients = torch.autograd.grad(
                loss, [leaves[i] for i in wanted], allow_unused=True
            )
            for index, gradient in zip(wanted, wanted_gradients, strict=True):
                gradients[index] = gradient
        return loss.detach(), gradients

    def _tensor(self, array: np.ndarray, dtype: str | None = None) -> torch.Tensor:
        tensor = torch.from_numpy(np.array(array, order="C")).to(self.device)
        if dtype and tensor.is_floating_point():
            tensor = tensor.to(getattr(torch, dtype))
        return tensor

    def _copy_of_model(self, dtype: str, mode: str | None = None) -> torch.nn.Module:
        model = self._another_model().to(self.device, getattr(torch, dtype))
        return model.train((mode or self.pair.mode) == "train")

    def _another_model(self) -> torch.nn.Module:
        """Return the same model again, which a run may change; see Paddle's side."""
        if not isinstance(self.pair.torch_model, torch.nn.Module):
            with isolated_framework_state("float32"):
                model = _made(self.pair.torch_model)
            shared = {id(tensor) for tensor in self.model.state_dict(keep_vars=True).values()}
            tensors = model.state_dict(keep_vars=True).values()
            if not any(id(tensor) in shared for tensor in tensors):
                load_torch_state(model, self.weights())
                return model
        return copy.deepcopy(self.model)


def _made(model: Any) -> torch.nn.Module:
    if isinstance(model, torch.nn.Module):
        return model
    if not callable(model):
        raise AlignmentError(
            f"torch_model is a {type(model).__name__}; give a torch.nn.Module or a function"
        )
    module = model()
    if not isinstance(module, torch.nn.Module):
        raise AlignmentError(f"torch_model gave a {type(module).__name__}, not a torch.nn.Module")
    return module


def _backward(outputs: Any, gradients: list) -> None:
    pairs = [
        (tensor, gradient)
        for tensor, gradient in zip(outputs, gradients, strict=True)
        if gradient is not None and tensor.requires_grad
    ]
    if pairs:
        torch.autograd.backward([t for t, _ in pairs], [g for _, g in pairs])


def _sum_of_terms(outputs: Any, gradients: list) -> float:
    """Return how large the loss's terms are: a mean of values of either sign is far smaller."""
    pairs = zip(outputs, gradients, strict=True)
    return sum(float((o.detach() * g).abs().sum()) for o, g in pairs if g is not None)


def _add(trace: Trace, kind: Kind, tensors: Mapping[str, torch.Tensor | None]) -> None:
    for name, tensor in tensors.items():
        if tensor is not None:
            trace.values[ValueKey(kind, name)] = array_of_torch(tensor)


def _perturbed(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if array.dtype.kind != "f" or not array.size:
        return array
    size = PERTURBATION * np.max(np.abs(array), initial=0, where=np.isfinite(array))
    return array + size * rng.uniform(-1, 1, array.shape)


def _note_jumps(discontinuities: np.ndarray, exact: np.ndarray, perturbed: np.ndarray) -> None:
    change = np.abs(perturbed - exact)
    jumped = change > 0.5 * np.maximum(np.abs(perturbed), np.abs(exact))
    np.maximum(discontinuities, np.where(jumped, change, 0), out=discontinuities)


@contextlib.contextmanager
def isolated_framework_state(dtype: str) -> Iterator[None]:
    """Leave torch's default dtype, random states and TF32 as they were; TF32 is off inside."""
    default, state = torch.get_default_dtype(), torch.get_rng_state()
    on_gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    tf32 = matmul.allow_tf32, cudnn.allow_tf32
    # It keeps 10 bits of float32's 23: rounding that the judge would take for a fault.
    matmul.allow_tf32 = cudnn.allow_tf32 = False
    torch.set_default_dtype(getattr(torch, dtype))
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = tf32
        torch.set_default_dtype(default)
        torch.set_rng_state(state)
        if on_gpus:
            torch.cuda.set_rng_state_all(on_gpus)


@contextlib.contextmanager
def _named_errors(who: str) -> Iterator[None]:
    try:
        yield
    except AlignmentError:
        raise
    except Exception as error:  # anything that a user's model may raise; the cause stays attached
        first_line = (str(error).strip() or "no message").splitlines()[0]
        raise AlignmentError(f"{who} raised {type(error).__name__}: {first_line}") from error
