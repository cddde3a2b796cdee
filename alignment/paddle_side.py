"""The Paddle model of a pair: its weights, and its runs in float32 and float64."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import paddle
from paddle import nn

from alignment.pair import AlignmentError, Pair
from alignment.structure import flatten, replace_tensors
from alignment.tensor_map import PaddleTensor
from alignment.tracing import CallNames, LayerRecorder, Trace
from alignment.weights import load_paddle_state, paddle_state, paddle_tensors


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
        with _as_found("float32", self.device):
            self.model = _made(pair.paddle_model)

    def tensors(self) -> tuple[PaddleTensor, ...]:
        """Names, shapes and Linear weights of the model."""
        return paddle_tensors(self.model)

    def weights(self) -> dict[str, np.ndarray]:
        """All tensors by name."""
        return paddle_state(self.model)

    def load(self, weights: Mapping[str, np.ndarray]) -> None:
        """Set all tensors."""
        load_paddle_state(self.model, weights)

    def received(self) -> dict[str, np.ndarray]:
        """Inputs and targets as Paddle holds them."""
        with _as_found("float32", self.device):
            arrays = self.pair.named_arrays()
            return {name: _array(_tensor(array)) for name, array in arrays.items()}

    def forward(self, dtype: str) -> Trace:
        """Run the model as it is: its layers, its outputs, its loss.

        Args:
            dtype: "float32" or "float64".

        Raises:
            AlignmentError: the model or the loss raised.
        """
        with _as_found(dtype, self.device), _named_errors(dtype), paddle.no_grad():
            model = self._copy_of_model(dtype)
            with self._recorder(model) as recorder:
                output = model(*(_tensor(array, dtype) for array in self.pair.inputs))
            trace = Trace(recorder.values, recorder.not_called)
            for name, tensor in flatten(output, paddle.is_tensor, "output"):
                trace.values[f"output/{name}"] = _array(tensor)
            if self.pair.paddle_loss:
                loss, _ = self._loss(output, backward=False)
                trace.values["loss/loss"] = _array(loss)
            return trace

    def backward(
        self,
        dtype: str,
        activations: Mapping[str, np.ndarray],
        output_gradients: Mapping[str, np.ndarray],
    ) -> Trace:
        """Run backward at the reference's activations.

        Gradients jump where a ReLU's input or the distance of two pixels from a top-k's cut is 0
        but for rounding, and two programs that are both right land on either side. So every layer
        hands on the reference's output (its own gradient is kept), the loss is differentiated at
        the reference's outputs, and the reference's gradient of them is sent back.

        Args:
            dtype: "float32" or "float64".
            activations: the reference's values in `dtype`, by the names of its trace; where a
                value is missing, the model's own is used.
            output_gradients: the reference's, by output name; empty to use the model's own.

        Raises:
            AlignmentError: the model or the loss raised.
        """
        with _as_found(dtype, self.device), _named_errors(dtype):
            model = self._copy_of_model(dtype)
            inputs = [_tensor(array, dtype) for array in self.pair.inputs]
            for tensor in inputs:
                tensor.stop_gradient = not tensor.is_floating_point()
            with _forced(model, activations, self.pair.rename):
                output = model(*inputs)
            outputs = dict(flatten(output, paddle.is_tensor, "output"))
            reference = (
                _forced_value(tensor, activations.get(f"output/{name}"))
                for name, tensor in outputs.items()
            )
            _, gradients = self._loss(
                replace_tensors(output, paddle.is_tensor, reference), backward=True
            )
            trace = Trace()
            own = dict(zip(outputs, gradients, strict=True))
            _add(trace, "output_gradient", own)
            _backward(outputs, output_gradients or own, dtype)
            _add(trace, "gradient", {n: p.grad for n, p in model.named_parameters()})
            _add(trace, "input_gradient", {f"inputs[{i}]": t.grad for i, t in enumerate(inputs)})
            return trace

    def _loss(self, output: Any, *, backward: bool) -> tuple[paddle.Tensor, list]:
        """The loss, and its gradient with respect to the outputs as they are handed over."""
        leaves = [tensor.detach() for _, tensor in flatten(output, paddle.is_tensor)]
        for leaf in leaves:
            leaf.stop_gradient = not (backward and leaf.is_floating_point())
        targets = [_tensor(array) for array in self.pair.targets]
        handed = replace_tensors(output, paddle.is_tensor, iter(leaves))
        with paddle.set_grad_enabled(backward):
            loss = self.pair.paddle_loss(handed, *targets)
        if loss.size != 1:
            raise AlignmentError(f"paddle_loss gives shape {list(loss.shape)}; give a scalar")
        gradients: list = [None] * len(leaves)
        if backward and not loss.stop_gradient:
            wanted = [i for i, leaf in enumerate(leaves) if not leaf.stop_gradient]
            found = paddle.grad(loss, [leaves[i] for i in wanted], allow_unused=True)
            for index, gradient in zip(wanted, found, strict=True):
                gradients[index] = gradient
        return loss.detach(), gradients

    def _recorder(self, model: nn.Layer) -> LayerRecorder:
        return LayerRecorder(
            model.named_sublayers(),
            add_hook=lambda layer, callback: layer.register_forward_post_hook(callback),
            is_tensor=paddle.is_tensor,
            to_array=_array,
            version=lambda tensor: tensor.inplace_version,
            rename=self.pair.rename,
        )

    def _copy_of_model(self, dtype: str) -> nn.Layer:
        model = copy.deepcopy(self.model)
        model.to(dtype=dtype)
        (model.train if self.pair.mode == "train" else model.eval)()
        return model


def _made(model: Any) -> nn.Layer:
    if isinstance(model, nn.Layer):
        return model
    if not callable(model):
        raise AlignmentError(
            f"paddle_model is a {type(model).__name__}; give a paddle.nn.Layer or a function"
        )
    made = model()
    if not isinstance(made, nn.Layer):
        raise AlignmentError(f"paddle_model gave a {type(made).__name__}, not a paddle.nn.Layer")
    return made


def _tensor(array: np.ndarray, dtype: str | None = None) -> paddle.Tensor:
    tensor = paddle.to_tensor(np.array(array, order="C"))
    return tensor.astype(dtype) if dtype and tensor.is_floating_point() else tensor


def _array(tensor: paddle.Tensor) -> np.ndarray:
    return np.array(tensor.detach().numpy())


@contextlib.contextmanager
def _forced(
    model: nn.Layer, activations: Mapping[str, np.ndarray], rename: Mapping[str, str]
) -> Iterator[None]:
    """Let every layer hand on the reference's output, with the gradient of its own."""
    names = CallNames(model.named_sublayers(), rename)

    def force(layer: nn.Layer, _inputs: Any, output: Any) -> Any:
        call = names.next_call(layer)
        values = (
            _forced_value(tensor, activations.get(f"layer/{name}"))
            for name, tensor in flatten(output, paddle.is_tensor, call)
        )
        return replace_tensors(output, paddle.is_tensor, values)

    handles = [layer.register_forward_post_hook(force) for layer in names.layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _forced_value(tensor: paddle.Tensor, reference: np.ndarray | None) -> paddle.Tensor:
    if reference is None or not tensor.is_floating_point():
        return tensor
    if tuple(tensor.shape) != reference.shape:
        return tensor  # the forward step names it
    return tensor + (_tensor(reference, str(tensor.dtype).rpartition(".")[2]) - tensor).detach()


def _backward(outputs: dict[str, paddle.Tensor], gradients: Mapping[str, Any], dtype: str) -> None:
    pairs = [
        (tensor, paddle.to_tensor(gradients[name], dtype=dtype))
        for name, tensor in outputs.items()
        if gradients.get(name) is not None and not tensor.stop_gradient
    ]
    if pairs:
        paddle.autograd.backward([t for t, _ in pairs], [g for _, g in pairs])


def _add(trace: Trace, kind: str, tensors: dict[str, paddle.Tensor | None]) -> None:
    for name, tensor in tensors.items():
        if tensor is not None:
            trace.values[f"{kind}/{name}"] = _array(tensor)


@contextlib.contextmanager
def _as_found(dtype: str, device: str) -> Iterator[None]:
    """Leave Paddle's default dtype, device and random state as they were."""
    default, place = paddle.get_default_dtype(), paddle.device.get_device()
    state = paddle.get_rng_state()
    paddle.set_default_dtype(dtype)
    paddle.device.set_device(device)
    try:
        yield
    finally:
        paddle.set_default_dtype(default)
        paddle.device.set_device(place)
        paddle.set_rng_state(state)


@contextlib.contextmanager
def _named_errors(dtype: str) -> Iterator[None]:
    try:
        yield
    except AlignmentError:
        raise
    except Exception as error:  # anything that a user's model may raise; the cause stays attached
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        # Paddle prints its own C++ stack first; the sentence follows "[Hint" or "Error:".
        telling = next((line for line in lines if "Error:" in line), lines[0] if lines else "")
        raise AlignmentError(
            f"the Paddle side in {dtype} raised: {telling or type(error).__name__}"
        ) from error
