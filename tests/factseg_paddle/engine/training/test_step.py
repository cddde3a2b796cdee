"""One step: its arithmetic, what it refuses, and mixed precision with a stand-in scaler.

Paddle's GradScaler switches itself off on a CPU (3.3.1), so a scaler written from its documentation
stands in for it. `test_gpu.py` has the same with the real one.
"""

from __future__ import annotations

import math

import numpy as np
import paddle
import pytest

from factseg_paddle.config.schema import Amp, Optimizer
from factseg_paddle.engine.build import build_optimizer
from factseg_paddle.engine.schedule import Schedule
from factseg_paddle.engine.training.step import TrainingError, TrainStep, build_scaler, usable_level
from factseg_paddle.losses import JointLoss
from tests.factseg_paddle.engine.tiny import batch, seeded

ITERS = 10


class StandInScaler:
    """Dynamic loss scaling in plain arithmetic, with GradScaler's methods and state."""

    def __init__(self, scale: float, growth_interval: int) -> None:
        self.value, self.interval, self.good = scale, growth_interval, 0
        self.found = False

    def scale(self, loss):
        return loss * self.value

    def unscale_(self, optimizer):
        gradients = [p.grad for p in optimizer._parameter_list if p.grad is not None]
        for gradient in gradients:
            gradient.set_value(gradient / self.value)
        self.found = not all(bool(paddle.isfinite(g).all()) for g in gradients)

    def step(self, optimizer):
        if not self.found:
            optimizer.step()

    def update(self):
        self.good = 0 if self.found else self.good + 1
        if self.found:
            self.value /= 2
        elif self.good == self.interval:
            self.value, self.good = self.value * 2, 0

    def state_dict(self):
        return {"scale": np.array([self.value], np.float32), "incr_count": self.good}

    def load_state_dict(self, state):
        self.value, self.good = float(state["scale"][0]), state["incr_count"]


def made(net, clip_norm=35.0, criterion=None, scaler=None, level=None, **settings):
    schedule = Schedule(Optimizer(**settings), ITERS)
    optimizer = build_optimizer(net, Optimizer(**settings), schedule)
    scaler = scaler or build_scaler(Amp(), None)
    criterion = criterion or JointLoss(sampling="mean")
    return TrainStep(
        net, criterion, optimizer, schedule, scaler=scaler, level=level, clip_norm=clip_norm
    )


def values(net):
    return {name: tensor.numpy() for name, tensor in net.state_dict().items()}


def test_steps_are_those_of_paddles_own_parts():
    """Momentum with decay on all parameters, ClipGradByGlobalNorm, the poly schedule by hand."""
    ours, plain = seeded(), seeded()
    step = made(ours, clip_norm=0.1, learning_rate=0.5, weight_decay=0.01)
    optimizer = paddle.optimizer.Momentum(
        0.5,
        0.9,
        parameters=[p for p in plain.parameters() if not p.stop_gradient],
        weight_decay=0.01,
        grad_clip=paddle.nn.ClipGradByGlobalNorm(0.1),
    )
    for iteration in range(4):
        images, labels = batch(iteration)
        result = step(images, labels)
        rate = 0.5 * (1 - iteration / ITERS) ** 0.9
        optimizer.set_lr(rate)
        loss = JointLoss(sampling="mean")(*plain(images), labels)
        loss.backward()
        gradients = [p.grad.numpy() for p in plain.parameters() if p.grad is not None]
        norm = math.sqrt(sum(float((g.astype(np.float64) ** 2).sum()) for g in gradients))
        optimizer.step()
        optimizer.clear_grad()
        assert result.loss == pytest.approx(float(loss), rel=1e-6)
        assert result.learning_rate == pytest.approx(rate, rel=1e-12)
        assert result.gradient_norm == pytest.approx(norm, rel=1e-5)
        assert result.gradient_norm > 0.1, "or nothing was clipped"
        assert (result.loss_scale, result.skipped) == (1.0, False)
    expected = values(plain)
    for name, value in values(ours).items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-4, atol=1e-6, err_msg=name)


