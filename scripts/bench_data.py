"""Time reading one 896 x 896 window of image and mask against decoding the 4000 x 4000 PNG files.

The scene is painted and has the noise of a sensor, so it compresses like an aerial image (2.2 bytes
a pixel as PNG; iSAID's 1.7). The decoding is OpenCV's alone; looking up the mask's colours, which
the original also did for each patch, is timed apart. Files are warm, all in one run, median times.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numpy as np

from factseg_paddle.cli import ArgumentParser
from factseg_paddle.config.data_section import Data
from factseg_paddle.data.images.files import read_pair, write_png
from factseg_paddle.data.images.palettes import index_to_color
from factseg_paddle.data.open import open_pairs
from factseg_paddle.data.pairs import ImagePairs
from factseg_paddle.data.patches import Window, sliding_windows
from factseg_paddle.data.store.prepare import prepare_isaid
from factseg_paddle.data.synthetic.scenes import paint_scene

SIDE, PATCH, STRIDE = 4000, 896, 512
AT_LEAST = 20.0  # measured: 50 to 75 times
EXAMPLES = """examples:
  python scripts/bench_data.py
  python scripts/bench_data.py --repeats 9 --json

Exit status: 0 at least 20 times faster and bit-identical, 1 slower or different.
"""


def main(argv: list[str] | None = None) -> int:
    """Print a line per way of reading, or one JSON object."""
    parser = ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5, help="decodings timed (default 5)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args(argv)
    if args.repeats < 1:
        print(f"{parser.prog}: repeats {args.repeats} is below 1", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        measured = measure(Path(folder), args.repeats)
    if args.json:
        print(json.dumps(measured))
    else:
        print(
            f"decoding both PNG files {measured['decode_ms']:.1f} ms, with the mask's colours "
            f"looked up {measured['decode_and_look_up_ms']:.1f} ms"
        )
        print(
            f"a window of the prepared store {measured['prepared_ms']:.1f} ms, "
            f"{measured['ratio']:.1f} times faster"
        )
        print(f"a window of the PNG files from the cache {measured['cached_ms']:.1f} ms")
        print(f"PNG files {measured['png_mb']:.1f} MB, prepared {measured['prepared_mb']:.1f} MB")
    return 0 if measured["equal"] and measured["ratio"] >= AT_LEAST else 1


def measure(folder: Path, repeats: int) -> dict:
    """Write a scene and its store under a folder and time the ways of reading."""
    image_path = folder / "raw" / "train" / "images" / "images" / "P0000.png"
    mask_path = folder / "raw" / "train" / "masks" / "images" / "P0000_instance_color_RGB.png"
    write_scene(image_path, mask_path)
    prepare_isaid(
        folder / "raw",
        folder / "prepared",
        num_workers=0,
    )
    raw = open_pairs(Data(dataset_root=str(folder / "raw"), cache_mb=100), "train")
    prepared = open_pairs(Data(dataset_root=str(folder / "prepared")), "train")
    windows = sliding_windows(SIDE, SIDE, size=PATCH, stride=STRIDE)
    equal = all(
        np.array_equal(raw.read_image(0, window), prepared.read_image(0, window))
        and np.array_equal(raw.read_labels(0, window), prepared.read_labels(0, window))
        for window in windows
    )
    order = [windows[i] for i in np.random.default_rng(0).permutation(len(windows))]
    decode, look_up, window_s, cached = [], [], [], []
    for part in np.array_split(np.arange(len(order)), repeats):  # one after the other, all alike
        decode.append(_seconds(lambda: (cv2.imread(str(image_path)), cv2.imread(str(mask_path)))))
        look_up.append(_seconds(lambda: read_pair(image_path, mask_path)))
        for window in (order[i] for i in part):
            window_s.append(_seconds(lambda: _read(prepared, window)))  # noqa: B023 - called here
            cached.append(_seconds(lambda: _read(raw, window)))  # noqa: B023 - called here
    return {
        "decode_ms": median(decode) * 1e3,
        "decode_and_look_up_ms": median(look_up) * 1e3,
        "prepared_ms": median(window_s) * 1e3,
        "cached_ms": median(cached) * 1e3,
        "ratio": median(decode) / median(window_s),
        "at_least": AT_LEAST,
        "equal": equal,
        "png_mb": _megabytes(folder / "raw", "*.png"),
        "prepared_mb": _megabytes(folder / "prepared", "*.tif"),
    }


def write_scene(image_path: Path, mask_path: Path) -> None:
    """Write a noisy painted scene of SIDE x SIDE pixels and its mask as PNG files."""
    scene = paint_scene(SIDE // 2, 0)
    labels = np.tile(scene.labels, (2, 2))
    noise = np.random.default_rng(0).normal(0, 4, (SIDE, SIDE, 3)).astype(np.float32)
    image = np.clip(np.rint(np.tile(scene.image, (2, 2, 1)) + noise), 0, 255).astype(np.uint8)
    for path in (image_path, mask_path):
        path.parent.mkdir(parents=True)
    write_png(image_path, image)
    write_png(mask_path, index_to_color(labels))


def _read(pairs: ImagePairs, window: Window) -> None:
    pairs.read_image(0, window)
    pairs.read_labels(0, window)


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _megabytes(folder: Path, pattern: str) -> float:
    return sum(path.stat().st_size for path in folder.rglob(pattern)) / 1e6


if __name__ == "__main__":
    sys.exit(main())
