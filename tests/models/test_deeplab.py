"""What the golden values of DeepLabv3 and v3+ can't see."""

from __future__ import annotations

import itertools
import math

import numpy as np
import paddle
import pytest

from factseg_paddle.models.backbones import resnet50
from tests.models.sides import SIDES, built_model, random_tensor, shapes_of_paddle

pytestmark = pytest.mark.usefixtures("without_gradients")

# Probability of dropout behind ASPP; None where the network has none.
DROPOUT = {
    "deeplabv3_resnet50": 0.1,
    "deeplabv3_resnet50_dropout50": 0.5,
    "deeplabv3_resnet50_aspp1x1": None,
    "deeplabv3plus_resnet50": 0.1,
    "deeplabv3plus_resnet50_two3x3": 0.5,
    "deeplabv3plus_resnet50_separable": None,
}
# These enlarge by fixed factors.
DIVISIBLE_BY_16 = {
    "deeplabv3_resnet50_aspp1x1",
    "deeplabv3plus_resnet50_two3x3",
    "deeplabv3plus_resnet50_separable",
}
# sqrt(2 / fan_in) is Kaiming's normal distribution, sqrt(1 / (3 fan_in)) PyTorch's uniform one.
DEVIATIONS = {
    "deeplabv3_resnet50": {"classifier.classifier.1.weight": math.sqrt(2 / 2304)},
    "deeplabv3_resnet50_dropout50": {"classifier.0.weight": math.sqrt(1 / (3 * 2304))},
    "deeplabv3_resnet50_aspp1x1": {"aspp.merge_conv.0.weight": math.sqrt(1 / (3 * 1280))},
    "deeplabv3plus_resnet50": {"classifier.classifier.0.weight": math.sqrt(2 / 2736)},
    "deeplabv3plus_resnet50_two3x3": {"head.fuse_conv.0.weight": math.sqrt(1 / (3 * 2736))},
    "deeplabv3plus_resnet50_separable": {
        "de.stack_conv3x3.1.depthwise.weight": 0.33,
        "de.stack_conv3x3.1.pointwise.weight": 0.06,
    },
}


@pytest.fixture(scope="module", params=itertools.product(DROPOUT, SIDES), ids="-".join)
def built(request):
    return built_model(*request.param)


class TestDeepLab:
    def test_dropout_is_elementwise_and_of_its_reference_rate(self, built):
        name, _, model = built
        layers = model.sublayers() if isinstance(model, paddle.nn.Layer) else model.modules()
        dropouts = [layer for layer in layers if type(layer).__name__.startswith("Dropout")]
        assert [type(layer).__name__ for layer in dropouts] == ["Dropout"] * len(dropouts)
        assert [layer.p for layer in dropouts] == ([DROPOUT[name]] if DROPOUT[name] else [])

    def test_sizes(self, built):
        name, side, model = built
        model.eval()
        if name in DIVISIBLE_BY_16:
            with pytest.raises(ValueError, match="width 33 is not divisible by 16; use 32 or 48"):
                model(random_tensor(side, 1, 3, 16, 33))
            size = (16, 48)
        else:
            size = (33, 47)
        assert tuple(model(random_tensor(side, 1, 3, *size)).logits.shape) == (1, 5, *size)

    def test_one_image_is_refused_in_training_mode_and_two_are_not(self, built):
        _, side, model = built
        model.train()
        with pytest.raises(ValueError, match="train with two images or more"):
            model(random_tensor(side, 1, 3, 32, 32))
        output = model(random_tensor(side, 2, 3, 32, 32))
        assert tuple(output.logits.shape) == (2, 5, 32, 32)
        assert output.aux_logits == ()

    def test_initial_values_of_the_head(self, built):
        name, side, model = built
        state = side.state(model)
        for tensor, deviation in DEVIATIONS[name].items():
            assert state[tensor].std() == pytest.approx(deviation, rel=0.06), tensor


def test_sides_of_one_pixel_are_the_same_in_both_packages():
    """Maps of one row or column are enlarged too."""
    reference, ours = (s.package.create_model("deeplabv3plus_resnet50", 5) for s in SIDES.values())
    state = SIDES["torch_ref"].state(reference)
    weights = {n: a.copy() for n, a in state.items() if not n.endswith("_tracked")}
    SIDES["factseg_paddle"].load(ours, weights)
    for size in ((1, 33), (1, 1), (5, 2)):
        expected, logits = (
            side.array(model.eval()(random_tensor(side, 1, 3, *size)).logits)
            for side, model in zip(SIDES.values(), (reference, ours), strict=True)
        )
        assert np.abs(logits - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("name", DROPOUT)
def test_backbone_layers_have_torchvisions_names(name):
    layers = shapes_of_paddle(name).backbone_layers()
    named = {f"{p}.{n}": t.shape for p, la in layers.items() for n, t in la.state_dict().items()}
    assert named == {n: t.shape for n, t in resnet50().state_dict().items()}
