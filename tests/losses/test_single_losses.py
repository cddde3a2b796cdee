"""What is particular to one loss: golden values of the originals, and what they got wrong."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import log_loss
from sklearn.utils.class_weight import compute_sample_weight

from . import references as ref
from .cases import sample
from .frameworks import PADDLE

GOLDEN = json.loads((Path(__file__).parents[1] / "data" / "losses_golden.json").read_text())


@pytest.fixture(scope="module")
def golden_arrays():
    """The arrays that the golden values were computed on, in the order of their recipe."""
    random = np.random.RandomState(7)
    logits = random.randn(2, 5, 6, 7)
    labels = random.randint(0, 5, (2, 6, 7))
    labels[random.rand(2, 6, 7) < 0.1] = 255
    random.randint(0, 5, (2, 6, 7))
    binary_logits = random.randn(2, 1, 6, 7)
    binary_labels = random.randint(0, 2, (2, 1, 6, 7))
    binary_labels[random.rand(2, 1, 6, 7) < 0.1] = 255
    return logits, labels, binary_logits, binary_labels[:, 0]


def test_cross_entropy_meets_the_golden_value(framework, golden_arrays):
    run = framework.run(framework.losses.CrossEntropyLoss(), golden_arrays[:2])
    assert run.value == pytest.approx(GOLDEN["ce_mean_valid"], rel=1e-14)


@pytest.mark.parametrize("gamma", [0, 1, 2])
def test_focal_meets_the_originals_value_and_gradient(framework, golden_arrays, gamma):
    run = framework.run(framework.losses.FocalLoss(gamma=gamma), golden_arrays[:2], "float32")
    assert run.value == pytest.approx(GOLDEN[f"factseg_focal_gamma{gamma}_f32"], rel=1e-6)
    norm = np.linalg.norm(run.gradients[0])
    assert norm == pytest.approx(GOLDEN[f"factseg_focal_gamma{gamma}_gradnorm_f32"], rel=1e-6)


def test_binary_dice_meets_the_golden_value_of_simplecv(framework, golden_arrays):
    run = framework.run(framework.losses.BinaryDiceLoss(), golden_arrays[2:])
    expected = GOLDEN["simplecv_dice_with_logits_smooth1"]  # SimpleCV computes it in float32
    assert run.value == pytest.approx(expected, rel=2e-7)


def test_cross_entropy_is_not_clipped_at_64():
    """Paddle's own cross_entropy gives 64 here, since its softmax clips x - max(x) at -64."""
    logits = PADDLE.tensor(np.array([0.0, 100.0, 0.0]).reshape(1, 3, 1, 1))
    labels = PADDLE.tensor(np.zeros((1, 1, 1), dtype=np.int64))
    assert float(PADDLE.losses.CrossEntropyLoss()(logits, labels)) == 100


def test_cross_entropy_equals_scikit_learn(framework):
    class_logits, _, labels = sample(seed=40, ignored=0)
    pixels = class_logits.transpose(0, 2, 3, 1).reshape(-1, class_logits.shape[1])
    probabilities = np.array([ref.softmax(pixel.tolist()) for pixel in pixels])
    run = framework.run(framework.losses.CrossEntropyLoss(), (class_logits, labels))
    assert run.value == pytest.approx(log_loss(labels.ravel(), probabilities), rel=1e-12)
    counts = np.bincount(labels.ravel(), minlength=5)
    weights = dict(enumerate(1 / np.log(1.02 + counts / counts.sum())))
    run = framework.run(
        framework.losses.InverseFrequencyCrossEntropyLoss(5), (class_logits, labels)
    )
    expected = log_loss(
        labels.ravel(),
        probabilities,
        sample_weight=compute_sample_weight(weights, labels.ravel()),
    )
    assert run.value == pytest.approx(expected, rel=1e-12)


def test_inverse_frequency_takes_an_absent_class(framework):
    class_logits, _, labels = sample(seed=41)
    labels[labels == 3] = 0
    run = framework.run(
        framework.losses.InverseFrequencyCrossEntropyLoss(5), (class_logits, labels)
    )
    assert run.value == pytest.approx(ref.inverse_frequency(class_logits, labels), rel=1e-12)


