"""Time and peak memory of sliding-window evaluation, against a naive window loop, in one run.

The naive loop does what the original's does: it copies the image for each window, keeps every
window's probabilities, and merges them in maps of the image's size at the end. Both sides run the
same network over the same noise, each in a process of its own.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import time
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from factseg_paddle.cli import ArgumentParser, explain
from factseg_paddle.data.patches import Window, sliding_windows
from factseg_paddle.inference.sliding_window import Predict, SlidingWindow
from factseg_paddle.memory import peak_memory_bytes
from factseg_paddle.transforms import normalize, pad_to_divisible, to_chw

LARGEST = (4000, 13383)  # of iSAID
LIMIT_GB = 3.0
EXAMPLES = """examples:
  python scripts/bench_evaluation.py
  python scripts/bench_evaluation.py --largest
  python scripts/bench_evaluation.py --height 1200 --width 1200 --backbone resnet50 --json

Exit status: 0 the same classes and less memory than the naive loop (--largest: below 3 GB), 1 not.
"""


def main(argv: list[str] | None = None) -> int:
    """Print one line per side, or one JSON object."""
    parser = ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--height", type=int, default=2000, help="rows (default 2000)")
    parser.add_argument("--width", type=int, default=2500, help="columns (default 2500)")
    parser.add_argument("--backbone", default="resnet18", help="of the network (default resnet18)")
    parser.add_argument(
        "--largest",
        action="store_true",
        help="FactSeg-50 over 4000 x 13383 pixels, ours alone: the naive loop would keep 13 GiB",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if min(args.height, args.width) < 1:
        print(f"{parser.prog}: an image has at least 1 x 1 pixels", file=sys.stderr)
        return 2
    if args.largest:
        (args.height, args.width), args.backbone = LARGEST, "resnet50"
    if args.side:
        print(json.dumps(measure(args.side, args.height, args.width, args.backbone)))
        return 0
    try:
        sides = {side: _in_a_process(args, side) for side in (["ours"] if args.largest else SIDES)}
    except subprocess.CalledProcessError as error:
        print(f"{parser.prog}: {error.stderr.strip().splitlines()[-1]}", file=sys.stderr)
        return 2
    passed = _passed(sides)
    if args.json:
        print(json.dumps({"passed": passed, "sides": sides}))
        return 0 if passed else 1
    size = f"{args.height} x {args.width}, FactSeg on {args.backbone}"
    for side, measured in sides.items():
        print(
            f"{side}: {size}, {measured['windows']} windows: "
            f"{measured['seconds']:.1f} s, peak {measured['peak_gb']:.2f} GB"
        )
    if "naive" in sides:
        time_ratio, memory_ratio = (
            sides["ours"][key] / sides["naive"][key] for key in ("seconds", "peak_gb")
        )
        print(f"ours takes {time_ratio:.2f} of the time and {memory_ratio:.2f} of the memory")
    return 0 if passed else 1


def measure(side: str, height: int, width: int, backbone: str) -> dict[str, object]:
    """Run one side in this process; seconds without the start, and the process's peak."""
    warnings.filterwarnings("ignore", message="No ccache found")  # paddle's, on every import
    try:
        import paddle

        from factseg_paddle import FactSeg
        from factseg_paddle.inference.predictor import network_predictor
    except ImportError as error:
        sys.exit(explain(error))
    paddle.seed(0)
    predict = network_predictor(FactSeg(16, backbone))
    image = np.random.RandomState(0).randint(0, 256, (height, width, 3), np.uint8)
    predict(np.zeros((1, 3, 64, 64), np.float32))  # what is set up once
    started = time.monotonic()
    digest, windows = SIDES[side](predict, image)
    return {
        "windows": windows,
        "seconds": time.monotonic() - started,
        "peak_gb": peak_memory_bytes() / 10**9,
        "labels": digest,
    }


def _ours(predict: Predict, image: np.ndarray) -> tuple[str, int]:
    engine, digest = SlidingWindow(predict), hashlib.sha256()
    height, width = image.shape[:2]

    def read(window: Window) -> np.ndarray:
        rows = slice(window.top, window.top + window.height)
        return image[rows, window.left : window.left + window.width]

    for _, labels in engine.labels(read, height, width):
        digest.update(labels)
    return digest.hexdigest(), engine.count(height, width)


def _naive(predict: Predict, image: np.ndarray) -> tuple[str, int]:
    height, width = image.shape[:2]
    windows = sliding_windows(height, width, size=896, stride=512)
    kept = []
    for top, left, rows, columns in windows:
        window = image.copy()[top : top + rows, left : left + columns]
        batch = to_chw(pad_to_divisible(normalize(window)))[None]
        kept.append(predict(batch)[0, :, :rows, :columns])
    total = np.zeros((16, height, width), np.float32)
    count = np.zeros((height, width), np.float32)
    for (top, left, rows, columns), probabilities in zip(windows, kept, strict=True):
        total[:, top : top + rows, left : left + columns] += probabilities
        count[top : top + rows, left : left + columns] += 1
    labels = (total / count).argmax(axis=0).astype(np.uint8)
    return hashlib.sha256(labels).hexdigest(), len(windows)


SIDES = {"naive": _naive, "ours": _ours}


def _in_a_process(args: argparse.Namespace, side: str) -> dict:
    size = ["--height", str(args.height), "--width", str(args.width)]
    command = [sys.executable, __file__, "--side", side, *size, "--backbone", args.backbone]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _passed(sides: dict) -> bool:
    ours, naive = sides["ours"], sides.get("naive")
    if naive is None:
        return ours["peak_gb"] < LIMIT_GB
    return ours["labels"] == naive["labels"] and ours["peak_gb"] < naive["peak_gb"]


if __name__ == "__main__":
    sys.exit(main())
