"""What the golden values of Semantic FPN, FarSeg and ResUNet can't see."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from factseg_paddle.models.backbones import resnet50
from tests.models.sides import SIDES, random_tensor, shapes_of_paddle
from tests.models.starts import assert_starts, kaiming_normal, torch_default, uniform

pytestmark = pytest.mark.usefixtures("without_gradients")

NAMES = ("semanticfpn_resnet50", "farseg_resnet50", "resunet_resnet50")


@pytest.fixture(scope="module", params=itertools.product(NAMES, SIDES), ids="-".join)
def built(request):
    name, package = request.param
    SIDES[package].seed(5)
    return SIDES[package], SIDES[package].package.create_model(name, 5)


@pytest.fixture(scope="module", params=SIDES)
def farseg(request):
    side = SIDES[request.param]
    return side, side.package.create_model("farseg_resnet50", 5)


def test_initial_values(built):
    side, model = built

    def expected(name, fan_in, fan_out):
        if ".resnet." in name:
            return kaiming_normal(fan_out)
        if name.startswith("fpn"):
            return 0.0 if name.endswith("bias") else uniform(math.sqrt(3 / fan_in))
        return torch_default(fan_in)

    assert_starts(side.state(model), expected)


def test_sides_divide_by_32(built):
    side, model = built
    model.eval()
    assert tuple(model(random_tensor(side, 1, 3, 32, 96)).logits.shape) == (1, 5, 32, 96)
    with pytest.raises(ValueError, match="height 80 is not divisible by 32; use 64 or 96"):
        model(random_tensor(side, 1, 3, 80, 64))


def test_no_auxiliary_heads_in_training(built):
    side, model = built
    model.train()
    assert model(random_tensor(side, 2, 3, 64, 64)).aux_logits == ()


@pytest.mark.parametrize("name", NAMES)
def test_pretrained_layers_have_torchvisions_names(name):
    layers = shapes_of_paddle(name).backbone_layers()
    ours = {f"{prefix}.{n}" for prefix, layer in layers.items() for n in layer.state_dict()}
    assert ours == set(resnet50().state_dict())


class TestFarSeg:
    def test_the_buffer_of_the_checkpoints_is_carried_and_not_counted(self, farseg):
        side, model = farseg
        model.train()
        model(random_tensor(side, 2, 3, 64, 64))
        step = side.state(model)["buffer_step"]
        assert (step.shape, step.dtype, float(step)) == ((), np.float32, 0.0)

    def test_each_level_has_a_scene_encoder_of_its_own(self, farseg):
        _, model = farseg
        assert len(model.sr.scene_encoder) == 4

    def test_the_scene_reaches_every_level(self, farseg):
        side, model = farseg
        model.eval()
        scene = random_tensor(side, 1, 2048, 1, 1)
        levels = [random_tensor(side, 1, 256, size, size) for size in (8, 4, 2, 1)]
        near, far = (
            [side.array(level) for level in model.sr(factor * scene, levels)] for factor in (1, -1)
        )
        assert all(not np.allclose(a, b) for a, b in zip(near, far, strict=True))
        assert [level.shape for level in near] == [(1, 256, s, s) for s in (8, 4, 2, 1)]


@pytest.mark.parametrize("package", SIDES)
def test_resunet_enlarges_features_by_the_nearest_pixel_before_the_skip(package):
    side = SIDES[package]
    decoder = side.package.create_model("resunet_resnet50", 5).decoder
    decoder.eval()
    seen = []
    decoder.conv3x3_bn_relu_3.register_forward_pre_hook(
        lambda _, inputs: seen.append(side.array(inputs[0]))
    )
    channels, sizes = (256, 512, 1024, 2048), (8, 4, 2, 1)
    features = [random_tensor(side, 1, c, s, s) for c, s in zip(channels, sizes, strict=True)]
    decoder(features)
    enlarged, skip = seen[0][:, :256], seen[0][:, 256:]
    assert np.array_equal(enlarged, enlarged[:, :, ::2, ::2].repeat(2, 2).repeat(2, 3))
    assert np.array_equal(skip, side.array(features[0]))
