"""Torch's training steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from alignment.compare import relative_error
from alignment.pair import AlignmentError, TrainSetup
from alignment.recording.nested import flatten
from alignment.recording.trace import Trace
from alignment.recording.train_record import (
    StepSensitivity,
    TrainRecord,
    TrainStep,
    after,
    norm_of,
    rounded,
)
from alignment.recording.value_key import Kind, ValueKey
from alignment.torch_side.layerwise import recording
from alignment.torch_side.perturbation import perturbed
from alignment.weights.models import array_of_torch
from alignment.weights.optimizer_slots import ENTRIES


class TorchTrainer:
    """Trains a torch model as the pair says, and records each step.

    Args:
        model: in training mode, on its device and in the dtype of the run.
        setup: optimizer, schedule and clipping.
        run: function of the model that gives its output.
        loss: function of an output that gives the scalar loss.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        setup: TrainSetup,
        run: Callable[[torch.nn.Module], Any],
        loss: Callable[[Any], torch.Tensor],
    ) -> None:
        self._model, self._run, self._loss = model, run, loss
        self._clip = setup.clip
        self._optimizer = setup.optimizer(model)
        if not isinstance(self._optimizer, torch.optim.Optimizer):
            kind = type(self._optimizer).__name__
            raise AlignmentError(f"torch_train.optimizer gives a {kind}, no torch optimizer")
        self._scheduler = setup.scheduler(self._optimizer) if setup.scheduler else None
        self._parameters = dict(model.named_parameters())

    def losses(self, steps: int) -> Iterator[float]:
        """Train freely; the loss of each step."""
        for _ in range(steps):
            self._optimizer.zero_grad()
            loss = self._loss(self._run(self._model))
            loss.backward()
            self._take_step()
            yield float(loss.detach())

    def steps(self, steps: int) -> Iterator[TrainStep]:
        """Train with the state rounded to float32 before each step."""
        self._round_state()
        for step in range(steps):
            yield self._recorded(step)

    def _recorded(self, step: int) -> TrainStep:
        rate = float(self._optimizer.param_groups[0]["lr"])
        before = {n: rounded(array_of_torch(p)) for n, p in self._parameters.items()}
        old = {n: array_of_torch(b) for n, b in self._model.named_buffers()}
        perturbed_step = self._perturbed(old)
        trace = Trace()
        with _VarianceWatch(self._model) as variances, recording(self._model, trace):
            output = self._run(self._model)
        for name, tensor in flatten(output, torch.is_tensor, "output"):
            trace.values[ValueKey(Kind.MODEL_OUTPUT, name)] = array_of_torch(tensor)
        loss = self._loss(output)
        loss.backward()
        observed = self._observed(loss, old)
        sensitivity = _sensitivity(observed, perturbed_step)
        del perturbed_step
        clipped_norm = self._apply(observed.gradients)
        updates = {
            name: rounded(array_of_torch(parameter) - before[name])
            for name, parameter in self._parameters.items()
            if parameter.requires_grad
        }
        record = TrainRecord(
            step,
            rate=rate,
            loss=float(loss.detach()),
            norm=norm_of(observed.gradients.items()),
            clipped_norm=clipped_norm,
            gradients=observed.gradients,
            updates=updates,
            buffers={n: array_of_torch(b) for n, b in self._model.named_buffers()},
            biased=variances.biased(),
            samples=variances.samples,
            slots=self._slots(),
            calls=list(trace.tree.parents),
            sensitivity=sensitivity,
        )
        with torch.no_grad():
            for name, update in updates.items():
                _set(self._parameters[name], after(before[name], update))
        self._optimizer.zero_grad()
        self._round_state()
        return TrainStep(record, trace.values)

    def _apply(self, gradients: Mapping[str, np.ndarray]) -> float:
        """Take a step with these gradients; return their norm after clipping."""
        with torch.no_grad():
            for name, gradient in gradients.items():
                _set(self._parameters[name].grad, gradient)
        self._take_step()
        # Clipped in place; of no use to anyone else, so it need not be kept.
        return norm_of((n, array_of_torch(p.grad)) for n, p in self._with_gradient())

    def _perturbed(self, buffers: Mapping[str, np.ndarray]) -> _Observed:
        """Return what the step would observe with the differences that Paddle can't avoid."""
        self._optimizer.zero_grad()
        with perturbed(self._model):
            loss = self._loss(self._run(self._model))
        loss.backward()
        observed = self._observed(loss, buffers)
        with torch.no_grad():
            for name, buffer in self._model.named_buffers():
                _set(buffer, buffers[name])
        self._optimizer.zero_grad()
        return observed

    def _observed(self, loss: torch.Tensor, old: Mapping[str, np.ndarray]) -> _Observed:
        added = {
            name: array_of_torch(buffer) - old[name]
            for name, buffer in self._model.named_buffers()
            if buffer.is_floating_point()
        }
        return _Observed(array_of_torch(loss), self._gradients(), added)

    def _take_step(self) -> None:
        if self._clip:
            self._clip(self._model)
        self._optimizer.step()
        if self._scheduler:
            self._scheduler.step()

    def _gradients(self) -> dict[str, np.ndarray]:
        return {name: rounded(array_of_torch(p.grad)) for name, p in self._with_gradient()}

    def _with_gradient(self) -> Iterator[tuple[str, torch.nn.Parameter]]:
        return ((n, p) for n, p in self._parameters.items() if p.grad is not None)

    def _slots(self) -> dict[str, dict[str, np.ndarray]]:
        slots = {}
        for name, parameter in self._parameters.items():
            entries = {
                ENTRIES.get(key, key): rounded(array_of_torch(value))
                for key, value in self._optimizer.state.get(parameter, {}).items()
                if key != "step" and torch.is_tensor(value)
            }
            if entries:
                slots[name] = entries
        return slots

    def _round_state(self) -> None:
        with torch.no_grad():
            tensors = [*self._model.buffers(), *self._model.parameters()]
            tensors += [
                value
                for state in self._optimizer.state.values()
                for key, value in state.items()
                if key != "step" and torch.is_tensor(value)
            ]
            for tensor in tensors:
                if tensor.is_floating_point():
                    tensor.copy_(tensor.float())


