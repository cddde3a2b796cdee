"""The Paddle model of a pair: its weights, and its runs in float32 and float64."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import paddle
from paddle import nn
from paddle.base import core
from paddle.nn.layer.rnn import RNNBase

from alignment.paddle_side.layerwise import (
    PaddleLayerwiseRun,
    at_the_reference,
    output_at_the_reference,
    watch_paddle,
)
from alignment.paddle_side.tensors import PADDLE, array_of_paddle
from alignment.paddle_side.training import PaddleTrainer
from alignment.pair import AlignmentError, Pair
from alignment.recording.determinism import OTHER_SEED, Repeat
from alignment.recording.layerwise import LayerwiseReference, Observe
from alignment.recording.nested import flatten, replace_tensors
from alignment.recording.trace import LayerRecorder, Trace
from alignment.recording.value_key import Kind, ValueKey
from alignment.weights.models import load_paddle_state, paddle_state, paddle_tensors
from alignment.weights.tensors import PaddleTensor, WeightMap


class PaddleSide:
    """The port.

    Args:
        pair: the pair; of a model given as an instance only the weights change, by the transfer.
        device: "cpu" or "gpu".

    Raises:
        AlignmentError: the model can't be made, or there is no such device.
    """

    def __init__(self, pair: Pair, device: str = "cpu") -> None:
        if device == "gpu" and not (
            paddle.is_compiled_with_cuda() and paddle.device.cuda.device_count()
        ):
            raise AlignmentError("this Paddle sees no GPU; use --device cpu")
        self.pair = pair
        self.device = "gpu:0" if device == "gpu" else "cpu"
        with isolated_framework_state("float32", self.device), _named_errors("paddle_model"):
            self.model = _made(pair.paddle_model)

    def tensors(self) -> tuple[PaddleTensor, ...]:
        """Return names, shapes and Linear weights of the model."""
        return paddle_tensors(self.model)

    def weights(self) -> dict[str, np.ndarray]:
        """Return all tensors by name."""
        return paddle_state(self.model)

    def load(self, weights: Mapping[str, np.ndarray]) -> None:
        """Set the tensors, all or none of them.

        Raises:
            WeightsError: they don't fit.
        """
        load_paddle_state(self.model, weights)

    def received(self) -> dict[str, np.ndarray]:
        """Return inputs and targets as Paddle holds them."""
        with (
            isolated_framework_state("float32", self.device),
            _named_errors("Paddle, given the inputs,"),
        ):
            arrays = self.pair.named_arrays()
            return {name: array_of_paddle(_tensor(array)) for name, array in arrays.items()}

    def forward(self, dtype: str, trace: Trace, mode: str | None = None) -> Any:
        """Run the model as it is, and add its layers and its outputs to the trace.

        Args:
            dtype: "float32" or "float64".
            trace: an empty one; when the model raises it holds the layers that returned.
            mode: "eval" or "train"; the pair's where None.

        Returns:
            The model's output.

        Raises:
            AlignmentError: the model raised.
        """
        with self._running(dtype), paddle.no_grad():
            model = self._copy_of_model(dtype, mode)
            watch = watch_paddle(model, self.pair.rename, on_end=LayerRecorder(trace, PADDLE))
            trace.tree = watch.tree
            with watch:
                output = model(*(_tensor(array, dtype) for array in self.pair.inputs))
            for name, tensor in flatten(output, paddle.is_tensor, "output"):
                trace.values[ValueKey(Kind.MODEL_OUTPUT, name)] = array_of_paddle(tensor)
            return output

    def loss(self, dtype: str, output: Any) -> np.ndarray:
        """Return the loss of an output of `forward`.

        Raises:
            AlignmentError: the loss raised, or is no scalar.
        """
        with self._running(dtype):
            return array_of_paddle(self._loss(output, dtype, backward=False)[0])

    def backward(
        self,
        dtype: str,
        activations: Mapping[ValueKey, np.ndarray],
        output_gradients: Mapping[str, np.ndarray],
        matched: Mapping[str, str],
    ) -> Trace:
        """Run backward at the reference's activations.

        Gradients jump where a ReLU's input or the distance of two pixels from a top-k's cut is 0
        but for rounding, and two programs that are both right land on either side. So every layer
        hands on the reference's output (its own gradient is kept), the loss is differentiated at
        the reference's outputs, and the reference's gradient of them is sent back.

        Args:
            dtype: "float32" or "float64".
            activations: the reference's outputs of layers and model in `dtype`; where a value is
                missing, the model's own is used.
            output_gradients: the reference's, by output name; empty to use the model's own.
            matched: {call of Paddle's: torch's}, see `match_calls`.

        Raises:
            AlignmentError: the model or the loss raised.
        """
        with self._running(dtype), paddle.set_grad_enabled(True):
            model = self._copy_of_model(dtype)
            _let_recurrent_layers_go_back(model)
            inputs = [_tensor(array, dtype) for array in self.pair.inputs]
            for tensor in inputs:
                tensor.stop_gradient = not tensor.is_floating_point()
            with at_the_reference(model, self.pair.rename, activations, matched):
                # Clones: a model may overwrite what it is given, and a leaf must not be.
                output = model(*(tensor.clone() for tensor in inputs))
            outputs = dict(flatten(output, paddle.is_tensor, "output"))
            _, gradients = self._loss(
                output_at_the_reference(output, activations), dtype, backward=True
            )
            trace = Trace()
            own_gradients = dict(zip(outputs, gradients, strict=True))
            _add(trace, Kind.MODEL_GRAD_OUTPUT, own_gradients)
            _backward(outputs, own_gradients, output_gradients)
            _add(trace, Kind.PARAMETER_GRAD, {n: p.grad for n, p in model.named_parameters()})
            for index, tensor in enumerate(inputs):
                if tensor.grad is not None:
                    key = ValueKey(Kind.MODEL_GRAD_INPUT, "inputs", index)
                    trace.values[key] = array_of_paddle(tensor.grad)
            return trace

    def layerwise(
        self,
        reference: LayerwiseReference,
        layers: Mapping[str, str],
        observe: Observe,
        *,
        dtype: str,
        backward: bool,
    ) -> list[str]:
        """Run each layer by itself; see `alignment.recording.layerwise`.

        Returns:
            The calls that could not be, since torch gives its layer another number of tensors.

        Raises:
            AlignmentError: the model raised.
        """
        with self._running(dtype), paddle.set_grad_enabled(True):
            model = self._copy_of_model(dtype)
            _let_recurrent_layers_go_back(model)
            run = PaddleLayerwiseRun(reference, layers, observe, dtype=dtype, backward=backward)
            run.run(model, self.pair.inputs, self.pair.rename)
            return run.mismatched_calls

    def repeat(self, first: Trace, mode: str | None = None) -> Repeat:
        """Run forward in float32 once more, from another random state; see `Repeat`."""
        with self._running("float32"), paddle.no_grad():
            paddle.seed(OTHER_SEED)
            model = self._copy_of_model("float32", mode)
            repeat = Repeat(first, PADDLE)
            watch = watch_paddle(model, self.pair.rename, repeat.begin, repeat.end)
            with repeat.over(watch):
                output = model(*(_tensor(array, "float32") for array in self.pair.inputs))
            repeat.finish(output)
            return repeat

    @contextlib.contextmanager
    def training(self, dtype: str, weight_map: WeightMap | None) -> Iterator[PaddleTrainer]:
        """Yield a trainer of another copy of the model, to be used inside.

        Raises:
            AlignmentError: the model, the loss or the optimizer raised.
        """
        with self._running(dtype), paddle.set_grad_enabled(True):
            inputs = [_tensor(array, dtype) for array in self.pair.inputs]
            targets = [_tensor(array, dtype) for array in self.pair.targets]

            def run(model: nn.Layer) -> Any:
                return model(*(tensor.clone() for tensor in inputs))

            def loss(output: Any) -> paddle.Tensor:
                return self.pair.paddle_loss(output, *targets)

            model = self._copy_of_model(dtype, "train")
            setup, rename = self.pair.paddle_train, self.pair.rename
            yield PaddleTrainer(model, setup, run, loss, weight_map, rename)

    @contextlib.contextmanager
    def _running(self, dtype: str) -> Iterator[None]:
        with (
            isolated_framework_state(dtype, self.device),
            _named_errors(f"the Paddle side in {dtype}"),
        ):
            yield

    def _loss(self, output: Any, dtype: str, *, backward: bool) -> tuple[paddle.Tensor, list]:
        """Compute the loss and its gradient with respect to the outputs as they are handed over."""
        leaves = [tensor.detach() for _, tensor in flatten(output, paddle.is_tensor)]
        for leaf in leaves:
            leaf.stop_gradient = not (backward and leaf.is_floating_point())
        targets = [_tensor(array, dtype) for array in self.pair.targets]
        with paddle.set_grad_enabled(backward):
            clones = (leaf.clone() for leaf in leaves)  # a loss may write into them
            copied_output = replace_tensors(output, paddle.is_tensor, clones)
            loss = self.pair.paddle_loss(copied_output, *targets)
        if not paddle.is_tensor(loss):
            raise AlignmentError(f"paddle_loss gives a {type(loss).__name__}; give a scalar tensor")
        if loss.size != 1:
            raise AlignmentError(f"paddle_loss gives shape {list(loss.shape)}; give a scalar")
        gradients: list = [None] * len(leaves)
        if backward and not loss.stop_gradient:
            wanted = [i for i, leaf in enumerate(leaves) if not leaf.stop_gradient]
            wanted_gradients = paddle.grad(loss, [leaves[i] for i in wanted], allow_unused=True)
            for index, gradient in zip(wanted, wanted_gradients, strict=True):
                gradients[index] = gradient
        return loss.detach(), gradients

    def _copy_of_model(self, dtype: str, mode: str | None = None) -> nn.Layer:
        model = self._another_model()
        # Not `to`, which makes floats of integer buffers as well (Paddle 3.3).
        model._to_impl(dtype=dtype, floating_only=True)
        (model.train if (mode or self.pair.mode) == "train" else model.eval)()
        return model

    def _another_model(self) -> nn.Layer:
        """Return the same model again, which a run may change.

        Made by the pair's function where there is one: a copy of a model whose `forward` was
        replaced would still run the layers of the original.
        """
        if not isinstance(self.pair.paddle_model, nn.Layer):
            with isolated_framework_state("float32", self.device):
                model = _made(self.pair.paddle_model)
            shared = {id(tensor) for tensor in self.model.state_dict().values()}
            if not any(id(tensor) in shared for tensor in model.state_dict().values()):
                load_paddle_state(model, self.weights())
                return model
        return copy.deepcopy(self.model)


def _let_recurrent_layers_go_back(model: nn.Layer) -> None:
    """Let LSTM and GRU go back in evaluation mode, where Paddle's keep nothing for it (3.3.1).

    In training mode without dropout they compute the same.
    """
    for layer in model.sublayers(include_self=True):
        if isinstance(layer, RNNBase) and not layer.training:
            layer.train()
            layer.dropout = 0.0


def _made(model: Any) -> nn.Layer:
    if isinstance(model, nn.Layer):
        return model
    if not callable(model):
        raise AlignmentError(
            f"paddle_model is a {type(model).__name__}; give a paddle.nn.Layer or a function"
        )
    layer = model()
    if not isinstance(layer, nn.Layer):
        raise AlignmentError(f"paddle_model gave a {type(layer).__name__}, not a paddle.nn.Layer")
    return layer


def _tensor(array: np.ndarray, dtype: str | None = None) -> paddle.Tensor:
    tensor = paddle.to_tensor(np.array(array, order="C"))
    return tensor.astype(dtype) if dtype and tensor.is_floating_point() else tensor


def _backward(
    outputs: Mapping[str, paddle.Tensor],
    own_gradients: Mapping[str, paddle.Tensor | None],
    reference: Mapping[str, np.ndarray],
) -> None:
    """Send the reference's gradients back; the model's own where there is none that fits."""
    sums: dict[int, tuple[paddle.Tensor, paddle.Tensor]] = {}  # one may go by several names
    for name, tensor in outputs.items():
        gradient = own_gradients[name]
        if name in reference and reference[name].shape == tuple(tensor.shape):
            gradient = paddle.to_tensor(reference[name])
        if gradient is not None and not tensor.stop_gradient:
            gradient = gradient.astype(tensor.dtype)
            earlier = sums.get(id(tensor))
            sums[id(tensor)] = (tensor, gradient if earlier is None else earlier[1] + gradient)
    if sums:
        paddle.autograd.backward([t for t, _ in sums.values()], [g for _, g in sums.values()])


def _add(trace: Trace, kind: Kind, tensors: Mapping[str, paddle.Tensor | None]) -> None:
    for name, tensor in tensors.items():
        if tensor is not None:
            trace.values[ValueKey(kind, name)] = array_of_paddle(tensor)


@contextlib.contextmanager
def isolated_framework_state(dtype: str, device: str) -> Iterator[None]:
    """Leave Paddle's default dtype, device, random state and TF32 as they were.

    TF32 is off inside: it keeps 10 bits of float32's 23.
    """
    default, place = paddle.get_default_dtype(), paddle.device.get_device()
    state = paddle.get_rng_state()
    tf32 = core.get_cublas_switch(), core.get_cudnn_switch()
    core.set_cublas_switch(False)
    core.set_cudnn_switch(False)
    paddle.set_default_dtype(dtype)
    paddle.device.set_device(device)
    try:
        yield
    finally:
        core.set_cublas_switch(tf32[0])
        core.set_cudnn_switch(tf32[1])
        paddle.set_default_dtype(default)
        paddle.device.set_device(place)
        paddle.set_rng_state(state)


@contextlib.contextmanager
def _named_errors(who: str) -> Iterator[None]:
    try:
        yield
    except AlignmentError:
        raise
    except Exception as error:  # anything that a user's model may raise; the cause stays attached
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        # Paddle prints its own C++ stack first; the sentence follows "[Hint" or "Error:".
        telling = next((line for line in lines if "Error:" in line), lines[0] if lines else "")
        raise AlignmentError(
            f"{who} raised {type(error).__name__}: {telling or 'no message'}"
        ) from error
