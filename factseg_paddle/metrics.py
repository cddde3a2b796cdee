"""Segmentation metrics from one exact confusion matrix, numpy only.

Rows are the truth, columns the prediction, counts are int64. (The original adds up float32, where
a cell of 21,777,216 counts as 16,777,216.) A quotient 0/0 is NaN, shown as absent and left out of
the mean; the mean IoU is over all classes, background included, and the original's mean over
classes 1 to C - 1 stands beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Pixels are counted in pieces whose keys stay in the cache: twice as fast as all at once.
_PIECE = 1 << 16
_NAMED = 5  # values listed in one message


@dataclass(frozen=True, eq=False)
class Metrics:
    """The metrics of a confusion matrix; every value is a share from 0 to 1, NaN where undefined.

    Attributes:
        pixel_accuracy: PA, share of valid pixels that are right.
        mean_pixel_accuracy: mPA, mean of class_recall.
        mean_iou: mIoU over all classes.
        mean_iou_foreground: mIoU over classes 1 to C - 1.
        frequency_weighted_iou: FWIoU, IoU weighted by the classes' shares of the truth.
        mean_precision: mean of class_precision.
        mean_f1: mean of class_f1.
        class_iou: tp / (tp + fp + fn), [C] float64; NaN where a class is in neither.
        class_precision: tp / (tp + fp), [C] float64; NaN where a class is never predicted.
        class_recall: tp / (tp + fn), [C] float64; NaN where a class is not in the truth.
        class_f1: 2 tp / (2 tp + fp + fn), [C] float64; NaN where a class is in neither.
        class_pixels: pixels of each class in the truth, [C] int64.
        class_names: a name for each class, for printing.
    """

    pixel_accuracy: float
    mean_pixel_accuracy: float
    mean_iou: float
    mean_iou_foreground: float
    frequency_weighted_iou: float
    mean_precision: float
    mean_f1: float
    class_iou: np.ndarray
    class_precision: np.ndarray
    class_recall: np.ndarray
    class_f1: np.ndarray
    class_pixels: np.ndarray
    class_names: tuple[str, ...]

    @property
    def mean_recall(self) -> float:
        """Return the mean of class_recall, another name of mPA."""
        return self.mean_pixel_accuracy

    def __str__(self) -> str:
        width = max(len("class"), *map(len, self.class_names))
        lines = [f"{'class':<{width}}     IoU  precision  recall      F1      pixels"]
        for index, name in enumerate(self.class_names):
            lines.append(
                f"{name:<{width}}  {_shown(self.class_iou[index])}     "
                f"{_shown(self.class_precision[index])}  {_shown(self.class_recall[index])}  "
                f"{_shown(self.class_f1[index])}  {self.class_pixels[index]:>10}"
            )
        lines.append(
            f"{'mean':<{width}}  {_shown(self.mean_iou)}     {_shown(self.mean_precision)}  "
            f"{_shown(self.mean_recall)}  {_shown(self.mean_f1)}  {self.class_pixels.sum():>10}"
        )
        lines.append(
            f"PA {self.pixel_accuracy:.6f}  mPA {self.mean_pixel_accuracy:.6f}  "
            f"mIoU {self.mean_iou:.6f} (foreground {self.mean_iou_foreground:.6f})  "
            f"FWIoU {self.frequency_weighted_iou:.6f}"
        )
        return "\n".join(lines)


class ConfusionMatrix:
    """A confusion matrix that grows image by image and merges across shards.

    Attributes:
        num_classes: number of classes C.
        ignore_index: label of the pixels that do not count; None counts all.
    """

    def __init__(self, num_classes: int, ignore_index: int | None = 255) -> None:
        _check_num_classes(num_classes)
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self._counts = np.zeros((num_classes, num_classes), dtype=np.int64)

    @property
    def matrix(self) -> np.ndarray:
        """Return a copy of the counts, [C, C] int64, rows truth, columns prediction."""
        return self._counts.copy()

    def update(self, labels: np.ndarray, predictions: np.ndarray) -> None:
        """Count the pixels of one image or batch; arguments and errors as `confusion_matrix`."""
        self._counts += confusion_matrix(labels, predictions, self.num_classes, self.ignore_index)

    def add(self, counts: np.ndarray) -> None:
        """Add counts that were made elsewhere, [C, C] of an integer type, as `matrix` gives them.

        Raises:
            ValueError: they are of another shape, not integers, or one is negative.
        """
        wrong = counts.shape != self._counts.shape or counts.dtype.kind not in "iu"
        if wrong or (counts < 0).any():
            raise ValueError(
                f"counts {list(counts.shape)} {counts.dtype} can't be added; give integers "
                f"[{self.num_classes}, {self.num_classes}], none negative"
            )
        self._counts += counts.astype(np.int64)

    def merge(self, other: "ConfusionMatrix") -> None:
        """Add the counts of another shard, which stays as it is.

        Raises:
            ValueError: other is this very matrix (its pixels would count twice), or has another
                num_classes or ignore_index.
        """
        if other is self:
            raise ValueError("a confusion matrix merged with itself would count its pixels twice")
        for name in ("num_classes", "ignore_index"):
            ours, theirs = getattr(self, name), getattr(other, name)
            if ours != theirs:
                raise ValueError(f"{name} {ours} and {theirs} differ; count both shards alike")
        self._counts += other._counts

    def compute(self, class_names: Sequence[str] | None = None) -> Metrics:
        """Compute the metrics of all pixels so far; see `compute_metrics`."""
        return compute_metrics(self._counts, class_names)


def confusion_matrix(
    labels: np.ndarray,
    predictions: np.ndarray,
    num_classes: int,
    ignore_index: int | None = 255,
) -> np.ndarray:
    """Count the pairs of truth and prediction.

    Args:
        labels: class indices or ignore_index, any shape, integers or booleans.
        predictions: class indices, of the same shape, integers or booleans. Where the label is
            ignore_index, they may be anything.
        num_classes: number of classes C.
        ignore_index: label of the pixels that do not count; None counts all.

    Returns:
        Counts, [C, C] int64, rows truth, columns prediction.

    Raises:
        TypeError: the labels or predictions are not integers or booleans.
        ValueError: the shapes differ, a label is neither in [0, C) nor ignore_index, or the
            prediction of a pixel that counts is not in [0, C).
    """
    _check_num_classes(num_classes)
    truth = _flat_integers("labels", labels)
    predicted = _flat_integers("predictions", predictions)
    if np.shape(labels) != np.shape(predictions):
        raise ValueError(
            f"labels {list(np.shape(labels))} and predictions {list(np.shape(predictions))} "
            "differ in shape"
        )
    total = np.zeros((num_classes, num_classes), dtype=np.int64)
    for start in range(0, truth.size, _PIECE):
        piece = slice(start, start + _PIECE)
        total += _count(truth[piece], predicted[piece], num_classes, ignore_index)
    return total


def compute_metrics(matrix: np.ndarray, class_names: Sequence[str] | None = None) -> Metrics:
    """Compute the metrics of a confusion matrix.

    Args:
        matrix: counts, [C, C] of an integer type, rows truth, columns prediction.
        class_names: a name for each class; None numbers them.

    Returns:
        The metrics; all are NaN for a matrix of zeros.

    Raises:
        ValueError: the matrix is not square, not of integers, has a negative count, or the
            names are not C.
    """
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.dtype.kind not in "iu":
        raise ValueError(
            "a confusion matrix is [C, C] integers, "
            f"this one is {list(matrix.shape)} {matrix.dtype}"
        )
    if (matrix < 0).any():
        raise ValueError(f"the confusion matrix has a negative count, {matrix.min()}")
    matrix = matrix.astype(np.int64)
    names = tuple(class_names) if class_names else tuple(map(str, range(len(matrix))))
    if len(names) != len(matrix):
        raise ValueError(f"{len(names)} class names for {len(matrix)} classes")
    right = np.diagonal(matrix)
    truth, predicted = matrix.sum(axis=1), matrix.sum(axis=0)
    union = truth + predicted - right
    iou, recall = _ratio(right, union), _ratio(right, truth)
    precision, f1 = _ratio(right, predicted), _ratio(2 * right, truth + predicted)
    pixels = int(truth.sum())
    in_truth = truth > 0
    return Metrics(
        pixel_accuracy=float(_ratio(right.sum(), pixels)),
        mean_pixel_accuracy=_mean(recall),
        mean_iou=_mean(iou),
        mean_iou_foreground=_mean(iou[1:]),
        frequency_weighted_iou=float(_ratio(np.sum(truth[in_truth] * iou[in_truth]), pixels)),
        mean_precision=_mean(precision),
        mean_f1=_mean(f1),
        class_iou=iou,
        class_precision=precision,
        class_recall=recall,
        class_f1=f1,
        class_pixels=truth,
        class_names=names,
    )


def _count(
    truth: np.ndarray, predicted: np.ndarray, num_classes: int, ignore_index: int | None
) -> np.ndarray:
    """Count one piece, [C, C] int64.

    The usual piece has labels below 256 and predictions that fit the bits of C - 1. Then label
    and prediction form one key, ignored pixels get rows of their own, and whether a value is out
    of range is read from the histogram instead of from every pixel.
    """
    bits = (num_classes - 1).bit_length()
    if num_classes <= 256 and _below(truth, 256) and _below(predicted, 1 << bits):
        keys = np.left_shift(truth, bits, dtype=np.int64, casting="unsafe")
        np.bitwise_or(keys, predicted, out=keys, dtype=np.int64, casting="unsafe")
        # neighbours are mostly alike, and adding to one cell again and again would stall
        keys[1::2] += 256 << bits
        counts = np.bincount(keys, minlength=512 << bits).reshape(2, 256, 1 << bits).sum(axis=0)
        if ignore_index is not None and 0 <= ignore_index < 256:
            counts[ignore_index] = 0
        if not counts[num_classes:].any() and not counts[:, num_classes:].any():
            return counts[:num_classes, :num_classes]
    if ignore_index is not None:
        valid = truth != ignore_index
        truth, predicted = truth[valid], predicted[valid]
    _check_range("label", truth, num_classes, ignore_index)
    _check_range("prediction", predicted, num_classes, None)
    keys = truth.astype(np.int64) * num_classes + predicted.astype(np.int64)
    return np.bincount(keys, minlength=num_classes**2).reshape(num_classes, num_classes)


def _below(values: np.ndarray, limit: int) -> bool:
    """Return whether all values are in [0, limit), limit a power of two, in one pass."""
    if values.dtype.itemsize == 1 and values.dtype.kind == "u" and limit >= 256:
        return True
    return 0 <= int(np.bitwise_or.reduce(values)) < limit


def _flat_integers(name: str, array: np.ndarray) -> np.ndarray:
    array = np.asarray(array)
    if array.dtype == np.bool_:
        array = array.view(np.uint8)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} are {array.dtype}; give integer class indices")
    return array.reshape(-1)


def _check_num_classes(num_classes: int) -> None:
    if num_classes < 1:
        raise ValueError(f"num_classes {num_classes} is below 1")


def _check_range(name: str, values: np.ndarray, num_classes: int, ignore_index: int | None) -> None:
    outside = (values < 0) | (values >= num_classes)
    if outside.any():
        wrong_values, counts = np.unique(values[outside], return_counts=True)
        named = ", ".join(
            f"{value} ({count} pixels)"
            for value, count in zip(wrong_values[:_NAMED].tolist(), counts.tolist(), strict=False)
        )
        nor = "" if ignore_index is None else f" and not ignore_index {ignore_index}"
        raise ValueError(f"{name} {named} is outside [0, {num_classes}){nor}")


def _ratio(part: np.ndarray | int, whole: np.ndarray | int) -> np.ndarray:
    part, whole = np.asarray(part, dtype=np.float64), np.asarray(whole, dtype=np.float64)
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)


def _mean(values: np.ndarray) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else float("nan")


def _shown(value: float) -> str:
    return "absent" if np.isnan(value) else f"{value:6.4f}"
