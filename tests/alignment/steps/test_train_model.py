"""The train step: faults of the loss, of gradients and of running statistics, by name."""

from __future__ import annotations

import dataclasses

import numpy as np
import paddle
import pytest
import torch

from alignment import align
from tests.alignment.small import PaddleNet, paddle_loss, seeded_torch_net, step
from tests.alignment.steps.train_setups import STEPS, first, paddle_setup, torch_setup, trained
from tests.alignment.twins import passes, squares, twins, two_linear


def test_loss_that_is_scaled():
    report = trained(paddle_loss=lambda o, t: 2 * paddle_loss(o, t))
    assert first(report) == "train:step 0: loss"
    failed = {t.name for t in step(report, "train").tensors if not t}
    assert "step 0: fc.weight (gradient)" in failed
    assert "step 0: fc.weight (update)" not in failed, "it is given torch's gradient"


def test_gradient_that_is_doubled_is_no_fault_of_the_optimizer():
    def net():
        made = PaddleNet()
        made.fc.bias.register_hook(lambda gradient: 2 * gradient)
        return made

    report = trained(net=net)
    failed = [t.name for t in step(report, "train").tensors if not t]
    assert failed[0] == "step 0: fc.bias (gradient)"
    assert {name.partition(": ")[2] for name in failed} == {"fc.bias (gradient)", "gradient norm"}


@pytest.mark.parametrize("name", ["conv2.weight", "fc.bias", "bn.weight"])
def test_parameter_frozen_in_paddle_alone(name):
    def net():
        made = PaddleNet()
        parameter = dict(made.named_parameters())[name]
        parameter.stop_gradient = True
        parameter.trainable = False
        return made

    report = trained(net=net)
    assert first(report) == f"train:step 0: {name} (gradient)"
    failed = next(t for t in step(report, "train").tensors if not t)
    assert failed.reason == "Paddle has no gradient: frozen, or cut off"


def frozen_torch(name):
    def make():
        net = seeded_torch_net()
        dict(net.named_parameters())[name].requires_grad_(False)
        return net

    return make


def test_parameter_frozen_in_torch_alone():
    report = trained(torch_model=frozen_torch("conv2.bias"))
    assert first(report) == "train:step 0: conv2.bias (gradient)"
    failed = next(t for t in step(report, "train").tensors if not t)
    assert failed.reason == "torch has no gradient: frozen, or cut off"


def test_parameter_frozen_on_both_sides():
    def net():
        made = PaddleNet()
        made.conv2.bias.stop_gradient = True
        return made

    report = trained(net=net, torch_model=frozen_torch("conv2.bias"))
    assert report, str(report)


def test_layer_that_is_never_called_and_shared_weights():
    pair = twins(
        lambda net, x: net.b(net.a(net.a(x))),
        lambda nn: two_linear(nn) | {"unused": nn.linear(2, 2)},
        torch_train=torch_setup("AdamW"),
        paddle_train=paddle_setup("AdamW"),
        train_steps=3,
    )
    passes(pair, ["train"])


def bn(**options):
    return lambda: PaddleNet(bn=paddle.nn.BatchNorm2D(6, **options))


def test_running_variance_is_declared_with_its_factor():
    report = trained()
    declared = {t.name: t.reason for t in step(report, "train").tensors if t.status == "declared"}
    assert set(declared) == {f"step {i}: bn.running_var" for i in range(STEPS)}
    assert all("n / (n - 1) is left out, n = 144" in reason for reason in declared.values())


@pytest.mark.parametrize("momentum", [0.1, 0.91, 1.0])
def test_wrong_momentum_of_running_statistics(momentum):
    report = trained(net=bn(momentum=momentum))
    failed = [t.name for t in step(report, "train").tensors if not t]
    assert failed[0] == "step 0: bn.running_mean"
    assert failed[1] == "step 0: bn.running_var"


