"""Predict a large image in a process of its own and print its peak memory; see test_memory.py.

Arguments: height, width, backbone or "stand-in".
"""

from __future__ import annotations

import resource
import sys
import time

import numpy as np

from factseg_paddle.inference.sliding_window import SlidingWindow


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


def main(height, width, kind):
    predict = stand_in if kind == "stand-in" else network(kind)
    engine = SlidingWindow(predict)
    rows, started = 0, time.monotonic()
    for top, labels in engine.labels(read, height, width):
        assert top == rows
        assert labels.shape[1] == width
        rows += len(labels)
    assert rows == height
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{engine.count(height, width)} windows {peak:.3f} GiB {time.monotonic() - started:.0f} s"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