def test_without_clip_norm_nothing_is_clipped():
    clipped, free, wide = seeded(), seeded(), seeded()
    for net, norm in ((clipped, 1e-3), (free, None), (wide, 1e9)):
        made(net, clip_norm=norm)(*batch())
    assert values(free)["fg_cls.weight"] == pytest.approx(values(wide)["fg_cls.weight"], rel=1e-6)
    assert not np.allclose(values(free)["fg_cls.weight"], values(clipped)["fg_cls.weight"])


class Scaled(paddle.nn.Layer):
    """A loss times a number."""

    def __init__(self, factor):
        super().__init__()
        self.factor, self.loss = factor, JointLoss(sampling="mean")

    def forward(self, *args):
        return self.loss(*args) * self.factor


@pytest.mark.parametrize("factor", [math.nan, math.inf])
def test_loss_that_is_not_finite_stops_and_changes_no_parameter(factor):
    net = seeded()
    before = values(net)
    with pytest.raises(TrainingError, match=rf"loss is ({factor}) at a learning rate of 0.007000"):
        made(net, criterion=Scaled(factor))(*batch())
    for name, parameter in net.named_parameters():
        if not parameter.stop_gradient:
            np.testing.assert_array_equal(parameter.numpy(), before[name])


class Explosive(paddle.autograd.PyLayer):
    """The identity with an infinite gradient."""

    @staticmethod
    def forward(_ctx, x):
        return x.clone()

    @staticmethod
    def backward(_ctx, gradient):
        return gradient * math.inf


class Overflowing(Scaled):
    """A finite loss whose gradient overflows while the scale is above a limit."""

    def __init__(self, scaler, limit):
        super().__init__(1.0)
        self.scaler, self.limit = scaler, limit

    def forward(self, *args):
        loss = super().forward(*args)
        return Explosive.apply(loss) if self.scaler.value > self.limit else loss


def test_gradient_that_is_not_finite_stops_in_float32():
    net = seeded()
    before = values(net)
    criterion = Overflowing(StandInScaler(1.0, 1), 0.0)
    with pytest.raises(TrainingError, match=r"the norm of its gradients is (nan|inf)"):
        made(net, criterion=criterion)(*batch())
    np.testing.assert_array_equal(values(net)["fg_cls.weight"], before["fg_cls.weight"])


def test_overflow_skips_the_step_and_halves_the_scale():
    net = seeded()
    scaler = StandInScaler(1024.0, 3)
    step = made(net, scaler=scaler, level="O1", criterion=Overflowing(scaler, 256.0))
    before = values(net)["fg_cls.weight"]
    first, second, third = (step(*batch()) for _ in range(3))
    assert [r.loss_scale for r in (first, second, third)] == [1024.0, 512.0, 256.0]
    assert [r.skipped for r in (first, second, third)] == [True, True, False]
    assert not np.array_equal(values(net)["fg_cls.weight"], before)
    assert third.learning_rate == pytest.approx(0.007 * (1 - 2 / ITERS) ** 0.9), "as the original"


def test_scaled_training_is_unscaled_training():
    plain, scaled = seeded(), seeded()
    one = made(plain, clip_norm=0.1)
    other = made(scaled, clip_norm=0.1, scaler=StandInScaler(1024.0, 2), level="O1")
    for iteration in range(5):
        a, b = one(*batch(iteration)), other(*batch(iteration))
        assert a.loss == pytest.approx(b.loss, rel=1e-6)
        assert a.gradient_norm == pytest.approx(b.gradient_norm, rel=1e-5)
    assert b.loss_scale == 4096.0, "it grew twice"


def test_cpu_says_that_it_trains_in_float32():
    level, note = usable_level("O1")
    assert level is None
    assert note == "AMP O1 was asked for, but cpu has no float16: training in float32"
    assert usable_level(None) == (None, "training in float32")


def test_running_statistics_are_no_parameters_of_the_optimizer():
    net = seeded()
    optimizer = build_optimizer(net, Optimizer(), Schedule(Optimizer(), ITERS))
    assert len(optimizer._parameter_list) == len(net.state_dict()) - 2
