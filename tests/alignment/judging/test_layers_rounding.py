"""Faults as small as rounding are found, and rounding as large as a fault is none."""

from __future__ import annotations

import numpy as np
import paddle
import paddle.nn.functional as PF
import pytest

from alignment import align
from tests.alignment.small import Through, images, step
from tests.alignment.twins import first_divergence, passes, twins, two_linear

MODES = ["eval", "train"]
PICTURES = images((2, 4, 6, 6))


def in_order(net, x):
    return net.b(net.norm(net.a(x)))


def normed(norm):
    return lambda nn: {"a": nn.conv(4, 4), "norm": norm(nn, 1e-5), "b": nn.conv(4, 2)}


NORMS = {
    "BatchNorm": lambda nn, eps: nn.bn(4, eps),
    "GroupNorm": lambda nn, eps: nn.group_norm(2, 4, eps),
    "LayerNorm": lambda nn, eps: nn.layer_norm(6, eps),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("epsilon", [1e-6, 1e-4])
def test_epsilon_of_a_normalisation(norm, mode, epsilon):
    """End to end in float64 it lies below the bound; by itself it is 4.5e-6 over the variance."""
    make, pictures = NORMS[norm], PICTURES / 3  # a variance below 1 behind the convolution
    passes(twins(in_order, normed(make), pictures, mode=mode))
    place = first_divergence(
        in_order,
        normed(make),
        pictures,
        parts=lambda nn: {"norm": make(nn, epsilon)},
        mode=mode,
        steps=["weights", "forward"],
    )
    assert place == "norm"


def half(x):
    return x.astype("float16").astype(x.dtype)


SUBTLE = {
    "half precision inside": lambda x: half(PF.relu(x)),
    "NaN in one element": lambda x: with_element(PF.relu(x), float("nan")),
    "one element off": lambda x: with_element(PF.relu(x), 0.9),
    "two millionths off": lambda x: PF.relu(x) * (1 + 2e-6),
    "a bias of some millionths": lambda x: PF.relu(x) + 5e-6,
    "bfloat16 inside": lambda x: PF.relu(x).astype("bfloat16").astype(x.dtype),
    "float32 inside": lambda x: PF.relu(x.astype("float32")).astype(x.dtype),
}


def with_element(x, value):
    flat = x.flatten()
    return flat.scatter(paddle.to_tensor([3]), paddle.full([1], value, x.dtype)).reshape(x.shape)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("fault", [name for name in SUBTLE if name != "float32 inside"])
def test_subtle_fault_in_a_layer(fault, mode):
    place = first_divergence(
        lambda net, x: net.b(net.act(net.a(x))),
        lambda nn: two_linear(nn) | {"act": nn.relu()},
        parts=lambda _nn: {"act": Through(SUBTLE[fault])},
        mode=mode,
    )
    assert place == "act"


def test_float32_inside_of_a_layer_is_no_fault_of_float32():
    passes(
        twins(
            lambda net, x: net.b(net.act(net.a(x))),
            lambda nn: two_linear(nn) | {"act": nn.relu()},
            parts=lambda _nn: {"act": Through(SUBTLE["float32 inside"])},
        )
    )


@pytest.mark.parametrize(
    "fault", [lambda x: half(x), lambda x: with_element(x, 0.9), lambda x: x * (1 + 2e-6)],
    ids=["half", "one element", "two millionths"],
)  # fmt: skip
def test_subtle_fault_in_functional_code(fault):
    place = first_divergence(
        lambda net, x: net.b(net.a(x)), two_linear, fault=lambda net, x: net.b(fault(net.a(x)))
    )
    assert place == "a -> b"


# What is right -----------------------------------------------------------------------------------


def with_equal_maxima(seed):
    rng = np.random.default_rng(seed)
    return rng.integers(-2, 3, (2, 4, 6, 6)).astype(np.float32)


def pooled(net, x):
    return net.b(net.pool(net.a(x)))


def pooled_between(net, x):
    return net.b(net.nn.f.max_pool2d(net.a(x), 2))


def quantised(nn):
    """Few different values, so that windows have several maxima."""
    return {"a": nn.function(lambda x: x * 4 / 4), "pool": nn.max_pool(), "b": nn.conv(4, 2)}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("forward", [pooled, pooled_between], ids=["layer", "functional"])
def test_max_pool_with_equal_maxima(forward, seed, mode):
    passes(twins(forward, quantised, with_equal_maxima(seed), mode=mode, seed=seed))


def near_zero(net, x):
    """The ReLU's input is zero but for rounding: a sum whose terms cancel."""
    x = net.a(x)
    return net.b(net.nn.f.relu(x + 1 / 3 - x.abs() - 1 / 3) + x)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("seed", range(4))
def test_functional_relu_near_zero(seed, mode):
    passes(twins(near_zero, two_linear, images((5, 4), seed=seed), mode=mode, seed=seed))


def activated(net, x):
    return net.b(net.act(net.a(x)))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("seed", range(3))
def test_relu_layer_whose_input_is_often_exactly_zero(seed, mode):
    x = np.maximum(images((5, 4), seed=seed), 0)
    passes(
        twins(
            activated,
            lambda nn: {"a": nn.relu(), "act": nn.relu(), "b": nn.linear(4, 4)},
            x,
            mode=mode,
            seed=seed,
        )
    )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("seed", range(4))
def test_bias_of_a_convolution_in_front_of_batch_norm(seed, mode):
    """Its gradient is zero but for rounding in training mode."""
    passes(
        twins(
            lambda net, x: net.b(net.act(net.norm(net.a(x)))),
            lambda nn: normed(NORMS["BatchNorm"])(nn) | {"act": nn.relu()},
            images((3, 4, 8, 8), seed=seed),
            mode=mode,
            seed=seed,
        )
    )


def averaged(net, x):
    return net.b(net.act(net.a(x)).mean((2, 3)))


def summed(net, x):
    return net.b(net.act(net.a(x)).sum((2, 3)))


def averaged_by_a_layer(net, x):
    return net.b(net.mean(net.act(net.a(x))))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("forward", [averaged, summed, averaged_by_a_layer])
def test_long_sums(forward, seed, mode):
    def layers(nn):
        mean = nn.function(lambda x: x.mean((2, 3)))
        return {"a": nn.conv(3, 4), "act": nn.relu(), "mean": mean, "b": nn.linear(4, 2)}

    x = images((1, 3, 96, 96), seed=seed) + 1
    passes(twins(forward, layers, x, mode=mode, seed=seed))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("seed", range(3))
def test_deep_net_of_many_parts(seed, mode):
    def layers(nn):
        made = {}
        for i in range(4):
            made |= {f"conv{i}": nn.conv(4, 4), f"bn{i}": nn.bn(4)}
        return made | {"relu": nn.relu_in_place(), "norm": nn.group_norm(2, 4)}

    def forward(net, x):
        for i in range(4):
            x = net.relu(getattr(net, f"bn{i}")(getattr(net, f"conv{i}")(x)) + x)
        x = net.nn.f.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
        return net.nn.f.softmax(net.norm(x), 1)

    passes(twins(forward, layers, images((2, 4, 7, 7), seed=seed), mode=mode, seed=seed))


def test_what_rounding_decides_is_declared_with_a_reason():
    """torch's float32 and float64 round alike here, Paddle's float32 does not."""

    class Chaotic(paddle.nn.Layer):
        """Right in float64; in float32 one of eight elements lands on the other side of a cut."""

        def forward(self, x):
            if x.dtype == paddle.float32:
                return with_element(PF.relu(x), 0.25)
            return PF.relu(x)

    report = align(
        twins(
            lambda net, x: net.act(net.a(x)),
            lambda nn: {"a": nn.linear(4, 32), "act": nn.relu()},
            images((8, 4)),
            parts=lambda _nn: {"act": Chaotic()},
        ),
        ["forward"],
    )
    by_itself = [t for t in step(report, "forward").tensors if t.comparison == "by_itself"]
    declared = {t.name: t.reason for t in by_itself if t.status == "declared"}
    assert set(declared) == {"act"}
    assert declared["act"].startswith("rounding of float32: float64 agrees to ")


def test_dense_error_of_float32_alone_is_not_believed_to_be_rounding():
    class HalfInFloat32(paddle.nn.Layer):
        def forward(self, x):
            x = PF.relu(x)
            return half(x) if x.dtype == paddle.float32 else x

    place = first_divergence(
        activated,
        lambda nn: two_linear(nn) | {"act": nn.relu()},
        parts=lambda _nn: {"act": HalfInFloat32()},
    )
    assert place == "act"
