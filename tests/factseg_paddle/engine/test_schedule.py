"""Learning rates against torch's schedulers, Paddle's and the formulas."""

import math

import numpy as np
import paddle
import pytest
import torch

from factseg_paddle.config.loading import ConfigError, make_config
from factseg_paddle.config.schema import Optimizer
from factseg_paddle.engine.build import build_optimizer
from factseg_paddle.engine.schedule import Schedule, learning_rate
from tests.factseg_paddle.engine.tiny import batch, seeded

ITERS = 40


def rates(**settings):
    """What an optimizer would apply in each iteration, and in one more."""
    schedule = Schedule(Optimizer(**settings), ITERS)
    found = []
    for _ in range(ITERS + 1):
        found.append(schedule())
        schedule.step()
    return found


def torchs(make, peak):
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=peak)
    scheduler = make(optimizer)
    found = []
    for _ in range(ITERS + 1):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


@pytest.mark.parametrize(("power", "end"), [(0.9, 0.0), (2.0, 1e-4)])
def test_poly_is_paddles_to_the_bit(power, end):
    """A run that an older program began goes on with the same bits."""
    paddles = paddle.optimizer.lr.PolynomialDecay(0.007, ITERS, end_lr=end, power=power)
    expected = []
    for _ in range(ITERS + 1):
        expected.append(paddles())
        paddles.step()
    assert rates(power=power, end_learning_rate=end) == expected


def test_cosine_is_torchs_over_the_whole_run():
    def make(optimizer):
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, ITERS, eta_min=0.0005)

    found = rates(schedule="cosine", learning_rate=0.05, end_learning_rate=0.0005)
    np.testing.assert_allclose(found, torchs(make, 0.05), rtol=1e-10)
    assert found[0] == 0.05
    assert found[ITERS // 2] == pytest.approx((0.05 + 0.0005) / 2)
    assert found[ITERS] == pytest.approx(0.0005)
    assert len(set(found)) == ITERS + 1, "the article's is constant"


def test_step_is_torchs():
    def make(optimizer):
        return torch.optim.lr_scheduler.MultiStepLR(optimizer, [10, 25], gamma=0.5)

    found = rates(schedule="step", learning_rate=0.1, milestones=[10, 25], gamma=0.5)
    np.testing.assert_allclose(found, torchs(make, 0.1), rtol=1e-12)
    assert (found[9], found[10], found[25]) == (0.1, 0.05, 0.025)
    assert set(rates(schedule="step", learning_rate=0.05)) == {0.05}, "no milestones: constant"


@pytest.mark.parametrize("schedule", ["poly", "cosine", "step"])
def test_warm_up_rises_in_equal_steps_and_the_schedule_has_the_rest(schedule):
    found = rates(schedule=schedule, learning_rate=0.1, warmup_iters=4)
    np.testing.assert_allclose(found[:5], [0.02, 0.04, 0.06, 0.08, 0.1], rtol=1e-12)
    assert min(found[:ITERS]) > 0, "no iteration is wasted on a rate of 0"
    middle = {"poly": 0.1 * 0.5**0.9, "cosine": 0.05, "step": 0.1}
    assert found[4 + (ITERS - 4) // 2] == pytest.approx(middle[schedule])
    assert found[ITERS] == pytest.approx(0.1 if schedule == "step" else 0)


def test_rate_after_the_end_stays():
    for schedule in ("poly", "cosine"):
        settings = Optimizer(schedule=schedule, end_learning_rate=1e-3)
        assert learning_rate(settings, ITERS + 9, ITERS) == pytest.approx(1e-3)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"schedule": "cosine", "power": 0.5}, "power belongs to schedule poly, and schedule is c"),
        ({"milestones": [3]}, "milestones belongs to schedule step, and schedule is poly"),
        ({"schedule": "step", "end_learning_rate": 1e-3}, "belongs to schedule poly or cosine"),
        ({"schedule": "step", "milestones": [5, 5]}, r"milestones \[5, 5\] do not rise"),
        ({"end_learning_rate": 1.0}, "end_learning_rate 1.0 is above learning_rate 0.007"),
        ({"warmup_iters": 60_000}, "warmup_iters 60000 leave nothing of the 60000 of train.iters"),
        ({"kind": "adam", "momentum": 0.8}, "momentum belongs to kind momentum, and kind is adam"),
        ({"schedule": "cosin"}, r"should be 'poly', 'cosine' or 'step' \(it is 'cosin'\)"),
        ({"head_lr_factor": 0.0}, r"optimizer\.head_lr_factor should be greater than 0"),
    ],
)
def test_what_would_have_no_effect_is_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        make_config({"optimizer": values}, "here")


