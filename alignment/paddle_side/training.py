"""Paddle's training steps, each from torch's state."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import paddle
from paddle import nn

from alignment.paddle_side.layerwise import (
    array_of_paddle,
    at_the_reference,
    output_at_the_reference,
    watch_paddle,
)
from alignment.pair import AlignmentError, TrainSetup
from alignment.recording.calls import match_calls
from alignment.recording.train_record import PaddleStep, TrainRecord, TrainState, norm_of, rounded
from alignment.weights.layout import to_paddle_layout
from alignment.weights.tensors import WeightMap
from factseg_paddle.optimizers.state import load_optimizer_state, optimizer_state
from factseg_paddle.optimizers.state_format import ENTRIES, OptimizerStateError


class PaddleTrainer:
    """Trains a Paddle model as the pair says.

    Args:
        model: in training mode and in the dtype of the run.
        setup: optimizer, which holds the schedule, and clipping.
        run: function of the model that gives its output.
        loss: function of an output that gives the scalar loss.
        weight_map: which torch tensor is which Paddle tensor.
        rename: from the pair.
    """

    def __init__(
        self,
        model: nn.Layer,
        setup: TrainSetup,
        run: Callable[[nn.Layer], Any],
        loss: Callable[[Any], paddle.Tensor],
        weight_map: WeightMap | None,
        rename: Mapping[str, str],
    ) -> None:
        self._model, self._run, self._loss = model, run, loss
        self._clip = setup.clip
        self._map, self._rename = weight_map, rename
        self._optimizer = setup.optimizer(model)
        self._kind = type(self._optimizer).__name__
        if not isinstance(self._optimizer, paddle.optimizer.Optimizer):
            raise AlignmentError(
                f"paddle_train.optimizer gives a {self._kind}, no Paddle optimizer"
            )
        if setup.scheduler:
            raise AlignmentError("in Paddle the optimizer holds the schedule; leave scheduler out")

    def losses(self, steps: int) -> Iterator[float]:
        """Train freely; the loss of each step."""
        for _ in range(steps):
            loss = self._loss(self._run(self._model))
            loss.backward()
            self._take_step()
            self._optimizer.clear_grad(set_to_zero=False)
            yield float(loss)

    def step(self, record: TrainRecord, before: TrainState) -> PaddleStep:
        """Take the step that torch's record is of, from the state before it."""
        if self._kind not in ENTRIES:
            raise AlignmentError(
                f"the state of {self._kind} can't be carried over; known are {', '.join(ENTRIES)}"
            )
        weights = to_paddle_layout(self._map, before.weights).arrays
        self._set_weights(weights)
        try:
            self._load_slots(record.step, before)
        except OptimizerStateError as error:
            return PaddleStep(refused=f"torch's optimizer state does not fit: {error}")
        return self._taken(record, weights)

    def _load_slots(self, step: int, before: TrainState) -> None:
        position = optimizer_state(self._model, self._optimizer, step)["scheduler"]
        dtypes = {n: p.numpy().dtype for n, p in self._model.named_parameters()}
        state: dict[str, dict[str, np.ndarray]] = {}
        for entry in dict.fromkeys(entry for own in before.slots.values() for entry in own):
            theirs = {name: own[entry] for name, own in before.slots.items() if entry in own}
            for name, array in to_paddle_layout(self._map, theirs).arrays.items():
                state.setdefault(name, {})[entry] = array.astype(dtypes[name])
        # The schedule stays Paddle's own: whether it keeps up with torch's is what is judged.
        content = {"type": self._kind, "step": step, "state": state, "scheduler": position}
        load_optimizer_state(self._model, self._optimizer, content)

    def _set_weights(self, weights: Mapping[str, np.ndarray]) -> None:
        with paddle.no_grad():
            for name, tensor in self._model.state_dict().items():
                if name in weights:
                    tensor.set_value(weights[name].astype(tensor.numpy().dtype))

    def _taken(self, record: TrainRecord, before: Mapping[str, np.ndarray]) -> PaddleStep:
        made = PaddleStep(rate=float(self._optimizer.get_lr()))
        watch = watch_paddle(self._model, self._rename)
        with paddle.no_grad(), watch:
            made.loss = float(self._loss(self._run(self._model)))
        self._set_weights(before)  # that run has moved running statistics
        matched = match_calls(record.calls, list(watch.tree.parents))
        with at_the_reference(self._model, self._rename, record.activations, matched):
            output = self._run(self._model)
        loss = self._loss(output_at_the_reference(output, record.activations))
        record.activations = {}  # Paddle has its own copies, and backward needs the memory
        loss.backward()
        made.gradients = self._gradients()
        made.norm = norm_of(made.gradients.items())
        self._set_gradients(to_paddle_layout(self._map, record.gradients).arrays)
        self._take_step()
        made.clipped_norm = norm_of(self._each_gradient())
        self._optimizer.clear_grad(set_to_zero=False)
        parameters = dict(self._model.named_parameters())
        for name, tensor in self._model.state_dict().items():
            if name in parameters and parameters[name].trainable:
                if name in before:
                    made.updates[name] = rounded(array_of_paddle(tensor) - before[name])
            elif name in before:
                made.buffers[name] = array_of_paddle(tensor)
        state = optimizer_state(self._model, self._optimizer, record.step + 1)["state"]
        made.slots = {
            name: {entry: rounded(array) for entry, array in own.items()}
            for name, own in state.items()
        }
        return made

    def _gradients(self) -> dict[str, np.ndarray]:
        return {name: rounded(gradient) for name, gradient in self._each_gradient()}

    def _each_gradient(self) -> Iterator[tuple[str, np.ndarray]]:
        named = self._model.named_parameters()
        return ((n, array_of_paddle(p.grad)) for n, p in named if p.grad is not None)

    def _set_gradients(self, gradients: Mapping[str, np.ndarray]) -> None:
        for name, parameter in self._model.named_parameters():
            if parameter.grad is None:
                continue
            if name in gradients and gradients[name].shape == tuple(parameter.shape):
                value = np.array(gradients[name], order="C").astype(parameter.numpy().dtype)
                parameter.grad.set_value(value)
            else:
                parameter.clear_gradient(set_to_zero=False)

    def _take_step(self) -> None:
        if self._clip:
            self._clip(self._model)
        self._optimizer.step()
        scheduler = self._optimizer._learning_rate
        if isinstance(scheduler, paddle.optimizer.lr.LRScheduler):
            scheduler.step()
