"""Both packages against what the original FactSeg computed in float64.

Relative bounds: 1e-6 for torch_ref; for Paddle 2e-6 where its bilinear kernel, which computes its
ratio in float32, takes part (3.3e-8 measured forward, 2.5e-7 in gradients).
"""

from __future__ import annotations

import numpy as np
import pytest

from tests.models import golden
from tests.models.sides import SIDES

BOUND = {"torch_ref": 1e-6, "factseg_paddle": 2e-6}
RATES = [0.007 * (1 - k / 10) ** 0.9 for k in range(5)]


@pytest.fixture(scope="module", params=SIDES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def side(name):
    return SIDES[name]


def factseg(side):
    """The original's weights, in float64 and evaluation mode."""
    model = side.to_be_loaded(side.package.FactSeg)
    side.load(model, golden.weights())
    model = side.double(model)
    model.eval()
    return model


def batch(side):
    images, labels = golden.batch()
    return side.tensor(images.astype(np.float64)), side.tensor(labels)


def error(ours, reference, scale=None):
    """Largest difference relative to the largest value of what the eight were picked from."""
    scale = np.max(np.abs(reference)) if scale is None else scale
    return np.max(np.abs(np.asarray(ours) - reference)) / scale


@pytest.fixture(scope="module")
def forward(side):
    model = factseg(side)
    images, labels = batch(side)
    return model, model(images), labels


def test_state_dict_has_the_originals_names_and_shapes_in_order(name, side):
    state = side.state(side.to_be_loaded(side.package.FactSeg))
    expected = [(n, tuple(shape)) for n, shape in golden.NAMES]
    if name == "factseg_paddle":  # which has no num_batches_tracked
        expected = [entry for entry in expected if not entry[0].endswith("num_batches_tracked")]
    assert [(n, a.shape) for n, a in state.items()] == expected
    assert len(state) == {"torch_ref": 438, "factseg_paddle": 371}[name]


def test_parameter_count(side):
    with side.without_values():
        parameters = side.parameters(side.package.FactSeg())
    count = {"resencoder": 0, "fgfpn": 0, "bifpn": 0, "fg_decoder": 0, "bi_decoder": 0}
    count |= {"fg_cls": 0, "bi_cls": 0}
    for parameter_name, parameter in parameters.items():
        count[parameter_name.split(".")[0]] += int(np.prod(parameter.shape))
    assert sum(count.values()) == 33_446_609
    assert count == {
        "resencoder": 23_508_032,
        "fgfpn": 3_344_384,
        "bifpn": 3_344_384,
        "fg_decoder": 1_623_808,
        "bi_decoder": 1_623_808,
        "fg_cls": 2_064,
        "bi_cls": 129,
    }


def test_features_and_logits(name, side, forward):
    model, output, _ = forward
    images, _ = batch(side)
    features = dict(zip(("c2", "c3", "c4", "c5"), model.resencoder(images), strict=True))
    features |= output._asdict()
    for key in ("c2", "c3", "c4", "c5", "class_logits", "binary_logits"):
        array = side.array(features[key])[:1]
        reference = golden.VALUES[f"ft:{key}"]
        ours = golden.picked(key, array)
        assert error(ours, reference, np.max(np.abs(array))) < BOUND[name], key


def test_joint_probability_and_its_argmax(name, side, forward):
    probability = side.array(side.package.joint_probability(*forward[1]))[0]
    picked = probability.ravel()[golden.VALUES["prob_idx"]]
    assert np.max(np.abs(picked - golden.VALUES["prob_val"])) < BOUND[name]
    assert np.array_equal(probability.argmax(0), golden.VALUES["prob_argmax"])


@pytest.mark.parametrize("form", ["literal", "logits"])
def test_loss_and_every_gradient(name, side, form):
    model = factseg(side)
    images, labels = batch(side)
    loss = side.package.JointLoss(form=form)(*model(images), labels)
    loss.backward()
    assert error(side.array(loss), golden.VALUES["loss_evalbn"]) < BOUND[name]
    gradients = side.gradients(model)
    expected = {key[3:] for key in golden.VALUES.files if key.startswith("gn:")}
    assert gradients.keys() == expected
    for parameter, gradient in gradients.items():
        scale = np.max(np.abs(gradient))
        picked = golden.picked(parameter, gradient)
        assert error(picked, golden.VALUES[f"gv:{parameter}"], scale) < BOUND[name], parameter
        norm = np.linalg.norm(gradient)
        assert error(norm, golden.VALUES[f"gn:{parameter}"]) < BOUND[name], parameter


# Of Paddle in `make slow` alone; the suite holds its training steps in training mode
# against the golden values, below, and against torch's in tests/alignment.
@pytest.mark.parametrize(
    "name",
    ["torch_ref", pytest.param("factseg_paddle", marks=pytest.mark.slow)],
    indirect=True,
)
def test_five_steps_with_batch_norm_in_evaluation_mode(name, side):
    model = factseg(side)
    images, labels = batch(side)
    step = side.train_steps(model, RATES, clip=3.0)
    for k in range(5):
        loss = side.package.JointLoss()(*model(images), labels)
        value = float(side.array(loss))
        norm = step(loss)
        assert error(value, golden.VALUES["evalbn_loss"][k]) < BOUND[name], k
        assert error(norm, golden.VALUES["evalbn_gradnorm"][k]) < BOUND[name], k
    parameters = side.parameters(model)
    expected = {key[3:] for key in golden.VALUES.files if key.startswith("pe:")}
    assert parameters.keys() == expected
    for parameter, tensor in parameters.items():
        array = side.array(tensor)
        reference = golden.VALUES[f"pe:{parameter}"]
        picked = golden.picked(parameter, array)
        assert error(picked, reference, np.max(np.abs(array))) < BOUND[name], parameter


def test_steps_in_training_mode(name, side):
    """Paddle meets steps 0 and 1; later ones are chaotic even in float64."""
    model = factseg(side)
    model.train()
    images, labels = batch(side)
    step = side.train_steps(model, RATES, clip=35.0)
    steps, bounds = {"torch_ref": (5, [1e-6] * 5), "factseg_paddle": (2, [2e-6, 2e-4])}[name]
    for k in range(steps):
        loss = side.package.JointLoss()(*model(images), labels)
        value = float(side.array(loss))
        norm = step(loss)
        assert error(value, golden.VALUES["train_loss"][k]) < bounds[k], k
        assert error(norm, golden.VALUES["train_gradnorm"][k]) < bounds[k], k
    if name == "torch_ref":
        for parameter, tensor in side.parameters(model).items():
            array = side.array(tensor)
            reference = golden.VALUES[f"pv:{parameter}"]
            picked = golden.picked(parameter, array)
            assert error(picked, reference, np.max(np.abs(array))) < 1e-6, parameter
