"""What the golden values of FCN-8s can't see."""

from __future__ import annotations

import itertools
import math

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from scipy import stats

from factseg_paddle.engine.weights import load_backbone
from factseg_paddle.io import save_pdparams
from factseg_paddle.models.backbones import resnet50
from tests.models.sides import SIDES, built_model, random_tensor
from tests.models.starts import assert_starts, kaiming_normal, torch_default, uniform

pytestmark = pytest.mark.usefixtures("without_gradients")

# The kind and the probability of both dropouts. fcn8s_vgg16_atonce is fcn8s_vgg16 but for two
# factors, which its golden values see.
DROPOUT = {
    "fcn8s_vgg16": ("Dropout2D", 0.5),
    "fcn8s_vgg16_bn": None,
    "fcn8s_vgg16_pad1": ("Dropout", 0.5),
    "fcn8s_resnet50": None,
}
# Where torchvision's vgg16 and vgg16_bn have their convolutions, in `features`.
VGG16 = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
VGG16_BN = (0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40)
WIDTHS = (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)


@pytest.fixture(scope="module", params=itertools.product(DROPOUT, SIDES), ids="-".join)
def built(request):
    return built_model(*request.param)


def xavier(fan_in, fan_out):
    return uniform(math.sqrt(6 / (fan_in + fan_out)))


class TestFCN8s:
    def test_initial_values(self, built):
        name, side, model = built

        def expected(tensor, fan_in, fan_out):
            if name == "fcn8s_vgg16_bn":
                return xavier(fan_in, fan_out)
            if name == "fcn8s_resnet50":
                return kaiming_normal(fan_out) if "features" in tensor else torch_default(fan_in)
            if tensor.startswith("score") and name == "fcn8s_vgg16":
                return 0.0
            if tensor.startswith(("score", "upscore")):
                return torch_default(fan_in)
            if tensor.endswith("bias"):
                return 0.0
            return stats.norm(0, 0.01) if tensor.startswith("fc") else kaiming_normal(fan_out)

        state = side.state(model)
        if name == "fcn8s_vgg16":
            state = {n: array for n, array in state.items() if not n.startswith("upscore")}
        assert_starts(state, expected)

    def test_dropout(self, built):
        name, _, model = built
        layers = model.sublayers() if isinstance(model, paddle.nn.Layer) else model.modules()
        kinds = [(type(layer).__name__, layer.p) for layer in layers if hasattr(layer, "p")]
        expected = [DROPOUT[name]] * 2 if DROPOUT[name] else []
        assert [(kind.replace("2d", "2D"), p) for kind, p in kinds] == expected

    def test_sizes(self, built):
        name, side, model = built
        model.eval()
        if name == "fcn8s_vgg16":
            size = (1, 47)
        else:
            size = (32, 96)
            with pytest.raises(ValueError, match="width 80 is not divisible by 32; use 64 or 96"):
                model(random_tensor(side, 1, 3, 64, 80))
        output = model(random_tensor(side, 1, 3, *size))
        assert tuple(output.logits.shape) == (1, 5, *size)
        assert output.aux_logits == ()

    def test_upscores_enlarge_by_their_stride(self, built):
        """Unpadded in the authors' network alone. Padding "SAME" would lose pixels in Paddle."""
        name, side, model = built
        beyond = 1 if name == "fcn8s_vgg16" else 0
        for upscore, factor in (model.upscore2, 2), (model.upscore8, 8):
            enlarged = upscore(random_tensor(side, 1, 5, 4, 3))
            assert tuple(enlarged.shape) == (1, 5, factor * (4 + beyond), factor * (3 + beyond))


@pytest.mark.parametrize("package", SIDES)
def test_bilinear_upscores_interpolate_each_class_by_itself(package):
    side = SIDES[package]
    layers, bilinear = side.package.models.layers, side.package.models.initializers.bilinear
    for factor in 2, 8:
        size = 2 * factor
        layer = layers.deconv(3, 3, size, stride=factor, weight_init=bilinear(3, size))
        maps = np.zeros((1, 3, 5, 5), np.float32)
        maps[0, 1] = np.arange(5)  # a ramp to the right
        enlarged = side.array(layer(side.tensor(maps)))
        assert np.all(enlarged[0, [0, 2]] == 0)
        inside = enlarged[0, 1, factor : 5 * factor, factor : 5 * factor]
        ramp = (np.arange(4 * factor) + 0.5) / factor
        np.testing.assert_allclose(inside, np.broadcast_to(ramp, inside.shape), atol=1e-6)


