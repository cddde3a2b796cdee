import dataclasses
import importlib.util
import json
import math

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from factseg_paddle.metrics import ConfusionMatrix, compute_metrics, confusion_matrix
from tests.paths import REPO
from torch_ref import metrics as reference

PAIRS = st.lists(
    st.tuples(st.sampled_from([0, 1, 2, 3, 4, 255]), st.integers(0, 4)), min_size=1, max_size=60
)


def random_pair(num_classes=16, shape=(3, 37, 41), absent=(), dtype=np.int64, seed=0):
    rng = np.random.default_rng(seed)
    present = [c for c in range(num_classes) if c not in absent]
    labels, predictions = rng.choice(present, shape), rng.choice(present, shape)
    predictions = np.where(rng.random(shape) < 0.6, labels, predictions)
    labels[rng.random(shape) < 0.1] = 255
    return labels.astype(dtype), predictions.astype(dtype)


def assert_same_metrics(metrics, expected):
    for name, value in expected.items():
        np.testing.assert_allclose(getattr(metrics, name), value, rtol=1e-12, err_msg=name)


@pytest.mark.parametrize("num_classes", [2, 5, 16, 21, 150, 256, 300])
def test_matrix_equals_scikit_learn(num_classes):
    labels, predictions = random_pair(min(num_classes, 255))
    ours = confusion_matrix(labels, predictions, num_classes)
    valid = labels != 255
    theirs = sklearn.metrics.confusion_matrix(
        labels[valid], predictions[valid], labels=range(num_classes)
    )
    assert ours.dtype == np.int64
    np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(
        ours, reference.confusion_matrix(labels, predictions, num_classes)
    )


def test_matrix_of_a_single_class():
    assert confusion_matrix(np.array([0, 255, 0]), np.array([0, 9, 0]), 1).tolist() == [[2]]


@pytest.mark.parametrize("labels_dtype", ["uint8", "int16", "uint16", "int32", "int64", "uint64"])
@pytest.mark.parametrize("predictions_dtype", ["uint8", "int8", "int32", "int64"])
def test_matrix_does_not_depend_on_the_types(labels_dtype, predictions_dtype):
    labels, predictions = random_pair()
    expected = reference.confusion_matrix(labels, predictions, 16)
    ours = confusion_matrix(labels.astype(labels_dtype), predictions.astype(predictions_dtype), 16)
    np.testing.assert_array_equal(ours, expected)


def test_matrix_of_views_of_other_memory_order():
    labels, predictions = random_pair(shape=(40, 60), dtype=np.uint8)
    expected = reference.confusion_matrix(labels[::2, ::-3], predictions[::2, ::-3], 16)
    ours = confusion_matrix(labels[::2, ::-3], np.asfortranarray(predictions)[::2, ::-3], 16)
    np.testing.assert_array_equal(ours, expected)


def test_matrix_of_more_pixels_than_one_piece_and_an_odd_rest():
    labels, predictions = random_pair(shape=(2 * (1 << 16) + 3,))
    valid = labels != 255
    theirs = sklearn.metrics.confusion_matrix(labels[valid], predictions[valid], labels=range(16))
    np.testing.assert_array_equal(confusion_matrix(labels, predictions, 16), theirs)


def test_boolean_masks_are_two_classes():
    labels, predictions = np.array([True, True, False, True]), np.array([True, False, False, True])
    np.testing.assert_array_equal(confusion_matrix(labels, predictions, 2), [[1, 0], [1, 2]])


@pytest.mark.parametrize("ignore_index", [-1, 0, 3, 15, 16, 255, 300, None])
def test_any_label_can_be_ignored(ignore_index):
    labels, predictions = random_pair()
    labels[labels == 255] = 2 if ignore_index is None else ignore_index
    np.testing.assert_array_equal(
        confusion_matrix(labels, predictions, 16, ignore_index),
        reference.confusion_matrix(labels, predictions, 16, ignore_index),
    )


@pytest.mark.parametrize("value", [-7, 16, 99, 255, 10**12])
def test_predictions_on_ignored_pixels_may_be_anything(value):
    labels, predictions = random_pair()
    predictions[labels == 255] = value
    np.testing.assert_array_equal(
        confusion_matrix(labels, predictions, 16),
        reference.confusion_matrix(labels, np.where(labels == 255, 0, predictions), 16),
    )


