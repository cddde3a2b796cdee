"""The train step: right training passes, and each fault of an optimizer fails under its name."""

from __future__ import annotations

import paddle
import pytest
import torch

from alignment import AlignmentError, TrainSetup
from tests.alignment.small import step
from tests.alignment.steps.train_setups import (
    NORM,
    RATE,
    clip_global,
    first,
    paddle_poly,
    paddle_setup,
    poly,
    torch_setup,
    trained,
)


def clip_by_global_norm(norm=NORM):
    return lambda: paddle.nn.ClipGradByGlobalNorm(norm)


RIGHT = {
    "SGD": (paddle_setup("SGD"), torch_setup("SGD")),
    "Momentum": (paddle_setup(), torch_setup()),
    "Nesterov": (paddle_setup(use_nesterov=True), torch_setup(nesterov=True)),
    "Adam": (paddle_setup("Adam"), torch_setup("Adam")),
    "AdamW": (paddle_setup("AdamW"), torch_setup("AdamW")),
    "AdamW, other betas": (
        paddle_setup("AdamW", beta1=0.8, beta2=0.99, epsilon=1e-6),
        torch_setup("AdamW", betas=(0.8, 0.99), eps=1e-6),
    ),
    "no decay": (paddle_setup(decay=0.0), torch_setup(decay=0.0)),
    "schedule": (paddle_setup(rate=paddle_poly()), torch_setup(scheduler=poly)),
    "clip": (paddle_setup(clip=clip_by_global_norm()), torch_setup(clip=clip_global)),
    "clip that does nothing": (paddle_setup(clip=clip_by_global_norm(1e6)), torch_setup()),
    "clip by hand": (
        TrainSetup(paddle_setup().optimizer, clip=lambda net: clip_in_paddle(net)),
        torch_setup(clip=clip_global),
    ),
    "all together": (
        paddle_setup(rate=paddle_poly(), clip=clip_by_global_norm()),
        torch_setup(scheduler=poly, clip=clip_global),
    ),
}


def clip_in_paddle(net):
    paddle.nn.utils.clip_grad_norm_(net.parameters(), NORM)


@pytest.mark.parametrize("way", RIGHT)
def test_right_training_passes(way):
    ours, theirs = RIGHT[way]
    report = trained(ours, theirs)
    assert report, str(report)


def groups(model):
    """Weights decay, biases and what belongs to BatchNorm do not."""
    named = dict(model.named_parameters())
    decayed = [p for n, p in named.items() if n.endswith("weight") and not n.startswith("bn")]
    rest = [p for n, p in named.items() if not n.endswith("weight") or n.startswith("bn")]
    return [
        {"params": decayed, "weight_decay": 0.02},
        {"params": rest, "weight_decay": 0.0},
    ]


def test_groups_of_parameters():
    theirs = TrainSetup(lambda net: torch.optim.SGD(groups(net), lr=RATE, momentum=0.9))
    report = trained(paddle_setup(groups=groups), theirs)
    assert report, str(report)
    assert first(trained(paddle_setup(), theirs)) == "train:step 0: conv1.bias (update)"


