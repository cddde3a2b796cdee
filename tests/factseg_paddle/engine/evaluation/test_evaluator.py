"""Evaluation: exact counts, images by themselves, shards, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from factseg_paddle.config.schema import Evaluation
from factseg_paddle.engine.evaluation.evaluator import evaluate
from factseg_paddle.metrics import ConfusionMatrix
from factseg_paddle.transforms import Normalization
from tests.factseg_paddle.engine.fake_pairs import RAW, FakePairs, confusing, knowing

SETTINGS = Evaluation(patch_size=64, stride=48)


def test_a_right_prediction_counts_every_pixel_once():
    pairs = FakePairs()
    found = evaluate(pairs, knowing, SETTINGS, **RAW)
    truth = np.concatenate([labels.reshape(-1) for labels in pairs.labels])
    np.testing.assert_array_equal(found.confusion.matrix, np.diag(np.bincount(truth)))
    assert found.metrics.mean_iou == 1
    assert found.metrics.class_names == pairs.class_names
    assert [image.name for image in found.images] == ["P0000", "P0001", "P0002"]
    assert [(image.height, image.width) for image in found.images] == [
        (70, 90),
        (40, 33),
        (130, 64),
    ]
    assert found


def test_counts_equal_scikit_learns_and_ignored_pixels_count_for_nothing():
    pairs = FakePairs()
    for labels in pairs.labels:
        labels[:7, 3:20] = 255
    found = evaluate(pairs, confusing, SETTINGS, **RAW)
    # done by hand: what `confusing` says of the whole image
    total = np.zeros((4, 4), int)
    for image, labels, result in zip(pairs.images, pairs.labels, found.images, strict=True):
        said = np.round(image[..., 0] / 60).astype(int)
        said[(said == 3) & (image[..., 1] > 128)] = 1
        counted = labels != 255
        expected = confusion_matrix(labels[counted], said[counted], labels=range(4))
        np.testing.assert_array_equal(result.matrix, expected)
        assert result.matrix.dtype == np.int64
        total += expected
    np.testing.assert_array_equal(found.confusion.matrix, total)
    assert total[3, 1] > 500


def test_shards_merge_to_the_whole():
    pairs = FakePairs()
    whole = evaluate(pairs, confusing, SETTINGS, **RAW).confusion.matrix
    merged = ConfusionMatrix(4)
    for indices in ([0, 2], [1], []):
        merged.add(evaluate(pairs, confusing, SETTINGS, indices=indices, **RAW).confusion.matrix)
    np.testing.assert_array_equal(merged.matrix, whole)


def test_an_evaluation_of_nothing_is_false():
    found = evaluate(FakePairs(), knowing, SETTINGS, indices=[], **RAW)
    assert not found
    assert np.isnan(found.metrics.mean_iou)


def test_images_are_normalised_as_told():
    seen = []

    def predict(images):
        seen.append(images.copy())
        return knowing(images * 2 + 10)

    pairs = FakePairs(sizes=((64, 64),))
    found = evaluate(pairs, predict, SETTINGS, normalization=Normalization((10.0,) * 3, (2.0,) * 3))
    assert found.metrics.mean_iou == 1
    np.testing.assert_allclose(seen[0][0], (pairs.images[0].transpose(2, 0, 1) - 10.0) / 2)


def test_network_of_bgr_images_gets_them_so():
    """A recipe with OpenCV's order was evaluated with RGB images in the reference."""
    seen = []

    def predict(images):
        seen.append(images.copy())
        return knowing(images[:, ::-1])

    pairs = FakePairs(sizes=((64, 64),))
    bgr = Normalization((1.0, 2.0, 3.0), (1.0, 1.0, 1.0), "bgr")
    evaluate(pairs, predict, SETTINGS, normalization=bgr)
    blue, green, red = seen[0][0]
    for found, channel, mean in ((blue, 2, 1), (green, 1, 2), (red, 0, 3)):
        np.testing.assert_array_equal(found, pairs.images[0][..., channel] - float(mean))


def test_indices_may_come_one_by_one():
    seen = []

    def indices():
        for index in (2, 0):
            yield index
            seen.append(index)

    found = evaluate(FakePairs(), knowing, SETTINGS, indices=indices(), **RAW)
    assert seen == [image.index for image in found.images] == [2, 0]


def test_without_masks_it_is_refused():
    pairs = FakePairs()
    pairs.has_masks = False
    with pytest.raises(ValueError, match=r"needs masks, .* use predict\.py"):
        evaluate(pairs, knowing, SETTINGS, **RAW)


def test_a_mask_of_another_size_names_its_image():
    pairs = FakePairs()
    pairs.labels[1] = pairs.labels[1][:30]
    with pytest.raises(ValueError, match=r"P0001, rows from 0: .* differ in shape"):
        evaluate(pairs, knowing, SETTINGS, **RAW)


def test_a_label_that_is_no_class_names_its_image():
    pairs = FakePairs()
    pairs.labels[2][100, 3] = 77
    with pytest.raises(ValueError, match=r"P0002, rows from 0: label 77 \(1 pixels\)"):
        evaluate(pairs, knowing, SETTINGS, **RAW)


def test_a_network_with_fewer_classes_than_the_data_is_refused():
    with pytest.raises(ValueError, match=r"gave \[1, 3, 64, 64\] .* \[1, 4, 64, 64\] would fit"):
        evaluate(FakePairs(), lambda images: knowing(images)[:, :3], SETTINGS, **RAW)


def test_counts_that_do_not_fit_are_not_added():
    matrix = ConfusionMatrix(4)
    for wrong in (np.ones((3, 3), int), np.ones((4, 4)), -np.eye(4, dtype=int)):
        with pytest.raises(ValueError, match=r"can't be added; give integers \[4, 4\]"):
            matrix.add(wrong)
    assert not matrix.matrix.any()
