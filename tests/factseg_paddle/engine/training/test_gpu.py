"""Mixed precision on a GPU, which no CPU build of Paddle has: O1, O2, overflow, resume."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

from factseg_paddle.config.schema import Amp, Optimizer
from factseg_paddle.engine.build import build_optimizer
from factseg_paddle.engine.schedule import Schedule
from factseg_paddle.engine.training import checkpoint as checkpoints
from factseg_paddle.engine.training.checkpoint import TrainState
from factseg_paddle.engine.training.step import TrainStep, build_scaler, usable_level
from factseg_paddle.losses import JointLoss
from tests.factseg_paddle.engine.tiny import batch, seeded
from tests.factseg_paddle.engine.training.test_step import Overflowing

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not paddle.is_compiled_with_cuda(), reason="needs a CUDA build of Paddle"),
]


@pytest.fixture(autouse=True)
def _on_a_gpu():
    before = paddle.device.get_device()
    paddle.device.set_device("gpu")
    yield
    paddle.device.set_device(before)


class Run:
    """A network in training with the real scaler."""

    def __init__(self, level, seed=0, *, init_loss_scaling=1024.0, growth_interval=2):
        net = seeded(seed)
        net.train()
        rates = Optimizer(learning_rate=0.1)
        self.schedule = Schedule(rates, 20)
        optimizer = build_optimizer(net, rates, self.schedule)
        if level == "O2":
            net, optimizer = paddle.amp.decorate(
                net, optimizer, level="O2", master_weight=True, master_grad=True
            )
        settings = Amp(
            level=level, init_loss_scaling=init_loss_scaling, growth_interval=growth_interval
        )
        self.net, self.optimizer = net, optimizer
        self.scaler = build_scaler(settings, level)
        self.level = level

    def step(self, criterion=None):
        return TrainStep(
            self.net,
            criterion or JointLoss(sampling="mean"),
            self.optimizer,
            self.schedule,
            scaler=self.scaler,
            level=self.level,
            clip_norm=35.0,
        )


class Watched:
    """What `Overflowing` reads of a stand-in scaler, of the real one."""

    def __init__(self, scaler):
        self._scaler = scaler

    @property
    def value(self):
        return float(self._scaler.state_dict()["scale"][0])


@pytest.mark.parametrize("level", ["O1", "O2"])
def test_learns_as_in_float32(level):
    assert usable_level(level) == (level, f"training with AMP {level}")
    plain, half = Run(None), Run(level)
    one, other = plain.step(), half.step()
    for iteration in range(8):
        expected, found = one(*batch(iteration % 2)), other(*batch(iteration % 2))
        assert found.loss == pytest.approx(expected.loss, rel=2e-2)
        assert found.gradient_norm == pytest.approx(expected.gradient_norm, rel=5e-2)
    assert found.loss_scale == 1024.0 * 2**3, "it grew every second step"


@pytest.mark.parametrize("level", ["O1", "O2"])
def test_overflow_skips_the_step(level):
    run = Run(level, growth_interval=1000)
    step = run.step(Overflowing(Watched(run.scaler), 256.0))
    before = run.net.fg_cls.weight.numpy().copy()
    results = [step(*batch()) for _ in range(2)]
    assert [(r.loss_scale, r.skipped) for r in results] == [(1024.0, True), (512.0, True)]
    np.testing.assert_array_equal(run.net.fg_cls.weight.numpy(), before)
    third = step(*batch())
    assert (third.loss_scale, third.skipped) == (256.0, False)
    assert (run.net.fg_cls.weight.numpy() != before).any()


def test_o2_checkpoint_holds_the_master_weights(tmp_path):
    run = Run("O2")
    run.step()(*batch())
    folder = checkpoints.save_checkpoint(tmp_path, run.net, run.optimizer, TrainState(1, 7, {}))
    weights = paddle.load(str(folder / "model.pdparams"))
    assert run.net.fg_cls.weight.dtype == paddle.float16
    assert weights["fg_cls.weight"].dtype == paddle.float32


@pytest.mark.parametrize("level", ["O1", "O2"])
def test_resume_goes_on_with_scaler_and_master_weights(tmp_path, level):
    run = Run(level)
    step = run.step()
    for iteration in range(3):
        step(*batch(iteration))
    state = TrainState(3, 7, {}, scaler=checkpoints.plain_scaler(run.scaler.state_dict()))
    folder = checkpoints.save_checkpoint(tmp_path, run.net, run.optimizer, state)
    other = Run(level, seed=5, init_loss_scaling=2.0)
    loaded = checkpoints.load_checkpoint(folder, other.net, other.optimizer)
    other.scaler.load_state_dict(loaded.scaler)
    again = other.step()
    for iteration in range(3, 6):
        expected, found = step(*batch(iteration)), again(*batch(iteration))
        assert found.loss_scale == expected.loss_scale
        assert found.loss == pytest.approx(expected.loss, rel=1e-3)
