"""What the golden values of FastFCN can't see."""

from __future__ import annotations

import itertools
import math
from importlib import import_module

import numpy as np
import paddle
import pytest

from factseg_paddle.models.backbones import resnet50
from tests.models.sides import SIDES, built_model, random_tensor, shapes_of_paddle

pytestmark = pytest.mark.usefixtures("without_gradients")

# Probabilities of dropout in the order of the layers: head, then auxiliary head.
DROPOUT = {
    "fastfcn_resnet50_fcn": [0.1, 0.1],
    "fastfcn_resnet50_psp": [0.1, 0.1],
    "fastfcn_resnet50_deeplabv3": [0.5, 0.1, 0.1],
    "fastfcn_resnet50_encnet": [0.1, 0.1],
    "fastfcn_resnet50_os16": [0.1],
}
# These take the mean over the image.
NEEDS_TWO_IMAGES = {
    "fastfcn_resnet50_psp",
    "fastfcn_resnet50_deeplabv3",
    "fastfcn_resnet50_os16",
}


@pytest.fixture(scope="module", params=itertools.product(DROPOUT, SIDES), ids="-".join)
def built(request):
    return built_model(*request.param)


class TestFastFCN:
    def test_dropout_is_of_whole_channels_and_of_its_reference_rates(self, built):
        name, _, model = built
        layers = model.sublayers() if isinstance(model, paddle.nn.Layer) else model.modules()
        dropouts = [layer for layer in layers if type(layer).__name__.startswith("Dropout")]
        assert {type(layer).__name__.lower() for layer in dropouts} == {"dropout2d"}
        assert [layer.p for layer in dropouts] == DROPOUT[name]

    def test_odd_sizes(self, built):
        _, side, model = built
        output = model.eval()(random_tensor(side, 1, 3, 33, 47))
        assert tuple(output.logits.shape) == (1, 5, 33, 47)
        assert output.aux_logits == ()

    def test_auxiliary_logits_in_training_mode(self, built):
        name, side, model = built
        output = model.train()(random_tensor(side, 2, 3, 33, 47))
        assert tuple(output.logits.shape) == (2, 5, 33, 47)
        shapes = [tuple(aux.shape) for aux in output.aux_logits]
        assert shapes == ([] if name.endswith("os16") else [(2, 5, 33, 47)])
        assert getattr(model, "aux_weight", None) == (None if name.endswith("os16") else 0.2)

    def test_one_image_in_training_mode(self, built):
        name, side, model = built
        model.train()
        if name in NEEDS_TWO_IMAGES:
            with pytest.raises(ValueError, match="train with two images or more"):
                model(random_tensor(side, 1, 3, 64, 64))
        else:
            assert tuple(model(random_tensor(side, 1, 3, 64, 64)).logits.shape) == (1, 5, 64, 64)

    def test_initial_values(self, built):
        name, side, model = built
        state = side.state(model)
        if name.endswith("os16"):
            weight, fan_in = state["jpu.dilated_convs.3.conv.weight"], 1536 * 9
        else:
            stem = state["pretrained.conv1.3.weight"]  # Kaiming's normal of fan_out
            assert stem.std() == pytest.approx(math.sqrt(2 / (64 * 9)), rel=0.02)
            weight, fan_in = state["jpu.dilation4.0.pointwise.weight"], 1536
        assert weight.std() == pytest.approx(math.sqrt(1 / (3 * fan_in)), rel=0.02)
        if name.endswith("encnet"):
            bound = 1 / math.sqrt(32 * 512)
            codewords = state["head.encmodule.encoding.3.codewords"]
            scale = state["head.encmodule.encoding.3.scale"]
            assert 0.99 * bound < np.abs(codewords).max() <= bound
            assert -1 <= scale.min() < scale.max() <= 0
            linear = state["head.encmodule.fc.0.weight"]
            assert linear.std() == pytest.approx(math.sqrt(1 / (3 * 512)), rel=0.02)


@pytest.mark.parametrize("package", SIDES)
def test_presence_logits_lie_beside_the_pair_that_a_loss_takes(package):
    side = SIDES[package]
    model = side.package.create_model("fastfcn_resnet50_encnet", 5).train()
    output = model(random_tensor(side, 2, 3, 64, 64))
    assert tuple(output.presence_logits.shape) == (2, 5)
    losses = import_module(f"{package}.losses")
    labels = side.tensor(np.zeros((2, 64, 64), np.int64))
    loss = losses.AuxiliaryLoss(losses.CrossEntropyLoss(), model.aux_weight)(*output, labels)
    assert np.isfinite(float(loss))


def test_small_maps_are_the_same_in_both_packages():
    """Pooled 2x2 to 6x6 maps are resized to ever smaller ones, down to 1x1."""
    sides = SIDES.values()
    reference, ours = (s.package.create_model("fastfcn_resnet50_psp", 5) for s in sides)
    state = SIDES["torch_ref"].state(reference)
    weights = {n: a.copy() for n, a in state.items() if not n.endswith("_tracked")}
    SIDES["factseg_paddle"].load(ours, weights)
    for size in ((1, 33), (1, 1), (9, 17)):
        expected, logits = (
            side.array(model.eval()(random_tensor(side, 1, 3, *size)).logits)
            for side, model in zip(sides, (reference, ours), strict=True)
        )
        assert np.abs(logits - expected).max() < 1e-4 * np.abs(expected).max()


def test_backbone_layers_have_torchvisions_names():
    """The authors' networks have none: torchvision has no weights for their stem."""
    layers = shapes_of_paddle("fastfcn_resnet50_os16").backbone_layers()
    named = {f"{p}.{n}": t.shape for p, la in layers.items() for n, t in la.state_dict().items()}
    assert named == {n: t.shape for n, t in resnet50().state_dict().items()}
