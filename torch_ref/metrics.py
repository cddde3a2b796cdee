"""The reference of `factseg_paddle.metrics`: definitions written out in plain Python.

Pixels are counted one by one, classes are looped over, and every mean leaves out what is not
defined (0/0), which is NaN.
"""

import math

import numpy as np


def confusion_matrix(
    labels: np.ndarray,
    predictions: np.ndarray,
    num_classes: int,
    ignore_index: int | None = 255,
) -> np.ndarray:
    """Count pairs of truth (row) and prediction (column) pixel by pixel. [C, C] int64."""
    counts = [[0] * num_classes for _ in range(num_classes)]
    flat_labels, flat_predictions = np.ravel(labels).tolist(), np.ravel(predictions).tolist()
    for truth, predicted in zip(flat_labels, flat_predictions, strict=True):
        if truth != ignore_index:
            counts[truth][predicted] += 1
    return np.array(counts, dtype=np.int64)


def compute_metrics(matrix: np.ndarray) -> dict[str, float | list[float]]:
    """Compute the metrics of a confusion matrix [C, C], by the names of their fields."""
    counts = matrix.tolist()
    classes = range(len(counts))
    total = sum(sum(row) for row in counts)
    iou, precision, recall, f1, share = [], [], [], [], []
    for c in classes:
        tp = counts[c][c]
        fn = sum(counts[c][other] for other in classes if other != c)
        fp = sum(counts[other][c] for other in classes if other != c)
        iou.append(_divide(tp, tp + fp + fn))
        precision.append(_divide(tp, tp + fp))
        recall.append(_divide(tp, tp + fn))
        f1.append(_divide(2 * tp, 2 * tp + fp + fn))
        share.append(_divide(tp + fn, total))
    weighted = [share[c] * iou[c] for c in classes if share[c] > 0]
    return {
        "pixel_accuracy": _divide(sum(counts[c][c] for c in classes), total),
        "mean_pixel_accuracy": _mean(recall),
        "mean_iou": _mean(iou),
        "mean_iou_foreground": _mean(iou[1:]),
        "frequency_weighted_iou": sum(weighted) if weighted else math.nan,
        "mean_precision": _mean(precision),
        "mean_f1": _mean(f1),
        "class_iou": iou,
        "class_precision": precision,
        "class_recall": recall,
        "class_f1": f1,
    }


def _divide(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def _mean(values: list[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return sum(defined) / len(defined) if defined else math.nan