class _Observed(NamedTuple):
    """What a step is watched by: loss, gradients, and what was added to buffers."""

    loss: np.ndarray
    gradients: Mapping[str, np.ndarray]
    buffers: Mapping[str, np.ndarray]


def _sensitivity(exact: _Observed, perturbed_step: _Observed) -> StepSensitivity:
    exact_norm, perturbed_norm = (norm_of(run.gradients.items()) for run in (exact, perturbed_step))
    return StepSensitivity(
        loss=relative_error(exact.loss, perturbed_step.loss),
        norm=abs(perturbed_norm - exact_norm) / exact_norm if exact_norm else 0.0,
        gradients=_changes(exact.gradients, perturbed_step.gradients),
        buffers=_changes(exact.buffers, perturbed_step.buffers),
    )


def _changes(
    exact: Mapping[str, np.ndarray], perturbed_step: Mapping[str, np.ndarray]
) -> dict[str, float]:
    both = [name for name in exact if name in perturbed_step]
    return {name: relative_error(exact[name], perturbed_step[name]) for name in both}


class _VarianceWatch:
    """Follows what running variances would be without the factor n / (n - 1)."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.samples: dict[str, int] = {}
        self._biased: dict[str, torch.Tensor] = {}
        self._earlier: dict[str, torch.Tensor] = {}
        self._norms = {
            module: f"{name}.running_var".lstrip(".")
            for name, module in model.named_modules()
            if isinstance(module, _BatchNorm) and module.running_var is not None
        }
        self._handles: list[Any] = []

    def __enter__(self) -> _VarianceWatch:
        for module in self._norms:
            self._handles.append(module.register_forward_pre_hook(self._before))
            self._handles.append(module.register_forward_hook(self._after))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def biased(self) -> dict[str, np.ndarray]:
        """Return the variances by name, float64."""
        return {name: array_of_torch(tensor) for name, tensor in self._biased.items()}

    def _before(self, module: _BatchNorm, _inputs: tuple) -> None:
        name = self._norms[module]
        self._earlier[name] = module.running_var.double().clone()
        self._biased.setdefault(name, self._earlier[name].clone())

    def _after(self, module: _BatchNorm, inputs: tuple, _output: Any) -> None:
        name = self._norms[module]
        n = inputs[0].numel() // inputs[0].shape[1]
        if not module.training or n < 2:
            return
        # torch.nn: None means an average over all batches so far.
        part = module.momentum or 1.0 / float(module.num_batches_tracked)
        of_batch = (module.running_var.double() - (1 - part) * self._earlier[name]) / part
        self._biased[name] = (1 - part) * self._biased[name] + part * of_batch * (n - 1) / n
        self.samples[name] = n


def perturb_by_one_ulp(
    model: torch.nn.Module, weights: Mapping[str, np.ndarray], rng: np.random.Generator
) -> None:
    """Move each float of a model's weights to one of its two neighbours in float32."""
    with torch.no_grad():
        for name, tensor in model.state_dict(keep_vars=True).items():
            if tensor.is_floating_point():
                value = weights[name].astype(np.float32)
                up = rng.random(value.shape) < 0.5
                neighbour = np.nextafter(value, np.where(up, np.inf, -np.inf).astype(np.float32))
                _set(tensor, neighbour)


def _set(tensor: torch.Tensor, array: np.ndarray) -> None:
    tensor.copy_(torch.from_numpy(np.array(array, order="C")))