def test_label_255_does_not_raise_and_does_not_count():
    total = ConfusionMatrix(16)
    total.update(np.full((4, 4), 255), np.zeros((4, 4), np.int64))
    assert total.matrix.sum() == 0


def test_confusion_matrix_is_exact_past_2_to_the_24():
    count = 21_777_216  # in float32, one at a time, it stops at 16,777,216
    assert np.float32(2**24) + np.float32(1) == np.float32(2**24)
    total = ConfusionMatrix(16)
    ones = np.ones(count // 16, np.uint8)
    for _ in range(16):
        total.update(ones, ones)
    assert total.matrix[1, 1] == count
    total.update(np.array([1]), np.array([1]))
    assert total.matrix[1, 1] == count + 1


@given(PAIRS, st.integers(0, 60), st.integers(0, 60))
def test_merged_shards_equal_the_whole(pairs, first_cut, second_cut):
    labels, predictions = np.array(pairs).T
    whole, merged = ConfusionMatrix(5), ConfusionMatrix(5)
    whole.update(labels, predictions)
    cuts = sorted((first_cut, second_cut))
    for part in zip(np.split(labels, cuts), np.split(predictions, cuts), strict=True):
        shard = ConfusionMatrix(5)
        shard.update(*part)
        merged.merge(shard)
    np.testing.assert_array_equal(merged.matrix, whole.matrix)
    np.testing.assert_array_equal(whole.matrix, reference.confusion_matrix(labels, predictions, 5))


@given(PAIRS)
def test_metrics_equal_the_plain_definitions(pairs):
    labels, predictions = np.array(pairs).T
    matrix = confusion_matrix(labels, predictions, 5)
    assert_same_metrics(compute_metrics(matrix), reference.compute_metrics(matrix))


def test_merge_refuses_what_would_count_wrongly():
    total = ConfusionMatrix(3)
    with pytest.raises(ValueError, match="merged with itself would count its pixels twice"):
        total.merge(total)
    with pytest.raises(ValueError, match="num_classes 3 and 4 differ"):
        total.merge(ConfusionMatrix(4))
    with pytest.raises(ValueError, match="ignore_index 255 and 0 differ"):
        total.merge(ConfusionMatrix(3, ignore_index=0))


def test_merge_leaves_the_other_shard_as_it_is():
    one, two = ConfusionMatrix(2), ConfusionMatrix(2)
    two.update(np.array([1]), np.array([0]))
    one.merge(two)
    one.update(np.array([1]), np.array([0]))
    assert two.matrix[1, 0] == 1


def test_matrix_handed_out_is_a_copy():
    total = ConfusionMatrix(2)
    total.matrix[0, 0] = 7
    assert total.matrix[0, 0] == 0


@pytest.mark.parametrize("absent", [(), (3,), (0, 15)])
def test_metrics_equal_scikit_learn(absent):
    labels, predictions = random_pair(absent=absent)
    total = ConfusionMatrix(16)
    total.update(labels, predictions)
    metrics = total.compute()
    truth, predicted = labels[labels != 255], predictions[labels != 255]
    present = [c for c in range(16) if c not in absent]
    iou = sklearn.metrics.jaccard_score(truth, predicted, labels=present, average=None)
    weighted = sklearn.metrics.jaccard_score(truth, predicted, labels=present, average="weighted")
    precision, recall, f1, pixels = sklearn.metrics.precision_recall_fscore_support(
        truth, predicted, labels=present
    )
    for ours, theirs in (
        (metrics.class_iou, iou),
        (metrics.class_precision, precision),
        (metrics.class_recall, recall),
        (metrics.class_f1, f1),
        (metrics.class_pixels, pixels),
    ):
        np.testing.assert_allclose(ours[present], theirs, rtol=1e-12)
    for ours, theirs in (
        (metrics.pixel_accuracy, sklearn.metrics.accuracy_score(truth, predicted)),
        (metrics.mean_pixel_accuracy, sklearn.metrics.balanced_accuracy_score(truth, predicted)),
        (metrics.mean_iou, iou.mean()),
        (metrics.mean_iou_foreground, iou[[c > 0 for c in present]].mean()),
        (metrics.frequency_weighted_iou, weighted),
        (metrics.mean_precision, precision.mean()),
        (metrics.mean_recall, recall.mean()),
        (metrics.mean_f1, f1.mean()),
    ):
        assert ours == pytest.approx(theirs, rel=1e-12)
    assert np.isnan(metrics.class_iou[list(absent)]).all()


def test_absent_class_is_left_out_of_the_mean_and_shown_as_absent():
    metrics = compute_metrics(np.array([[3, 1, 0], [0, 4, 0], [0, 0, 0]]), ("sea", "ship", "plane"))
    assert math.isnan(metrics.class_iou[2])
    assert metrics.mean_iou == pytest.approx((3 / 4 + 4 / 5) / 2)
    rows = str(metrics).splitlines()
    assert rows[3].split() == ["plane", "absent", "absent", "absent", "absent", "0"]
    assert rows[2].split() == ["ship", "0.8000", "0.8000", "1.0000", "0.8889", "4"]
    assert "mIoU 0.775000 (foreground 0.800000)" in rows[-1]


def test_class_predicted_but_not_in_the_truth_counts_as_iou_zero():
    metrics = compute_metrics(np.array([[3, 1], [0, 0]]))
    assert metrics.class_iou.tolist() == [0.75, 0.0]
    assert metrics.mean_iou == 0.375
    assert metrics.class_precision[1] == 0
    assert math.isnan(metrics.class_recall[1])
    assert metrics.mean_pixel_accuracy == 0.75


@pytest.mark.filterwarnings("error")
def test_empty_matrix_gives_nan_without_warnings():
    metrics = ConfusionMatrix(3).compute()
    for field in dataclasses.fields(metrics):
        if field.name not in ("class_pixels", "class_names"):
            assert np.isnan(getattr(metrics, field.name)).all(), field.name
    assert str(metrics).count("absent") == 4 * 4


def test_images_without_pixels_count_nothing():
    empty = np.zeros((0, 5), np.int64)
    np.testing.assert_array_equal(confusion_matrix(empty, empty, 2), np.zeros((2, 2)))


def test_failed_update_leaves_the_counts_as_they_were():
    total = ConfusionMatrix(2)
    labels = np.zeros(1 << 17, np.int64)
    predictions = labels.copy()
    predictions[-1] = 2
    with pytest.raises(ValueError, match=r"prediction 2 \(1 pixels\)"):
        total.update(labels, predictions)
    assert total.matrix.sum() == 0


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
@pytest.mark.parametrize("value", [16, 17, 40, 254])
def test_value_out_of_range_is_named_with_its_pixels(value, dtype):
    labels, predictions = random_pair(dtype=dtype)
    row, column = np.argwhere(labels[0] != 255)[0]
    wrong = predictions.copy()
    wrong[0, row, column] = value
    with pytest.raises(ValueError, match=rf"prediction {value} \(1 pixels\) is outside \[0, 16\)"):
        confusion_matrix(labels, wrong, 16)
    wrong = labels.copy()
    wrong[0, 0, :2] = value
    message = rf"label {value} \(2 pixels\) is outside \[0, 16\) and not ignore_index 255"
    with pytest.raises(ValueError, match=message):
        confusion_matrix(wrong, predictions, 16)


@pytest.mark.parametrize("value", [21, 31, 32])
def test_prediction_just_past_the_classes_is_refused(value):
    labels, predictions = np.zeros(3, np.uint8), np.array([0, value, 20], np.uint8)
    with pytest.raises(ValueError, match=rf"prediction {value} \(1 pixels\) is outside \[0, 21\)"):
        confusion_matrix(labels, predictions, 21)


@pytest.mark.parametrize("value", [-1, -255, 256, 10**10])
def test_value_that_would_alias_in_fewer_bits_is_refused(value):
    good, bad = np.zeros(4, np.int64), np.array([0, 0, 0, value])
    with pytest.raises(ValueError, match=rf"label {value} "):
        confusion_matrix(bad, good, 16)
    with pytest.raises(ValueError, match=rf"prediction {value} "):
        confusion_matrix(good, bad, 16)


def test_argument_guards():
    zeros = np.zeros((2, 3), np.int64)
    with pytest.raises(TypeError, match="labels are float32; give integer class indices"):
        confusion_matrix(zeros.astype(np.float32), zeros, 2)
    with pytest.raises(TypeError, match="predictions are float64"):
        confusion_matrix(zeros, zeros.astype(np.float64), 2)
    with pytest.raises(ValueError, match=r"labels \[2, 3\] and predictions \[3, 2\] differ"):
        confusion_matrix(zeros, zeros.T, 2)
    with pytest.raises(ValueError, match="num_classes 0 is below 1"):
        ConfusionMatrix(0)
    with pytest.raises(
        ValueError, match=r"confusion matrix is \[C, C\] integers, this one is \[2, 3\]"
    ):
        compute_metrics(zeros)
    with pytest.raises(ValueError, match=r"this one is .* float64"):
        compute_metrics(np.zeros((2, 2)))
    with pytest.raises(ValueError, match="negative count, -1"):
        compute_metrics(np.array([[1, -1], [0, 0]]))
    with pytest.raises(ValueError, match="1 class names for 2 classes"):
        compute_metrics(np.zeros((2, 2), np.int64), ("one",))


def test_metrics_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        compute_metrics(np.eye(2, dtype=np.int64)).mean_iou = 1.0


def test_sixty_real_predictions_give_the_published_figures(shared_data):
    folder = shared_data("voc")
    files = sorted((folder / "PSPNetPredictions").glob("*.png"))
    assert len(files) == 60
    total = ConfusionMatrix(21)
    for file in files:
        # palette PNG files, whose indices Pillow gives as they are stored
        labels = np.array(Image.open(folder / "SegmentationClass" / file.name))
        total.update(labels, np.array(Image.open(file)))
    metrics = total.compute()
    assert metrics.pixel_accuracy == pytest.approx(0.927999, abs=5e-7)
    assert metrics.mean_iou == pytest.approx(0.674763, abs=5e-7)
    assert_same_metrics(metrics, reference.compute_metrics(total.matrix))


def test_figures_of_the_reference_implementations():
    golden = json.loads((REPO / "tests/golden/zoo/losses_metrics.json").read_text())["metrics"]
    rng = np.random.RandomState(7)
    rng.randn(2, 5, 6, 7)  # logits, which come first in the recipe
    labels = rng.randint(0, 5, (2, 6, 7))
    labels[rng.rand(2, 6, 7) < 0.1] = 255
    counts = confusion_matrix(labels, rng.randint(0, 5, (2, 6, 7)), 5, 255)
    np.testing.assert_array_equal(counts, golden["confusion"])
    metrics = compute_metrics(counts)
    assert metrics.pixel_accuracy == pytest.approx(golden["PA"], rel=1e-12)
    assert metrics.mean_pixel_accuracy == pytest.approx(golden["mPA"], rel=1e-12)
    assert metrics.mean_iou == pytest.approx(golden["mIoU"], rel=1e-12)
    # weighted by the rows, which the article's text forgets (0.0054)
    assert metrics.frequency_weighted_iou == pytest.approx(golden["FWIoU"], rel=1e-12)
    forgotten = metrics.class_iou.sum() / metrics.class_pixels.sum()
    assert forgotten == pytest.approx(golden["article_text_FWIoU"], rel=1e-12)
    assert_same_metrics(metrics, reference.compute_metrics(counts))


def test_benchmark_finds_equal_counts_and_says_whether_they_came_fast_enough(monkeypatch, capsys):
    path = REPO / "scripts" / "bench_metrics.py"
    spec = importlib.util.spec_from_file_location("bench_metrics", path)
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    for name, value in (("HEIGHT", 256), ("WIDTH", 250), ("AT_LEAST", 0.0)):
        monkeypatch.setattr(bench, name, value)
    assert bench.main(["--repeats", "1", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["passed"]
    assert [case["pixels"] for case in report["cases"]] == [64_000] * 3
    assert all(case["equal"] for case in report["cases"])
    monkeypatch.setattr(bench, "AT_LEAST", 1e9)
    assert bench.main(["--repeats", "1"]) == 1
    assert "times faster" in capsys.readouterr().out
    assert bench.main(["--repeats", "0"]) == 2
