"""Frozen stages and frozen BatchNorm of the Paddle encoder, which stay so after train()."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from paddle import nn

from factseg_paddle import FactSeg
from factseg_paddle.models.backbones import ResNetEncoder, resnet18

STAGES = ["conv1 bn1", "layer1", "layer2", "layer3", "layer4"]


def stage_of(name):
    """Index of the stage that a tensor of FactSeg belongs to; 5 outside the encoder."""
    if not name.startswith("resencoder.resnet."):
        return len(STAGES)
    part = name.split(".")[2]
    return next(index for index, names in enumerate(STAGES) if part in names.split())


def train_once(model, *, wrap=None):
    """One step of training; gives the state dict before and after."""
    paddle.seed(0)
    before = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    (wrap or model).train()
    optimizer = paddle.optimizer.Momentum(0.1, parameters=model.parameters(), weight_decay=1e-2)
    out = (wrap or model)(paddle.randn([2, 3, 64, 64]))
    (out.class_logits.square().mean() + out.binary_logits.square().mean()).backward()
    optimizer.step()
    return before, {name: tensor.numpy() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("frozen_stages", range(6))
def test_a_frozen_stage_keeps_parameters_and_statistics_in_training(frozen_stages):
    model = FactSeg(2, "resnet18", frozen_stages=frozen_stages)
    before, after = train_once(model)
    for name in before:
        unchanged = np.array_equal(before[name], after[name])
        assert unchanged == (stage_of(name) < frozen_stages), name


def test_frozen_batch_norm_keeps_parameters_and_statistics_of_the_encoder_alone():
    model = FactSeg(2, "resnet18", frozen_batch_norm=True)
    before, after = train_once(model)
    norms = {
        name
        for name, layer in model.named_sublayers()
        if isinstance(layer, nn.BatchNorm2D) and name.startswith("resencoder")
    }
    for name in before:
        unchanged = np.array_equal(before[name], after[name])
        assert unchanged == (name.rpartition(".")[0] in norms), name


def test_freeze_survives_train_of_a_wrapper():
    """Layer.train() of a wrapper writes `training` on all layers without asking the encoder."""

    class Wrapper(nn.Layer):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, x):
            return self.inner(x)

    model = FactSeg(2, "resnet18", frozen_stages=2)
    before, after = train_once(model, wrap=Wrapper(model))
    for name in before:
        if stage_of(name) < 2:
            assert np.array_equal(before[name], after[name]), name


def test_frozen_batch_norm_normalises_by_its_statistics_in_training():
    encoder = ResNetEncoder(resnet18(), frozen_stages=5)
    paddle.seed(0)
    x = paddle.randn([2, 3, 64, 64])
    encoder.train()
    in_training = encoder(x)
    encoder.eval()
    for ours, reference in zip(in_training, encoder(x), strict=True):
        assert np.array_equal(ours.numpy(), reference.numpy())


def test_gradients_reach_what_lies_before_a_frozen_batch_norm():
    model = FactSeg(2, "resnet18", frozen_batch_norm=True)
    train_once(model)
    assert float(model.resencoder.resnet.conv1.weight.grad.abs().max()) > 0


@pytest.mark.parametrize("frozen_stages", [-1, 6])
def test_unknown_number_of_frozen_stages_is_refused(frozen_stages):
    with pytest.raises(ValueError, match=f"frozen_stages {frozen_stages} is not known; use 0"):
        FactSeg(2, "resnet18", frozen_stages=frozen_stages)


def test_a_frozen_batch_norm_takes_one_image_whose_map_is_one_pixel():
    encoder = ResNetEncoder(resnet18(), frozen_batch_norm=True)
    encoder.train()
    assert encoder(paddle.randn([1, 3, 32, 32]))[-1].shape == [1, 512, 1, 1]
