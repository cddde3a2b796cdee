"""Gradient checkpointing: same gradients, same running statistics, less memory kept.

In float64: the gradients of a feature that several layers read are summed in another order, and
BatchNorm over two small images amplifies the rounding of float32 to 10 % within a step.
"""

from __future__ import annotations

import numpy as np
import paddle
import pytest

from factseg_paddle import FactSeg, JointLoss
from factseg_paddle.models.backbones.recompute import recompute_stage

STEPS = 2


def train(**options):
    """Losses, gradients and state of two training steps of FactSeg-18 in float64."""
    paddle.seed(3)
    model = FactSeg(4, "resnet18", **options)
    model.to(dtype="float64")
    weights = np.random.default_rng(0)
    for tensor in model.state_dict().values():
        if tensor.ndim == 4:
            scale = np.sqrt(2 / np.prod(tensor.shape[1:]))
            tensor.set_value(weights.normal(size=tensor.shape) * scale)
    model.train()
    rng = np.random.default_rng(1)
    optimizer = paddle.optimizer.Momentum(0.01, parameters=model.parameters())
    losses = []
    for _ in range(STEPS):
        x = paddle.to_tensor(rng.normal(size=(2, 3, 64, 64)))
        y = paddle.to_tensor(rng.integers(0, 4, (2, 64, 64)))
        optimizer.clear_grad()
        loss = JointLoss()(*model(x), y)
        loss.backward()
        losses.append(float(loss))
        gradients = {n: p.grad.numpy() for n, p in model.named_parameters() if p.grad is not None}
        optimizer.step()
    return losses, gradients, {n: t.numpy() for n, t in model.state_dict().items()}


def assert_equal(ours, reference):
    """Equal but for the order of summation, tensor by tensor."""
    assert ours[0] == pytest.approx(reference[0], rel=1e-12)
    for arrays, expected in zip(ours[1:], reference[1:], strict=True):
        assert arrays.keys() == expected.keys()
        for name, array in arrays.items():
            error = np.max(np.abs(array - expected[name]))
            assert error <= 1e-10 * np.max(np.abs(expected[name])), name


@pytest.fixture(scope="module")
def plain():
    return train()


@pytest.mark.parametrize(
    "stages", [True, (True, False, False, False), (False, True, False, True)], ids=str
)
def test_gradients_and_running_statistics_are_those_of_plain_training(plain, stages):
    assert_equal(train(gradient_checkpointing=stages), plain)


def test_stage_behind_a_frozen_one_still_learns():
    """Paddle's recompute gives no gradients when none of its inputs wants one."""
    plain = train(frozen_stages=1)
    ours = train(frozen_stages=1, gradient_checkpointing=True)
    assert any(name.startswith("resencoder.resnet.layer1") for name in ours[1])
    assert_equal(ours, plain)


def test_a_recomputed_stage_keeps_no_activations_until_backward():
    """The layers inside run once in forward and once more in backward."""
    runs = []
    stage = paddle.nn.Sequential(paddle.nn.Conv2D(2, 2, 1), paddle.nn.BatchNorm2D(2))
    stage[0].register_forward_post_hook(lambda *_: runs.append("run"))
    x = paddle.randn([1, 2, 4, 4])
    x.stop_gradient = False
    out = recompute_stage(stage, x)
    assert runs == ["run"]
    out.sum().backward()
    assert runs == ["run", "run"]


def test_evaluation_does_not_recompute():
    model = FactSeg(2, "resnet18", gradient_checkpointing=True)
    model.eval()
    runs = []
    model.resencoder.resnet.layer1.register_forward_post_hook(lambda *_: runs.append("run"))
    out = model(paddle.randn([1, 3, 32, 32]))
    out.class_logits.sum().backward()
    assert runs == ["run"]


def test_wrong_number_of_stages_is_refused():
    with pytest.raises(ValueError, match="gradient_checkpointing has 3 values; give one, or four"):
        FactSeg(2, "resnet18", gradient_checkpointing=(True, False, True))
