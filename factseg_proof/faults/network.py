"""Faults in the network, in its weights and in its numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any
from unittest import mock

import paddle
import paddle.nn.functional as F
from paddle import nn
from paddle.autograd import PyLayer

from alignment.pair import Pair
from factseg_paddle import FactSeg
from factseg_paddle.models import factseg as factseg_model
from factseg_proof.faults.fault import Plant
from factseg_proof.pairs.seeded import seeded_weight

RESNET = "resencoder.resnet"

Change = Callable[[FactSeg], None]


def in_model(change: Change) -> Plant:
    """Return a fault in the network."""

    def faulty_model(make: Callable[[], FactSeg]) -> FactSeg:
        net = make()
        change(net)
        return net

    return lambda pair, _seed: replace(pair, paddle_model=partial(faulty_model, pair.paddle_model))


def in_weights(change: Callable[[dict[str, Any]], None]) -> Plant:
    """Return a fault in weights carried over by hand; `change` is given Paddle's state dict."""

    def faulty_model(make: Callable[[], FactSeg], seed: int) -> FactSeg:
        net = make()
        state = net.state_dict()
        for name, tensor in state.items():
            torch_name = name.replace("._mean", ".running_mean")
            torch_name = torch_name.replace("._variance", ".running_var")
            tensor.set_value(seeded_weight(torch_name, tuple(tensor.shape), seed))
        change(state)
        return net

    def plant(pair: Pair, seed: int) -> Pair:
        return replace(
            pair, paddle_model=partial(faulty_model, pair.paddle_model, seed), transfer=False
        )

    return plant


def wrap(path: str, function: Callable[[Callable, paddle.Tensor], Any]) -> Change:
    """Replace the forward function of the layer at `path`: function (right forward, input)."""

    def change(net: FactSeg) -> None:
        layer = _layer(net, path)
        layer.forward = partial(function, layer.forward)

    return change


def swap(path: str, make: Callable[[nn.Layer], nn.Layer]) -> Change:
    """Put another layer, made of the right one, at `path`."""

    def change(net: FactSeg) -> None:
        parent, _, name = path.rpartition(".")
        holder = _layer(net, parent)
        holder.add_sublayer(name, make(_layer(net, path)))

    return change


def attributes(path: str, **values: Any) -> Change:
    """Set attributes of the layer at `path`."""

    def change(net: FactSeg) -> None:
        for name, value in values.items():
            setattr(_layer(net, path), name, value)

    return change


def _layer(net: nn.Layer, path: str) -> nn.Layer:
    return dict(net.named_sublayers(include_self=True))[path]


def logits_of_swapped_branches(net: FactSeg) -> None:
    """Give each decoder the other branch's pyramid."""

    def forward(x: paddle.Tensor) -> Any:
        features = net.resencoder(x)
        foreground, binary = net.fgfpn(features), net.bifpn(features)
        class_logits = net.fg_cls(net.fg_decoder(binary))
        binary_logits = net.bi_cls(net.bi_decoder(foreground))
        return _output(class_logits, binary_logits)

    net.forward = forward


def _output(class_logits: paddle.Tensor, binary_logits: paddle.Tensor, **options: Any) -> Any:
    choice = {"scale_factor": 4, "mode": "bilinear", "align_corners": True} | options
    return factseg_model.FactSegOutput(
        F.interpolate(class_logits, **choice), F.interpolate(binary_logits, **choice)
    )


def forward(
    net: FactSeg,
    *,
    of_features: Callable[[tuple], tuple] = lambda features: features,
    of_decoded: Callable[[paddle.Tensor], paddle.Tensor] = lambda decoded: decoded,
    of_binary: Callable[[paddle.Tensor], paddle.Tensor] = lambda logits: logits,
    binary_first: bool = False,
    **options: Any,
) -> None:
    """Write FactSeg's forward anew, with a change."""

    def forward(x: paddle.Tensor) -> Any:
        features = net.resencoder(x)

        def binary() -> paddle.Tensor:
            return net.bi_cls(of_decoded(net.bi_decoder(net.bifpn(of_features(features)))))

        first = binary() if binary_first else None
        class_logits = net.fg_cls(net.fg_decoder(net.fgfpn(features)))
        return _output(class_logits, of_binary(binary() if first is None else first), **options)

    net.forward = forward


def decoder_without_mean(net: FactSeg) -> None:
    """Leave out the division by four."""
    decoder = net.bi_decoder
    decoder.forward = lambda features: sum(
        block(feature) for block, feature in zip(decoder.blocks, features, strict=True)
    )


def decoder_that_sums_backwards(net: FactSeg) -> None:
    """Add the levels from the coarsest to the finest."""
    decoder = net.fg_decoder

    def forward(features: tuple) -> paddle.Tensor:
        outputs = [block(feature) for block, feature in zip(decoder.blocks, features, strict=True)]
        return (outputs[3] + outputs[2] + outputs[1] + outputs[0]) / 4

    decoder.forward = forward


