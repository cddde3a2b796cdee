"""A network as a function from numpy to numpy."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from paddle import nn

from factseg_paddle.inference.predictor import network_predictor
from tests.factseg_paddle.engine.tiny import seeded


def images(seed=0, n=2):
    return np.random.RandomState(seed).randn(n, 3, 32, 32).astype(np.float32)


def test_gives_the_joint_probability_of_the_paper():
    net = seeded(1)
    net.eval()
    found = network_predictor(net)(images())
    output = net(paddle.to_tensor(images()))
    classes = output.class_logits.numpy().astype(np.float64)
    p = np.exp(classes) / np.exp(classes).sum(axis=1, keepdims=True)
    s = 1 / (1 + np.exp(-output.binary_logits.numpy().astype(np.float64)))
    joint = np.concatenate([(1 - s) * p[:, :1], s * p[:, 1:]], axis=1)
    joint /= joint.sum(axis=1, keepdims=True)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, joint, atol=1e-6)


def test_batch_norm_neither_uses_nor_learns_the_batch():
    net = seeded(1)
    net.train()
    before = {name: t.numpy().copy() for name, t in net.state_dict().items()}
    predict = network_predictor(net)
    together, alone = predict(images())[:1], predict(images()[:1])
    np.testing.assert_allclose(together, alone, atol=1e-6)
    for name, tensor in net.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), before[name])


def test_every_layer_keeps_its_own_mode():
    net = seeded(1)
    net.train()
    net.body.eval()  # frozen, while the rest trains
    modes = [layer.training for layer in net.sublayers(include_self=True)]
    assert len(set(modes)) == 2
    network_predictor(net)(images())
    assert [layer.training for layer in net.sublayers(include_self=True)] == modes


def test_modes_come_back_after_an_error():
    class Failing(nn.Layer):
        def forward(self, _):
            raise RuntimeError("out of memory")

    net = Failing()
    net.train()
    with pytest.raises(RuntimeError, match="out of memory"):
        network_predictor(net)(images())
    assert net.training


def test_no_gradients_are_recorded():
    net, seen = seeded(1), []
    net.fg_cls.register_forward_post_hook(lambda *args: seen.append(args[2].stop_gradient))
    network_predictor(net)(images())
    assert seen == [True]
