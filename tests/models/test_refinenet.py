"""What the golden values of RefineNet can't see."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from factseg_paddle.models.backbones import resnet50, resnet101
from tests.models.sides import SIDES, built_model, random_tensor, shapes_of_paddle
from tests.models.starts import assert_starts, kaiming_normal, torch_default

pytestmark = pytest.mark.usefixtures("without_gradients")

BACKBONES = {
    "refinenet_resnet50_crp2": resnet50,
    "refinenet_resnet50": resnet50,
    "refinenet_resnet101": resnet101,
}
# What the names of the backbones' tensors begin with.
BACKBONE_NAMES = ("layer1.", "layer2.", "layer3.", "layer4.", "resnet_encoder.")


@pytest.fixture(scope="module", params=itertools.product(BACKBONES, SIDES), ids="-".join)
def built(request):
    return built_model(*request.param)


class TestRefineNet:
    def test_initial_values(self, built):
        _, side, model = built

        def expected(name, fan_in, fan_out):
            in_backbone = name.startswith(BACKBONE_NAMES)
            return kaiming_normal(fan_out) if in_backbone else torch_default(fan_in)

        assert_starts(side.state(model), expected)

    def test_sizes(self, built):
        name, side, model = built
        model.eval()
        size = (33, 47)
        if name != "refinenet_resnet50_crp2":
            with pytest.raises(ValueError, match="width 47 is not divisible by 32; use 32 or 64"):
                model(random_tensor(side, 1, 3, 32, 47))
            size = (32, 64)
        assert tuple(model(random_tensor(side, 1, 3, *size)).logits.shape) == (1, 5, *size)

    def test_no_auxiliary_heads_in_training(self, built):
        _, side, model = built
        output = model.train()(random_tensor(side, 2, 3, 32, 32))
        assert tuple(output.logits.shape) == (2, 5, 32, 32)
        assert output.aux_logits == ()

    def test_the_shortcut_adds_what_the_first_relu_gives(self, built):
        """In the sources it works in place; without that, logits differ by more than their size."""
        name, side, model = built
        unit = model.refinenet4.output_conv
        first, second = unit.rcu if name.endswith("crp2") else (unit.conv1, unit.conv2)
        x = random_tensor(side, 1, 512, 3, 3)
        before = side.array(x).copy()
        branch = side.array(second(first(x.clip(min=0)).clip(min=0)))
        expected = np.maximum(before, 0) + branch
        assert side.array(unit(x)) == pytest.approx(expected, abs=1e-5)
        assert np.array_equal(side.array(x), before)  # here nothing works in place

    def test_pooling_counts_no_padding(self, built):
        """A link may pool negative values, which a padding of zeros would exceed."""
        name, side, model = built
        pool, _ = model.refinenet1.crp.block2
        assert np.all(side.array(pool(-random_tensor(side, 1, 1, 3, 3).abs())) < 0)
        assert hasattr(model.refinenet1.crp, "block3") != name.endswith("crp2")

    def test_logits_are_enlarged_with_corners_aligned(self, built):
        _, side, model = built
        seen = []
        *_, classifier = model.output_conv
        hook = classifier.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        logits = side.array(model.eval()(random_tensor(side, 1, 3, 32, 64)).logits)
        hook.remove()
        quarter = side.array(classifier(seen[0]))
        assert quarter.shape == (1, 5, 8, 16)
        corners = np.s_[:, :, [0, 0, -1, -1], [0, -1, 0, -1]]
        assert logits[corners] == pytest.approx(quarter[corners], rel=1e-5)

    def test_features_of_one_width_get_the_size_of_the_coarser(self, built):
        """As the article does, which compares widths alone; the others never have such features."""
        _, side, model = built
        coarse, fine = random_tensor(side, 1, 512, 1, 1), random_tensor(side, 1, 256, 2, 1)
        assert tuple(model.refinenet3.mrf(coarse, fine).shape) == (1, 256, 1, 1)


def test_small_maps_are_the_same_in_both_packages():
    """Features of one pixel, or of one column in every path, are fused too."""
    sides = SIDES.values()
    reference, ours = (s.package.create_model("refinenet_resnet50_crp2", 5) for s in sides)
    state = SIDES["torch_ref"].state(reference)
    weights = {n: a.copy() for n, a in state.items() if not n.endswith("_tracked")}
    SIDES["factseg_paddle"].load(ours, weights)
    for size in ((1, 33), (1, 1), (33, 9)):
        expected, logits = (
            side.array(model.eval()(random_tensor(side, 1, 3, *size)).logits)
            for side, model in zip(sides, (reference, ours), strict=True)
        )
        assert np.abs(logits - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("name", BACKBONES)
def test_backbone_layers_have_torchvisions_names(name):
    layers = shapes_of_paddle(name).backbone_layers()
    named = {f"{p}.{n}": t.shape for p, la in layers.items() for n, t in la.state_dict().items()}
    assert named == {n: t.shape for n, t in BACKBONES[name]().state_dict().items()}


@pytest.mark.parametrize("package", SIDES)
def test_upsampling_can_be_left_out(package):
    side = SIDES[package]
    model = side.package.create_model("refinenet_resnet101", 5, upsample=False)
    assert tuple(model.eval()(random_tensor(side, 1, 3, 32, 64)).logits.shape) == (1, 5, 8, 16)
