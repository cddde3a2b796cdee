"""Paddle's training steps, each from torch's state."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import paddle
from paddle import nn

from alignment.paddle_side.layerwise import (
    at_the_reference,
    output_at_the_reference,
    watch_paddle,
)
from alignment.paddle_side.tensors import array_of_paddle
from alignment.pair import AlignmentError, TrainSetup
from alignment.recording.calls import match_calls
from alignment.recording.train_record import (
    PaddleStep,
    TrainRecord,
    TrainState,
    TrainStep,
    norm_of,
    rounded,
)
from alignment.weights.layout import to_paddle_layout
from alignment.weights.tensors import WeightMap
from factseg_paddle.optimizers.state import load_optimizer_state, optimizer_state
from factseg_paddle.optimizers.state_format import ENTRIES, OptimizerStateError


class StateRefusedError(AlignmentError):
    """Torch's optimizer state can't be loaded into Paddle's optimizer."""


class ForwardPass(NamedTuple):
    """A step's way forward.

    Attributes:
        value: the loss of the model as it is.
        loss: the loss at torch's activations, to go back from.
    """

    value: float
    loss: paddle.Tensor


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
        self._before: dict[str, np.ndarray] = {}
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

    def restore(self, step: int, before: TrainState) -> None:
        """Take over torch's state before a step.

        Raises:
            StateRefusedError: torch's optimizer state does not fit.
            AlignmentError: the state of such an optimizer can't be carried over.
        """
        if self._kind not in ENTRIES:
            raise AlignmentError(
                f"the state of {self._kind} can't be carried over; known are {', '.join(ENTRIES)}"
            )
        self._before = to_paddle_layout(self._map, before.weights).arrays
        self._set_weights(self._before)
        try:
            self._load_slots(step, before)
        except OptimizerStateError as error:
            raise StateRefusedError(f"torch's optimizer state does not fit: {error}") from error

    def forward(self, step: TrainStep) -> ForwardPass:
        """Run forward from the restored state, as the model is and at torch's activations."""
        watch = watch_paddle(self._model, self._rename)
        with paddle.no_grad(), watch:
            value = float(self._loss(self._run(self._model)))
        self._set_weights(self._before)  # that run has moved running statistics
        matched = match_calls(step.record.calls, list(watch.tree.parents))
        with at_the_reference(self._model, self._rename, step.activations, matched):
            output = self._run(self._model)
        loss = self._loss(output_at_the_reference(output, step.activations))
        return ForwardPass(value, loss)

    def step(self, record: TrainRecord, forward: ForwardPass) -> PaddleStep:
        """Go back and take the step that torch's record is of."""
        rate = float(self._optimizer.get_lr())
        forward.loss.backward()
        gradients = self._gradients()
        self._set_gradients(to_paddle_layout(self._map, record.gradients).arrays)
        self._take_step()
        clipped_norm = norm_of(self._each_gradient())
        self._optimizer.clear_grad(set_to_zero=False)
        state = optimizer_state(self._model, self._optimizer, record.step + 1)["state"]
        updates, buffers = self._changes()
        return PaddleStep(
            rate=rate,
            loss=forward.value,
            norm=norm_of(gradients.items()),
            clipped_norm=clipped_norm,
            gradients=gradients,
            updates=updates,
            buffers=buffers,
            slots={
                name: {entry: rounded(array) for entry, array in slots.items()}
                for name, slots in state.items()
            },
        )

    def _changes(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Return what the step added to each parameter, and the buffers after it."""
        parameters = dict(self._model.named_parameters())
        updates, buffers = {}, {}
        for name, tensor in self._model.state_dict().items():
            if name not in self._before:
                continue
            if name in parameters and parameters[name].trainable:
                updates[name] = rounded(array_of_paddle(tensor) - self._before[name])
            else:
                buffers[name] = array_of_paddle(tensor)
        return updates, buffers

    def _load_slots(self, step: int, before: TrainState) -> None:
        position = optimizer_state(self._model, self._optimizer, step)["scheduler"]
        dtypes = {n: p.numpy().dtype for n, p in self._model.named_parameters()}
        state: dict[str, dict[str, np.ndarray]] = {}
        for entry in dict.fromkeys(entry for slots in before.slots.values() for entry in slots):
            theirs = {name: slots[entry] for name, slots in before.slots.items() if entry in slots}
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
