"""Predict a large image in a process of its own and print its peak memory; see test_memory.py.

Arguments: height, width, and "stand-in", a backbone, or the path of a TIFF of this size, which is
then predicted with all its pictures.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from factseg_paddle.inference.sliding_window import SlidingWindow
from factseg_paddle.memory import peak_memory_bytes


def read(window):
    """An even colour for each window."""
    return np.full((window.height, window.width, 3), (window.top + window.left) % 256, np.uint8)


def stand_in(images):
    """Sixteen classes, cheaply."""
    return np.repeat(images[:, :1], 16, axis=1)


def network(backbone):
    import paddle

    from factseg_paddle import FactSeg
    from factseg_paddle.inference.predictor import network_predictor

    paddle.seed(0)
    return network_predictor(FactSeg(16, backbone))


def predict_tiff(path):
    """From file to files; GDAL's cache is kept from growing with the image."""
    from factseg_paddle.data.images.palettes import ISAID_CLASSES, ISAID_PALETTE
    from factseg_paddle.inference import image_source
    from factseg_paddle.inference.predict_files import iter_predictions
    from factseg_paddle.inference.visualize import Classes

    image_source._GDAL_CACHE_MB = 8
    classes = Classes(ISAID_CLASSES, ISAID_PALETTE)
    (result,) = iter_predictions([path], path.parent / "out", SlidingWindow(stand_in), classes)
    assert result, result.problem


def main(height, width, kind):
    if kind.endswith(".tif"):
        predict_tiff(Path(kind))
        print(f"{peak_memory_bytes() / 2**30:.3f} GiB")
        return
    predict = stand_in if kind == "stand-in" else network(kind)
    engine = SlidingWindow(predict)
    rows, started = 0, time.monotonic()
    for top, labels in engine.labels(read, height, width):
        assert top == rows
        assert labels.shape[1] == width
        rows += len(labels)
    assert rows == height
    peak = peak_memory_bytes() / 2**30
    print(
        f"{engine.count(height, width)} windows {peak:.3f} GiB {time.monotonic() - started:.0f} s"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
