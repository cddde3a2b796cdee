"""Step 03: every metric against scikit-learn, paddleseg and plain Python."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

import torch_ref.metrics as plain
from factseg_paddle.metrics import ConfusionMatrix, Metrics

CLASSES = 16
ABSENT = 6  # a class that is made absent from truth and prediction

Check = tuple[str, Callable[[], np.ndarray], Callable[[], np.ndarray]]


def values(labels: np.ndarray, seed: int) -> Iterator[Check]:
    """Yield (name, reference, ours) for predictions that are right in about 70 % of the pixels.

    Args:
        labels: int64 [N, H, W], 255 where ignored.
        seed: of the predictions.
    """
    rng = np.random.default_rng([seed, 3])
    truth = np.where(rng.random(labels.shape) < 0.2, rng.integers(0, CLASSES, labels.shape), labels)
    truth = np.where(labels == 255, 255, truth)
    guessed = rng.integers(0, CLASSES, labels.shape)
    predictions = np.where((rng.random(labels.shape) < 0.3) | (truth == 255), guessed, truth)
    truth, predictions = (np.where(a == ABSENT, 0, a) for a in (truth, predictions))

    def ours() -> Metrics:
        matrix = ConfusionMatrix(CLASSES)
        for truth_of_one, predictions_of_one in zip(truth, predictions, strict=True):
            matrix.update(truth_of_one, predictions_of_one)
        return matrix.compute()

    def matrix() -> np.ndarray:
        merged = ConfusionMatrix(CLASSES)
        merged.update(truth, predictions)
        return merged.matrix

    yield (
        "confusion matrix, plain",
        lambda: plain.confusion_matrix(truth, predictions, CLASSES),
        matrix,
    )
    for name in plain.compute_metrics(np.eye(CLASSES, dtype=np.int64)):
        yield (
            f"{name}, plain",
            lambda n=name: np.asarray(
                plain.compute_metrics(plain.confusion_matrix(truth, predictions, CLASSES))[n]
            ),
            lambda n=name: np.asarray(getattr(ours(), n)),
        )
    valid = truth != 255
    yield from _scikit_learn(truth[valid], predictions[valid], matrix, ours)
    yield from _paddleseg(truth, predictions, ours)


def _scikit_learn(
    truth: np.ndarray,
    predictions: np.ndarray,
    matrix: Callable[[], np.ndarray],
    ours: Callable[[], Metrics],
) -> Iterator[Check]:
    from sklearn import metrics

    everything = list(range(CLASSES))
    present = [c for c in everything if c != ABSENT]
    mean = {"labels": present, "average": "macro", "zero_division": 0}
    each = {"labels": present, "average": None, "zero_division": 0}
    yield (
        "confusion matrix, scikit-learn",
        lambda: metrics.confusion_matrix(truth, predictions, labels=everything),
        matrix,
    )
    yield (
        "PA, scikit-learn",
        lambda: np.asarray(metrics.accuracy_score(truth, predictions)),
        lambda: np.asarray(ours().pixel_accuracy),
    )
    for name, function, own_each, own_mean in (
        ("IoU", metrics.jaccard_score, "class_iou", "mean_iou"),
        ("precision", metrics.precision_score, "class_precision", "mean_precision"),
        ("recall", metrics.recall_score, "class_recall", "mean_pixel_accuracy"),
        ("F1", metrics.f1_score, "class_f1", "mean_f1"),
    ):
        yield (
            f"{name} per class, scikit-learn",
            lambda f=function: f(truth, predictions, **each),
            lambda n=own_each: getattr(ours(), n)[present],
        )
        yield (
            f"mean {name}, scikit-learn",
            lambda f=function: np.asarray(f(truth, predictions, **mean)),
            lambda n=own_mean: np.asarray(getattr(ours(), n)),
        )
    yield (
        "FWIoU, scikit-learn",
        lambda: np.asarray(
            metrics.jaccard_score(truth, predictions, average="weighted", zero_division=0)
        ),
        lambda: np.asarray(ours().frequency_weighted_iou),
    )


def _paddleseg(
    truth: np.ndarray, predictions: np.ndarray, ours: Callable[[], Metrics]
) -> Iterator[Check]:
    """Yield checks whose second value is paddleseg's, since it runs where Paddle is installed.

    paddleseg's count of areas (2.8) fails on Paddle 3, which concatenates no 0-d tensors, so the
    areas are counted by numpy. paddleseg gives 0 where a class is absent.
    """
    valid = truth != 255
    right = valid & (truth == predictions)

    def measured(function: str, index: int) -> np.ndarray:
        import paddle
        from paddleseg.utils import metrics

        areas = [
            paddle.to_tensor(np.bincount(array, minlength=CLASSES))
            for array in (truth[right], predictions[valid], truth[valid])
        ]
        return np.asarray(getattr(metrics, function)(*areas)[index])

    for name, field, function, index in (
        ("IoU per class", "class_iou", "mean_iou", 0),
        ("PA", "pixel_accuracy", "class_measurement", 0),
        ("precision per class", "class_precision", "class_measurement", 1),
        ("recall per class", "class_recall", "class_measurement", 2),
    ):
        yield (
            f"{name}, paddleseg",
            lambda n=field: np.nan_to_num(np.asarray(getattr(ours(), n))),
            lambda f=function, i=index: measured(f, i),
        )