# What is done with the rate -------------------------------------------------------------------


class WithBackbone:
    """The tiny network's convolution is its backbone."""

    @staticmethod
    def made():
        net = seeded()
        net.backbone_layers = lambda: {"conv1": net.body[0]}
        return net


def stepped(net, steps=3, **settings):
    """Learning parameters and gradients before each step, and the parameters in the end."""
    settings = Optimizer(**settings)
    schedule = Schedule(settings, ITERS)
    optimizer = build_optimizer(net, settings, schedule)
    known = {name: p for name, p in net.named_parameters() if not p.stop_gradient}
    seen = []
    for step in range(steps):
        images, _ = batch(step)
        logits = net(images)
        sum((output**2).mean() for output in logits).backward()
        seen.append({n: (p.numpy().astype(float), p.grad.numpy()) for n, p in known.items()})
        optimizer.step()
        optimizer.clear_grad()
        schedule.step()
    return seen, {name: p.numpy() for name, p in known.items()}


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_heads_learn_faster_by_their_factor(weight_decay):
    given = {"schedule": "step", "learning_rate": 0.01, "weight_decay": weight_decay}
    seen, found = stepped(WithBackbone.made(), head_lr_factor=10.0, **given)
    for name, value in found.items():
        rate = 0.01 if name.startswith("body.0.") else 0.1
        velocity = 0.0
        for before, gradient in (step[name] for step in seen):
            velocity = 0.9 * velocity + gradient + weight_decay * before
            after = before - rate * velocity
        np.testing.assert_allclose(value, after, rtol=1e-4, atol=1e-6, err_msg=name)
    assert {name for name in found if name.startswith("body.0.")}


def test_adam_is_torchs():
    """The article's rate of 1e-3, and torch's decay, which is a part of the gradient."""
    settings = {"kind": "adam", "schedule": "cosine", "learning_rate": 1e-3, "weight_decay": 0.1}
    seen, found = stepped(WithBackbone.made(), head_lr_factor=10.0, **settings)
    for name, value in found.items():
        factor = 1 if name.startswith("body.0.") else 10
        parameter = torch.nn.Parameter(torch.from_numpy(seen[0][name][0].copy()))
        optimizer = torch.optim.Adam([parameter], weight_decay=0.1)
        for step, (_, gradient) in enumerate(row[name] for row in seen):
            rate = 1e-3 * (1 + math.cos(math.pi * step / ITERS)) / 2
            optimizer.param_groups[0]["lr"] = factor * rate
            parameter.grad = torch.from_numpy(gradient.astype(float))
            optimizer.step()
        expected = parameter.detach().numpy()
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=2e-6, err_msg=name)


def test_factor_of_1_makes_no_groups():
    net = seeded()
    optimizer = build_optimizer(net, Optimizer(), Schedule(Optimizer(), ITERS))
    assert not isinstance(optimizer._param_groups[0], dict)


def test_frozen_backbone_leaves_the_heads_alone():
    net = WithBackbone.made()
    for parameter in net.body[0].parameters():
        parameter.stop_gradient = True
    settings = Optimizer(head_lr_factor=10.0)
    (group,) = build_optimizer(net, settings, Schedule(settings, ITERS))._param_groups
    assert group["learning_rate"] == 10.0
    assert len(group["params"]) == 6


def test_network_without_a_backbone_has_no_heads():
    settings = Optimizer(head_lr_factor=10.0)
    with pytest.raises(ValueError, match=r"head_lr_factor 10\.0 .* TinyNet has none; leave it out"):
        build_optimizer(seeded(), settings, Schedule(settings, ITERS))