class TestBackbone:
    def test_layers_have_torchvisions_names(self, built):
        name, side, model = built
        if side is SIDES["torch_ref"]:  # which nothing is loaded into
            return
        layers = model.backbone_layers()
        ours = {f"{p}.{n}" for p, layer in layers.items() for n in layer.state_dict()}
        if name == "fcn8s_resnet50":
            assert ours == set(resnet50().state_dict())
        elif name == "fcn8s_vgg16_bn":
            norm = ("weight", "bias", "_mean", "_variance")
            assert ours == {f"features.{i}.weight" for i in VGG16_BN} | {
                f"features.{i + 1}.{tensor}" for i in VGG16_BN for tensor in norm
            }
        else:
            prefixes = [f"features.{i}" for i in VGG16]
            if name == "fcn8s_vgg16":
                assert (layers["classifier.0"], layers["classifier.3"]) == (model.fc6, model.fc7)
                prefixes += ["classifier.0", "classifier.3"]
            assert ours == {f"{prefix}.{n}" for prefix in prefixes for n in ("weight", "bias")}

    def test_vgg16_bn_with_its_biases_folded_is_the_same_function(self, tmp_path):
        network = SIDES["factseg_paddle"].package.create_model("fcn8s_vgg16_bn", 5)
        network.eval()
        arrays = vgg16_bn(np.random.RandomState(1))
        path = tmp_path / "vgg16_bn.pdparams"
        classifier = {f"classifier.{i}.bias": np.zeros(4, np.float32) for i in (0, 3, 6)}
        save_pdparams(path, arrays | classifier)
        report = load_backbone(network, path)
        assert set(report.used) == set(arrays)
        assert set(report.unused) == set(classifier)

        x = expected = random_tensor(SIDES["factseg_paddle"], 1, 3, 64, 64)
        for stage in (network.conv1, network.conv2, network.conv3, network.conv4, network.conv5):
            x = network.pool(stage(x))
        tensors = {n: paddle.to_tensor(array) for n, array in arrays.items()}
        for i in range(44):
            if i in VGG16_BN:
                weight, bias = (tensors[f"features.{i}.{n}"] for n in ("weight", "bias"))
                expected = F.conv2d(expected, weight, bias, padding=1)
                norm = ("_mean", "_variance", "weight", "bias")
                expected = F.relu(
                    F.batch_norm(expected, *(tensors[f"features.{i + 1}.{n}"] for n in norm))
                )
            elif i in (6, 13, 23, 33, 43):
                expected = F.max_pool2d(expected, 2)
        assert x.shape == [1, 512, 2, 2]
        allowed = 1e-5 * float(expected.max())
        np.testing.assert_allclose(x.numpy(), expected.numpy(), rtol=0, atol=allowed)


def vgg16_bn(rng):
    """Arrays with the names and shapes of torchvision's, which has biases in its convolutions."""
    arrays, in_channels = {}, 3
    for i, out_channels in zip(VGG16_BN, WIDTHS, strict=True):
        deviation = math.sqrt(2 / (9 * in_channels))
        arrays[f"features.{i}.weight"] = rng.randn(out_channels, in_channels, 3, 3) * deviation
        arrays[f"features.{i}.bias"] = rng.randn(out_channels)
        arrays[f"features.{i + 1}.weight"] = rng.uniform(0.5, 1.5, out_channels)
        arrays[f"features.{i + 1}.bias"] = rng.randn(out_channels) * 0.1
        arrays[f"features.{i + 1}._mean"] = rng.randn(out_channels)
        arrays[f"features.{i + 1}._variance"] = rng.uniform(0.5, 1.5, out_channels)
        in_channels = out_channels
    return {name: array.astype(np.float32) for name, array in arrays.items()}