class OtherVariance(paddle.nn.BatchNorm2D):
    """Its running variance takes a multiple of what the batch says."""

    def __init__(self, factor):
        super().__init__(6)
        self.factor = factor

    def forward(self, x):
        before = self._variance.clone()
        output = super().forward(x)
        if self.training:
            batch = (self._variance - 0.9 * before) / 0.1
            self._variance.set_value(0.9 * before + 0.1 * batch * self.factor)
        return output


@pytest.mark.parametrize("factor", [143 / 144, 1.001, 0.5, 2.0, (144 / 143) ** 2])
def test_running_variance_of_another_factor_fails(factor):
    report = trained(net=lambda: PaddleNet(bn=OtherVariance(factor)))
    assert first(report) == "train:step 0: bn.running_var"


def test_running_variance_as_torchs_passes():
    report = trained(net=lambda: PaddleNet(bn=OtherVariance(144 / 143)))
    assert report, str(report)
    assert step(report, "train").counts["declared"] == 0


def test_running_statistics_that_stand_still():
    report = trained(net=bn(use_global_stats=True))
    assert first(report) == "train:step 0: loss", "it normalises by other statistics"


def test_batch_norm_that_is_used_twice_in_a_forward():
    def layers(nn):
        return {"a": nn.conv(3, 4), "bn": nn.bn(4), "b": nn.conv(4, 4)}

    def forward(net, x):
        return net.bn(net.b(net.bn(net.a(x))))

    def pair(**changes):
        return twins(
            forward,
            layers,
            np.random.default_rng(0).normal(size=(3, 3, 5, 5)).astype(np.float32),
            torch_train=torch_setup(),
            paddle_train=paddle_setup(),
            train_steps=2,
            torch_loss=lambda o: squares(o) + o.pow(3).mean(),
            paddle_loss=lambda o: squares(o) + o.pow(3).mean(),
            **changes,
        )

    report = passes(pair(), ["train"])
    declared = [t.name for t in step(report, "train").tensors if t.status == "declared"]
    assert declared == ["step 0: bn.running_var", "step 1: bn.running_var"]
    report = align(pair(fault=lambda net, x: net.bn(net.b(net.a(x)))), ["train"])
    assert not report


def test_relu_at_zero_in_training_raises_no_alarm():
    """Sizes of 32 px: rounding puts an input on the other side of 0, and the gradient jumps."""

    def layers(nn):
        return {"shift": nn.function(lambda x: 0 * x), "relu": nn.relu(), "b": nn.linear(4, 4)}

    def forward(net, x):
        return net.b(net.relu(net.shift(net.a(x))))

    def pair(shift, **changes):
        return twins(
            forward,
            lambda nn: layers(nn) | {"a": nn.linear(4, 4)},
            parts=lambda nn: {"shift": nn.function(lambda x: 0 * x + shift)},
            torch_train=torch_setup(),
            paddle_train=paddle_setup(),
            train_steps=2,
            **changes,
        )

    passes(pair(1e-12), ["train"])
    report = align(pair(1e-3), ["train"])
    assert report.first_divergence == "train:step 0: loss"


def test_buffer_of_integers_and_buffer_of_torch_alone():
    """num_batches_tracked, which Paddle lacks, is no difference; a counter of both is compared."""

    def counting(increment):
        def forward(net, x):
            net.count += increment
            return net.b(net.a(x))

        return forward

    def add(net):
        net.register_buffer("count", paddle.zeros([1], "int64"))

    def with_buffer(pair):
        def torch_model():
            net = pair.torch_model()
            net.register_buffer("count", torch.zeros(1, dtype=torch.int64))
            return net

        return dataclasses.replace(pair, torch_model=torch_model)

    def pair(increment):
        return with_buffer(
            twins(
                counting(1),
                two_linear,
                fault=counting(increment),
                change=add,
                torch_train=torch_setup(),
                paddle_train=paddle_setup(),
                train_steps=2,
            )
        )

    passes(pair(1), ["train"])
    assert first(align(pair(2), ["train"])) == "train:step 0: count"
