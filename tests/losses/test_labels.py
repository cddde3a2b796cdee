"""The check of the labels, and the messages that it gives."""

import numpy as np
import pytest

LOGITS = np.zeros((2, 16, 4, 3))


def split(framework, labels, logits=LOGITS, ignore_index=255, **arguments):
    tensors = framework.tensor(np.asarray(labels)), framework.tensor(logits)
    valid, targets = framework.losses.split_labels(*tensors, ignore_index, **arguments)
    return valid.numpy(), targets.numpy()


def test_ignored_labels_become_class_0_and_not_valid(framework):
    labels = np.arange(24).reshape(2, 4, 3) % 16
    labels[1, 2] = 255
    valid, targets = split(framework, labels)
    np.testing.assert_array_equal(valid, labels != 255)
    np.testing.assert_array_equal(targets, np.where(labels == 255, 0, labels))
    assert targets.dtype == np.int64


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32", "int64"])
def test_any_integer_dtype_is_taken(framework, dtype):
    _, targets = split(framework, np.full((2, 4, 3), 7, dtype))
    assert targets.dtype == np.int64
    assert (targets == 7).all()


def test_uint8_label_255_is_ignored(framework):
    valid, _ = split(framework, np.full((2, 4, 3), 255, np.uint8))
    assert not valid.any()


def test_extreme_labels_are_taken(framework):
    labels = np.zeros((2, 4, 3), np.int64)
    labels[0, 0, 0] = 15
    valid, _ = split(framework, labels)
    assert valid.all()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([16], r"label 16 \(1 pixel\) is outside \[0, 16\) and not ignore_index 255"),
        ([-1, -1], r"label -1 \(2 pixels\) is outside"),
        ([254, 16, 254], r"labels 16 \(1 pixel\), 254 \(2 pixels\) are outside"),
        (list(range(20, 27)), r"20 \(1 pixel\), .*24 \(1 pixel\), 2 more are outside"),
        ([2**40], r"label 1099511627776 \(1 pixel\)"),
    ],
)
def test_labels_outside_the_classes_are_named_and_counted(framework, wrong, message):
    labels = np.full((2, 4, 3), 255, np.int64)
    labels.ravel()[: len(wrong)] = wrong
    with pytest.raises(ValueError, match=message):
        split(framework, labels)


def test_255_is_an_error_where_another_label_is_ignored(framework):
    labels = np.full((2, 4, 3), 255, np.int64)
    with pytest.raises(ValueError, match=r"label 255 \(24 pixels\) .* ignore_index -1"):
        split(framework, labels, ignore_index=-1)


def test_label_2_is_an_error_for_a_binary_logit(framework):
    with pytest.raises(ValueError, match=r"label 2 \(24 pixels\) is outside \[0, 2\)"):
        split(framework, np.full((2, 4, 3), 2), LOGITS[:, :1], num_classes=2)


@pytest.mark.parametrize("shape", [(2, 1, 4, 3), (2, 3, 4), (1, 4, 3), (2, 4), (2, 4, 3, 16)])
def test_labels_of_another_shape_are_an_error_with_both_shapes(framework, shape):
    listed = str(list(shape)).replace("[", r"\[").replace("]", r"\]")
    message = rf"labels of shape {listed} .* \[2, 16, 4, 3\] do not fit; .* \[2, 4, 3\]"
    with pytest.raises(ValueError, match=message):
        split(framework, np.zeros(shape, np.int64))


def test_logits_without_four_axes_are_an_error(framework):
    with pytest.raises(ValueError, match=r"\[2, 16\]: logits must be \[N, C, H, W\]"):
        split(framework, np.zeros((2,), np.int64), LOGITS[:, :, 0, 0])


@pytest.mark.parametrize("dtype", ["float32", "float64", "bool"])
def test_labels_that_are_no_integers_are_an_error(framework, dtype):
    with pytest.raises(ValueError, match=rf"dtype .*{dtype}: .* convert them to int64"):
        split(framework, np.zeros((2, 4, 3), dtype))


@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (1, 3, 0, 4)])
def test_empty_batch_is_refused(framework, shape):
    """Paddle gave NaN, torch an error about an index."""
    logits = framework.tensor(np.zeros(shape), "float32")
    labels = framework.tensor(np.zeros((shape[0], *shape[2:]), np.int64))
    with pytest.raises(ValueError, match="there is no pixel to compute a loss of"):
        framework.losses.CrossEntropyLoss()(logits, labels)


def test_binary_dice_refuses_class_logits(framework):
    logits = framework.tensor(np.zeros((1, 16, 4, 4)), "float32")
    labels = framework.tensor(np.zeros((1, 4, 4), np.int64))
    with pytest.raises(ValueError, match=r"are not \[N, 1, H, W\]; use DiceLoss"):
        framework.losses.BinaryDiceLoss()(logits, labels)
