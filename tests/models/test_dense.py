"""What the golden values of the networks on DenseNet-121 can't see."""

from __future__ import annotations

import math

import numpy as np
import paddle
import pytest

from factseg_paddle.models.backbones import densenet as paddle_densenet
from tests.models.sides import SIDES, random_tensor, shapes_of_paddle
from tests.models.starts import assert_starts, kaiming_normal, torch_default, uniform
from torch_ref.models.backbones import densenet as torch_densenet

pytestmark = pytest.mark.usefixtures("without_gradients")

DENSENETS = {"torch_ref": torch_densenet, "factseg_paddle": paddle_densenet}


@pytest.fixture(scope="module", params=SIDES)
def side(request):
    SIDES[request.param].seed(5)
    return SIDES[request.param]


@pytest.fixture(scope="module")
def aspp(side):
    return side.package.create_model("denseaspp_densenet121", 5)


@pytest.fixture(scope="module")
def unet(side):
    return side.package.create_model("denseunet_densenet121", 5)


class TestDenseASPP:
    def test_dropout_is_elementwise_a_tenth_behind_each_branch_and_before_the_head(self, aspp):
        layers = aspp.sublayers() if isinstance(aspp, paddle.nn.Layer) else aspp.modules()
        dropouts = [layer for layer in layers if "Dropout" in type(layer).__name__]
        assert [(type(layer).__name__, layer.p) for layer in dropouts] == [("Dropout", 0.1)] * 6

    def test_branches_activate_after_their_convolutions(self, side, aspp):
        """The authors' own activate before: what such a branch gives would have both signs."""
        aspp.eval()
        branch = aspp.head.dense_aspp_block.aspp_3
        x = side.tensor(np.random.RandomState(0).randn(1, 1024, 5, 5).astype(np.float32))
        output = side.array(branch(x))
        assert output.min() == 0
        assert output.max() > 0

    @pytest.mark.parametrize("size", [(33, 47), (5, 7)])
    def test_any_size_from_5_pixels_on(self, side, aspp, size):
        aspp.eval()
        output = aspp(random_tensor(side, 1, 3, *size))
        assert tuple(output.logits.shape) == (1, 5, *size)
        assert np.isfinite(side.array(output.logits)).all()

    def test_smaller_is_refused(self, side, aspp):
        with pytest.raises(ValueError, match="height 4 is too small; use 5 or more"):
            aspp(random_tensor(side, 1, 3, 4, 64))

    def test_initial_values(self, side, aspp):
        def expected(name, fan_in, _):
            return kaiming_normal(fan_in) if "densenet" in name else torch_default(fan_in)

        assert_starts(side.state(aspp), expected)


class TestDenseUNet:
    def test_sides_divide_by_32(self, side, unet):
        unet.eval()
        assert tuple(unet(random_tensor(side, 1, 3, 32, 64)).logits.shape) == (1, 5, 32, 64)
        with pytest.raises(ValueError, match="width 48 is not divisible by 32; use 32 or 64"):
            unet(random_tensor(side, 1, 3, 32, 48))

    def test_skips_are_rectified_and_the_deepest_feature_is_not(self, side, unet):
        unet.eval()
        *skips, deepest = map(side.array, unet.encoder(random_tensor(side, 1, 3, 64, 64)))
        assert [skip.shape[1] for skip in skips] == [64, 256, 512, 1024]
        assert all(skip.min() == 0 for skip in skips)
        assert deepest.min() < 0

    def test_initial_values(self, side, unet):
        def expected(name, fan_in, fan_out):
            if name.endswith("bias"):
                return 0.0
            if name.startswith("encoder"):
                return kaiming_normal(fan_in)
            if name.startswith("decoder"):
                return uniform(math.sqrt(6 / fan_in))
            return uniform(math.sqrt(6 / (fan_in + fan_out)))  # Xavier's

        assert_starts(side.state(unet), expected)


@pytest.mark.parametrize("package", SIDES)
class TestDenseNet:
    @pytest.mark.parametrize(
        ("output_stride", "strides"),
        [(8, (2, 4, 8, 8, 8)), (16, (2, 4, 8, 16, 16)), (32, (2, 4, 8, 16, 32))],
    )
    def test_strides(self, package, output_stride, strides):
        side = SIDES[package]
        net = DENSENETS[package].DenseNet((1, 1, 1, 1), output_stride=output_stride)
        features = net(random_tensor(side, 1, 3, 64, 96))
        assert net.out_strides == strides
        assert [tuple(f.shape) for f in features] == [
            (1, c, 64 // s, 96 // s) for c, s in zip(net.out_channels, strides, strict=True)
        ]

    def test_dilation_sees_what_stride_saw(self, package):
        """Without poolings, the dilated layers reach as far as the strided ones did."""
        net = DENSENETS[package].DenseNet((1, 1, 1, 1), output_stride=8)
        blocks = [getattr(net.features, f"denseblock{number}") for number in (1, 2, 3, 4)]
        dilations = [
            block.denselayer1.conv2._dilation[0]
            if package == "factseg_paddle"
            else block.denselayer1.conv2.dilation[0]
            for block in blocks
        ]
        assert dilations == [1, 1, 2, 4]

    def test_another_output_stride_is_refused(self, package):
        with pytest.raises(ValueError, match="output_stride 4 is not known; use 8, 16 or 32"):
            DENSENETS[package].densenet121(output_stride=4)


@pytest.mark.parametrize("name", ["denseaspp_densenet121", "denseunet_densenet121"])
def test_pretrained_layers_have_torchvisions_names(name):
    layers = shapes_of_paddle(name).backbone_layers()
    ours = {f"{prefix}.{n}" for prefix, layer in layers.items() for n in layer.state_dict()}
    torchvisions = set(paddle_densenet.densenet121().state_dict())
    left_out = {n for n in torchvisions if "norm5" in n} if "aspp" in name else set()
    assert ours == torchvisions - left_out