def bilinear_fpn(net: FactSeg) -> None:
    """Let the top-down path interpolate."""
    fpn = net.fgfpn

    def forward(features: tuple) -> tuple:
        with mock.patch.object(F, "interpolate", partial(_bilinear, F.interpolate)):
            return type(fpn).forward(fpn, features)

    fpn.forward = forward


def _bilinear(right: Callable, x: paddle.Tensor, **options: Any) -> paddle.Tensor:
    return right(x, **options | {"mode": "bilinear"})


def block(net: FactSeg, *, path: str, relu1: bool = True, relu3: bool = False) -> None:
    """Write a bottleneck's forward anew, without its first ReLU or with one too many."""
    block = _layer(net, path)

    def forward(x: paddle.Tensor) -> paddle.Tensor:
        out = block.bn1(block.conv1(x))
        out = block.relu(out) if relu1 else out
        out = block.relu(block.bn2(block.conv2(out)))
        out = block.bn3(block.conv3(out))
        out = block.relu(out) if relu3 else out
        return block.relu(out + (block.downsample(x) if block.downsample else x))

    block.forward = forward


def stride_on_first(net: FactSeg) -> None:
    """Move a block's stride to its first convolution."""
    block = _layer(net, f"{RESNET}.layer2.0")
    block.conv1._stride, block.conv2._stride = [2, 2], [1, 1]


def shared_norm(net: FactSeg) -> None:
    """Let two BatchNorms of a block be one."""
    block = _layer(net, f"{RESNET}.layer3.1")
    block.bn2 = block.bn1


def freeze(name: str) -> Change:
    """Freeze one parameter."""

    def change(net: FactSeg) -> None:
        dict(net.named_parameters())[name].stop_gradient = True

    return change


def double(name: str) -> Change:
    """Double one parameter's gradient."""

    def change(net: FactSeg) -> None:
        dict(net.named_parameters())[name].register_hook(lambda gradient: 2 * gradient)

    return change


class Scaled(PyLayer):
    """The identity with twice the gradient."""

    @staticmethod
    def forward(_ctx: Any, x: paddle.Tensor) -> paddle.Tensor:
        """Copy the tensor."""
        return x.clone()

    @staticmethod
    def backward(_ctx: Any, gradient: paddle.Tensor) -> paddle.Tensor:
        """Give twice the gradient."""
        return 2 * gradient


def with_one_element(value: float) -> Callable[[Callable, paddle.Tensor], paddle.Tensor]:
    """Return a wrapper that adds a value to one element, or makes it NaN."""

    def function(right: Callable, x: paddle.Tensor) -> paddle.Tensor:
        out = right(x)
        at = paddle.to_tensor([out.size // 3])
        put = paddle.to_tensor([value], dtype=out.dtype)
        if value == value:
            put = put + out.flatten().detach()[out.size // 3]
        return out.flatten().scatter(at, put).reshape(out.shape)

    return function


def half(right: Callable, x: paddle.Tensor) -> paddle.Tensor:
    """Round a layer's output to float16."""
    return right(x).astype("float16").astype(x.dtype)


def half_of_single(right: Callable, x: paddle.Tensor) -> paddle.Tensor:
    """Round a float32 layer's output to float16."""
    return half(right, x) if x.dtype == paddle.float32 else right(x)


# Weights -----------------------------------------------------------------------------------------

State = dict[str, paddle.Tensor]


def transposed(name: str) -> Callable[[State], None]:
    """Swap height and width of a kernel."""
    return lambda state: state[name].set_value(state[name].transpose([0, 1, 3, 2]))


def one_element_off(name: str) -> Callable[[State], None]:
    """Move one element by a thousandth of itself."""

    def change(state: State) -> None:
        array = state[name].numpy()
        array.flat[array.size // 2] *= 1.001
        state[name].set_value(array)

    return change


def exchange(first: str, second: str) -> Callable[[State], None]:
    """Swap two tensors."""

    def change(state: State) -> None:
        arrays = state[first].numpy(), state[second].numpy()
        state[first].set_value(arrays[1])
        state[second].set_value(arrays[0])

    return change


def reset_statistics(state: State) -> None:
    """Leave all running statistics at their initial values."""
    for name, tensor in state.items():
        if name.endswith(("._mean", "._variance")):
            tensor.set_value(paddle.full_like(tensor, float(name.endswith("._variance"))))


def permuted_classes(state: State) -> None:
    """Turn the classes of the head around."""
    for name in ("fg_cls.weight", "fg_cls.bias"):
        state[name].set_value(state[name].flip(0))