def test_inverse_frequency_with_another_class_count_is_an_error(framework):
    class_logits, _, labels = (framework.tensor(array) for array in sample())
    with pytest.raises(ValueError, match=r"\[2, 5, 6, 7\] have 5 channels, but num_classes is 4"):
        framework.losses.InverseFrequencyCrossEntropyLoss(4)(class_logits, labels)


def test_focal_without_alpha_is_focal_with_ones(framework):
    """The original fails with its own default, alpha=None."""
    class_logits, _, labels = sample(seed=42)
    plain = framework.run(framework.losses.FocalLoss(), (class_logits, labels))
    ones = framework.run(framework.losses.FocalLoss(alpha=np.ones(5)), (class_logits, labels))
    assert plain.value == pytest.approx(ones.value, rel=1e-14)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_focal_is_smooth_where_the_true_class_is_certain(framework, gamma, dtype):
    """x^gamma has no finite slope at 0 for gamma below 1, and 0 * inf is NaN."""
    logits = np.array([1e3, 0.0]).reshape(1, 2, 1, 1)
    labels = np.zeros((1, 1, 1), dtype=np.int64)
    run = framework.run(framework.losses.FocalLoss(gamma=gamma), (logits, labels), dtype)
    assert run.value == 0
    assert not run.gradients[0].any()


def test_focal_with_wrong_arguments_is_an_error(framework):
    class_logits, _, labels = (framework.tensor(array) for array in sample())
    with pytest.raises(ValueError, match="gamma -1 is negative"):
        framework.losses.FocalLoss(gamma=-1)
    with pytest.raises(ValueError, match=r"alpha has 2 weights, but .* have 5 channels"):
        framework.losses.FocalLoss(alpha=(1, 1))(class_logits, labels)


def test_dice_is_near_0_for_the_truth_and_near_1_for_its_opposite(framework):
    labels = np.random.RandomState(0).randint(0, 2, (2, 30, 30))
    truth = 50.0 * np.stack([labels == 0, labels == 1], axis=1)
    dice, binary_dice = framework.losses.DiceLoss(), framework.losses.BinaryDiceLoss()
    assert framework.run(dice, (truth, labels)).value < 1e-9
    assert framework.run(dice, (-truth, labels)).value > 0.99
    logit = truth[:, 1:] - 25
    assert framework.run(binary_dice, (logit, labels)).value < 1e-9
    assert framework.run(binary_dice, (-logit, labels)).value > 0.99


@pytest.mark.parametrize("loss", ["DiceLoss", "BinaryDiceLoss"])
@pytest.mark.parametrize("smooth", [0, -1, math.nan])
def test_dice_needs_a_positive_smooth(framework, loss, smooth):
    with pytest.raises(ValueError, match=f"smooth {smooth} is not positive"):
        getattr(framework.losses, loss)(smooth=smooth)


def test_class_binary_takes_another_class_loss(framework):
    """The original's variants: inverse frequency and SOM beside binary cross-entropy."""
    class_logits, binary_logits, labels = sample(seed=43)
    losses = ref.class_losses(class_logits, labels)
    plain = ref.class_binary(class_logits, binary_logits, labels)
    binary = plain - ref.mean(losses, labels)
    for class_loss, expected in (
        (framework.losses.InverseFrequencyCrossEntropyLoss(5), ref.inverse_frequency),
        (framework.losses.CrossEntropyLoss(sampling="som"), lambda *_: ref.som(losses)),
    ):
        loss = framework.losses.ClassBinaryLoss(class_loss)
        run = framework.run(loss, (class_logits, binary_logits, labels))
        value = binary + expected(class_logits, labels)
        assert run.value == pytest.approx(value, rel=1e-12)


def test_class_binary_checks_that_the_branches_fit(framework):
    class_logits, binary_logits, labels = sample()
    tensors = [framework.tensor(a) for a in (class_logits, binary_logits[:, 0], labels)]
    with pytest.raises(ValueError, match=r"\[2, 6, 7\] do not fit.* must be \[2, 1, 6, 7\]"):
        framework.losses.ClassBinaryLoss()(*tensors)
