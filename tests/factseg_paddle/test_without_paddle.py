"""What needs no Paddle works where importing Paddle raises: reading, predicting, drawing."""

from __future__ import annotations

import os
import subprocess
import sys

import cv2
import numpy as np
import pytest

from tests.paths import REPO

USED = """
from pathlib import Path
import numpy as np
from factseg_paddle.data.images.files import read_image, read_mask, write_png
from factseg_paddle.data.images.palettes import ISAID_CLASSES, ISAID_PALETTE
from factseg_paddle.data.patches import Window
from factseg_paddle.inference.image_source import open_image
from factseg_paddle.inference.pictures import overlay_picture
from factseg_paddle.inference.sliding_window import SlidingWindow
from factseg_paddle.inference.visualize import Classes
from factseg_paddle.transforms import horizontal_flip

def predict(images):  # class 1 where the image is brighter than its mean, else class 0
    bright = images.mean(axis=1) > 0
    return np.stack([~bright, bright], axis=1).astype(np.float32)

windows = SlidingWindow(predict, patch_size=32, stride=16)
with open_image("photo.tif") as source:
    labels = np.concatenate([rows for _, rows in windows.labels(source.read, 48, 64)])
    image = source.read(Window(0, 0, 48, 64))
classes = Classes(tuple(ISAID_CLASSES), ISAID_PALETTE)
with overlay_picture(Path("overlay.png"), 64, classes) as draw:
    draw(image, labels)
write_png("labels.png", labels)
assert (read_image("photo.tif") == image).all()
flipped, _ = horizontal_flip(image, labels)
assert (flipped[:, ::-1] == image).all()
"""


@pytest.fixture
def without_paddle(tmp_path):
    """Run code in a folder, in a process in which `import paddle` raises."""
    stub = tmp_path / "stub" / "paddle"
    stub.mkdir(parents=True)
    (stub / "__init__.py").write_text("raise ImportError('paddle was imported')")

    def run(code: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": f"{stub.parent}{os.pathsep}{REPO}"},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_importing_paddle_raises(without_paddle):
    done = without_paddle("import factseg_paddle.models")
    assert done.returncode == 1
    assert "paddle was imported" in done.stderr


@pytest.mark.parametrize(
    "module",
    [
        *("factseg_paddle.inference", "factseg_paddle.transforms", "factseg_paddle.data.images"),
        *(f"factseg_paddle.inference.{name}" for name in ("sliding_window", "image_source")),
        *(f"factseg_paddle.inference.{name}" for name in ("pictures", "visualize", "legend")),
        *(f"factseg_paddle.data.images.{name}" for name in ("files", "headers", "palettes")),
    ],
)
def test_imports(without_paddle, module):
    done = without_paddle(f"import {module}")
    assert done.returncode == 0, done.stderr


def test_an_image_is_read_predicted_and_drawn(without_paddle, tmp_path):
    image = np.zeros((48, 64, 3), np.uint8)
    image[:, 32:] = 255
    cv2.imwrite(str(tmp_path / "photo.tif"), image)
    done = without_paddle(USED)
    assert done.returncode == 0, done.stderr
    labels = cv2.imread(str(tmp_path / "labels.png"), cv2.IMREAD_UNCHANGED)
    assert (labels[:, :32] == 0).all()
    assert (labels[:, 32:] == 1).all()
    assert cv2.imread(str(tmp_path / "overlay.png")).shape[0] > 48  # with its legend
