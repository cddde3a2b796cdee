"""What is particular to one loss, and what the originals got wrong."""

import math

import numpy as np
import pytest
from sklearn.metrics import log_loss
from sklearn.utils.class_weight import compute_sample_weight

from . import references as ref
from .cases import sample
from .frameworks import PADDLE


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
    with pytest.raises(ValueError, match="average 'pixels' is unknown; use one of 'valid', 'all'"):
        framework.losses.FocalLoss(average="pixels")


@pytest.mark.parametrize("loss", ["SoftmaxFocalLoss", "AnnealedFocalLoss"])
def test_farsegs_losses_with_wrong_arguments_are_an_error(framework, loss):
    with pytest.raises(ValueError, match="gamma -1 is negative"):
        getattr(framework.losses, loss)(gamma=-1)


def test_annealed_focal_without_a_step_or_steps_is_an_error(framework):
    class_logits, _, labels = (framework.tensor(array) for array in sample())
    with pytest.raises(ValueError, match="annealing_steps 0 is below 1"):
        framework.losses.AnnealedFocalLoss(0)
    with pytest.raises(ValueError, match=r"has no step; call set_step\(loss, step\)"):
        framework.losses.AnnealedFocalLoss()(class_logits, labels)


def test_annealed_focal_starts_as_cross_entropy_and_ends_as_normalised_focal(framework):
    arrays = sample(seed=44)[::2]
    valid, images = (arrays[1] != 255).sum(), len(arrays[1])
    annealed = framework.losses.AnnealedFocalLoss(100)
    cross_entropy = framework.run(framework.losses.CrossEntropyLoss(), arrays)
    focal = framework.run(framework.losses.SoftmaxFocalLoss(normalize=True), arrays)
    for step, expected in (
        (0, valid / (valid + images) * cross_entropy.gradients[0]),
        (100, focal.gradients[0]),
        (101, focal.gradients[0]),
    ):
        framework.losses.set_step(annealed, step)
        run = framework.run(annealed, arrays)
        np.testing.assert_allclose(run.gradients[0], expected, rtol=1e-12, atol=1e-16)


def test_the_step_reaches_an_annealed_loss_inside_another(framework):
    """Auxiliary heads take the loss several times a step, so it does not count its calls."""
    inner = framework.losses.AnnealedFocalLoss()
    loss = framework.losses.AuxiliaryLoss(inner, 0.4)
    framework.losses.set_step(loss, 7)
    class_logits, _, labels = (framework.tensor(array) for array in sample())
    loss(class_logits, (class_logits,), labels)
    assert inner.step == 7


def test_normalised_focal_is_0_where_every_pixel_is_certain(framework):
    """The original divides 0 by 0 here."""
    logits = np.array([1e3, 0.0]).reshape(1, 2, 1, 1)
    labels = np.zeros((1, 1, 1), dtype=np.int64)
    for dtype in ("float64", "float32"):
        loss = framework.losses.SoftmaxFocalLoss(normalize=True)
        run = framework.run(loss, (logits, labels), dtype)
        assert run.value == 0
        assert not run.gradients[0].any()


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
