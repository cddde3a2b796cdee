"""The files that an evaluation ends in: numbers, the confusion matrix, and the worst images."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from factseg_paddle.data.patches import Window
from factseg_paddle.engine.evaluation.evaluator import EvaluationResult, ImageResult, Pairs
from factseg_paddle.engine.evaluation.store import EvaluationStore
from factseg_paddle.files import atomic_write
from factseg_paddle.inference.pictures import error_picture
from factseg_paddle.inference.visualize import Classes
from factseg_paddle.metrics import Metrics

_NUMBERED = 24  # more classes than this leave no room for numbers in the picture
_STRIP = 512


def metrics_json(evaluated: EvaluationResult, about: Mapping[str, Any]) -> dict[str, Any]:
    """Return all results as plain JSON values; what is undefined is null.

    Args:
        evaluated: the results.
        about: what they depend on, such as weights and settings.
    """
    metrics = evaluated.metrics
    return {
        **_summary(metrics),
        "classes": [
            {
                "index": index,
                "name": name,
                "iou": _number(metrics.class_iou[index]),
                "precision": _number(metrics.class_precision[index]),
                "recall": _number(metrics.class_recall[index]),
                "f1": _number(metrics.class_f1[index]),
                "pixels": int(metrics.class_pixels[index]),
            }
            for index, name in enumerate(evaluated.class_names)
        ],
        "confusion_matrix": evaluated.confusion.matrix.tolist(),
        "confusion_matrix_axes": "rows truth, columns prediction, in pixels",
        "images": len(evaluated.images),
        "ignore_index": evaluated.confusion.ignore_index,
        **about,
    }


def worst_first(evaluated: EvaluationResult) -> list[ImageResult]:
    """Return the images by their own mean IoU; those without a pixel that counts come last."""

    def rank(result: ImageResult) -> tuple[float, int]:
        value = result.metrics.mean_iou
        return (math.inf if math.isnan(value) else value, result.index)

    return sorted(evaluated.images, key=rank)


def write_report(folder: Path, evaluated: EvaluationResult, about: Mapping[str, Any]) -> None:
    """Write `metrics.json`, `per_image.csv` and `confusion_matrix.png`.

    Raises:
        OSError: a file can't be written.
    """
    with atomic_write(folder / "per_image.csv") as temporary:
        _write_table(temporary, evaluated)
    with atomic_write(folder / "confusion_matrix.png") as temporary:
        draw_confusion(evaluated.metrics, evaluated.confusion.matrix).savefig(temporary)
    # the last one, as its presence means that the evaluation is complete
    with atomic_write(folder / "metrics.json") as temporary:
        text = json.dumps(metrics_json(evaluated, about), indent=1, allow_nan=False)
        temporary.write_text(text, encoding="utf-8")


def write_worst(
    folder: Path, evaluated: EvaluationResult, pairs: Pairs, store: EvaluationStore, count: int
) -> list[Path]:
    """Draw the error maps of the worst images, `worst/01_NAME.png` and so on.

    Raises:
        ValueError: an image, mask or kept prediction can't be read.
        OSError: a file can't be written.
    """
    place = folder / "worst"
    place.mkdir(exist_ok=True)
    for old in place.glob("[0-9][0-9]*_*.png"):
        old.unlink()
    classes = Classes(tuple(pairs.class_names), pairs.palette, pairs.ignore_index)
    written = []
    for rank, result in enumerate(worst_first(evaluated)[:count], start=1):
        prediction = store.prediction(result.index)
        path = place / f"{rank:02d}_{prediction.name}"
        labels = _read_indices(prediction, (result.height, result.width))
        with (
            atomic_write(path) as temporary,
            error_picture(temporary, result.width, classes) as add,
        ):
            for top in range(0, result.height, _STRIP):
                rows = labels[top : top + _STRIP]
                window = Window(top, 0, *rows.shape)
                truth = pairs.read_labels(result.index, window)
                add(pairs.read_image(result.index, window), rows, truth)
        written.append(path)
    return written


def draw_confusion(metrics: Metrics, matrix: np.ndarray) -> Figure:
    """Draw where each class's pixels went: each row adds up to 100 %."""
    count = len(matrix)
    with np.errstate(invalid="ignore"):
        share = 100 * matrix / matrix.sum(axis=1, keepdims=True)
    side = 3.5 + 0.5 * min(count, 40)
    figure = Figure(figsize=(side + 1.5, side), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    axes.set_facecolor("0.9")  # shows where a row is undefined
    picture = axes.imshow(share, cmap="Blues", vmin=0, vmax=100)
    figure.colorbar(picture, label="share of the class's pixels, %", shrink=0.8)
    axes.set_xticks(range(count), metrics.class_names, rotation=45, ha="right")
    axes.set_yticks(range(count), metrics.class_names)
    axes.set_xlabel("prediction")
    axes.set_ylabel("truth (grey: no such pixels)")
    axes.set_title(f"mIoU {metrics.mean_iou:.4f}, pixel accuracy {metrics.pixel_accuracy:.4f}")
    if count <= _NUMBERED:
        for row, column in zip(*np.nonzero(matrix), strict=True):
            value = share[row, column]
            color = "white" if value > 60 else "black"
            text = f"{value:.0f}" if value >= 0.5 else "·"
            axes.text(column, row, text, ha="center", va="center", color=color, fontsize=8)
    return figure


def _write_table(path: Path, evaluated: EvaluationResult) -> None:
    fields = ["name", "height", "width", "counted_pixels", "wrong_pixels", "missed_pixels"]
    fields += ["false_alarm_pixels", "mean_iou", "mean_iou_foreground", "pixel_accuracy"]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*fields, *(f"iou_{name}" for name in evaluated.class_names)])
        for result in worst_first(evaluated):
            matrix, metrics = result.matrix, result.metrics
            total, right = int(matrix.sum()), int(np.trace(matrix))
            counts = [total, total - right, int(matrix[1:, 0].sum()), int(matrix[0, 1:].sum())]
            shares = [metrics.mean_iou, metrics.mean_iou_foreground, metrics.pixel_accuracy]
            written = ["" if math.isnan(v) else f"{v:.6f}" for v in [*shares, *metrics.class_iou]]
            writer.writerow([result.name, result.height, result.width, *counts, *written])


def _read_indices(path: Path, size: tuple[int, int]) -> np.ndarray:
    """Return the indices of a PNG of `png_strips`, [H, W] uint8."""
    try:
        with Image.open(path) as picture:
            indices = np.asarray(picture)
    except OSError as error:
        raise ValueError(f"{path} is damaged ({error}); remove it and evaluate again") from error
    if indices.shape != size:
        raise ValueError(f"{path} is {list(indices.shape)}, not {list(size)}; remove it")
    return indices


def _summary(metrics: Metrics) -> dict[str, float | None]:
    names = ("mean_iou", "mean_iou_foreground", "pixel_accuracy", "mean_pixel_accuracy")
    names += ("frequency_weighted_iou", "mean_precision", "mean_f1")
    return {name: _number(getattr(metrics, name)) for name in names}


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