FAULTS = {
    "rate": (paddle_setup(rate=0.11), torch_setup(), "step 0: learning rate"),
    "schedule one step ahead": (
        paddle_setup(rate=paddle_poly(last_epoch=0)),
        torch_setup(scheduler=poly),
        "step 0: learning rate",
    ),
    "schedule of another power": (
        paddle_setup(rate=lambda: paddle.optimizer.lr.PolynomialDecay(RATE, 10, 0.0, 1.0)),
        torch_setup(scheduler=poly),
        "step 1: learning rate",
    ),
    "schedule that never moves": (
        paddle_setup(),
        torch_setup(scheduler=poly),
        "step 1: learning rate",
    ),
    "schedule in Paddle alone": (
        paddle_setup(rate=paddle_poly()),
        torch_setup(),
        "step 1: learning rate",
    ),
    "momentum": (paddle_setup(momentum=0.8), torch_setup(), "step 1: conv1.weight (update)"),
    "Nesterov": (
        paddle_setup(use_nesterov=True),
        torch_setup(),
        "step 0: conv1.weight (update)",
    ),
    "decay missing": (
        paddle_setup(decay=0.0),
        torch_setup(),
        "step 0: conv1.weight (update)",
    ),
    "decay a tenth": (
        paddle_setup(decay=0.002),
        torch_setup(),
        "step 0: conv1.weight (update)",
    ),
    "decay on weights alone": (
        paddle_setup(groups=groups),
        torch_setup(),
        "step 0: conv1.bias (update)",
    ),
    "coupled decay": (
        paddle_setup("Adam"),
        torch_setup("AdamW"),
        "step 0: conv1.weight (update)",
    ),
    "decoupled decay": (
        paddle_setup("AdamW"),
        torch_setup("Adam"),
        "step 0: conv1.weight (update)",
    ),
    "beta": (
        paddle_setup("AdamW", beta2=0.99),
        torch_setup("AdamW"),
        "step 0: conv1.weight (moment2)",
    ),
    "epsilon": (
        paddle_setup("AdamW", epsilon=1e-5),
        torch_setup("AdamW"),
        "step 0: conv1.weight (update)",
    ),
    "clip by tensor": (
        paddle_setup(clip=lambda: paddle.nn.ClipGradByNorm(NORM)),
        torch_setup(clip=clip_global),
        "step 0: clipped gradient norm",
    ),
    "clip by value": (
        paddle_setup(clip=lambda: paddle.nn.ClipGradByValue(NORM)),
        torch_setup(clip=clip_global),
        "step 0: clipped gradient norm",
    ),
    "clip missing": (
        paddle_setup(),
        torch_setup(clip=clip_global),
        "step 0: clipped gradient norm",
    ),
    "clip by another norm": (
        paddle_setup(clip=clip_by_global_norm(0.21)),
        torch_setup(clip=clip_global),
        "step 0: clipped gradient norm",
    ),
    "clip in Paddle alone": (
        paddle_setup(clip=clip_by_global_norm()),
        torch_setup(),
        "step 0: clipped gradient norm",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_of_the_optimizer_is_named(fault):
    ours, theirs, name = FAULTS[fault]
    assert first(trained(ours, theirs)) == f"train:{name}"


def test_wrong_momentum_is_seen_in_no_less_than_two_steps():
    assert trained(paddle_setup(momentum=0.8), train_steps=1)
    assert not trained(paddle_setup(momentum=0.8), train_steps=2)


def test_clip_of_another_kind_of_the_same_total_norm_is_seen_in_the_updates():
    """Every gradient is turned around: the norm stays."""

    def turn(net):
        for parameter in net.parameters():
            if parameter.grad is not None:
                parameter.grad.set_value(-parameter.grad)

    report = trained(TrainSetup(paddle_setup().optimizer, clip=turn))
    assert first(report) == "train:step 0: conv1.weight (update)"


@pytest.mark.parametrize("ours", ["SGD", "Adam", "AdamW"])
def test_another_kind_of_optimizer_is_named_where_its_state_does_not_fit(ours):
    report = trained(paddle_setup(ours))
    failed = {t.name: t.reason for t in step(report, "train").tensors if not t}
    assert failed["step 1: optimizer state"].startswith("torch's optimizer state does not fit: ")
    assert "velocity" in failed["step 1: optimizer state"]
    assert not any(t.name.startswith("step 2") for t in step(report, "train").tensors)


def test_momentum_in_paddle_alone():
    report = trained(theirs=torch_setup("SGD"))
    assert first(report) == "train:step 0: conv1.weight (velocity)"


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (
            lambda net: paddle.optimizer.RMSProp(0.1, parameters=net.parameters()),
            "the state of RMSProp can't be carried over; known are SGD, Momentum, Adam, AdamW",
        ),
        (lambda _net: 3, "paddle_train.optimizer gives a int, no Paddle optimizer"),
        (lambda _net: 1 / 0, "the Paddle side in float32 raised ZeroDivisionError"),
    ],
)
def test_optimizer_that_can_not_be_used_is_one_sentence(make, sentence):
    with pytest.raises(AlignmentError, match=sentence):
        trained(TrainSetup(make))


def test_torch_optimizer_that_is_none_is_one_sentence():
    with pytest.raises(AlignmentError, match=r"torch_train.optimizer gives a int, no torch"):
        trained(theirs=TrainSetup(lambda _net: 3))


def test_schedule_given_beside_paddles_optimizer_is_refused():
    with pytest.raises(AlignmentError, match="the optimizer holds the schedule; leave scheduler"):
        trained(TrainSetup(paddle_setup().optimizer, scheduler=lambda o: o))
