"""Time the confusion matrix against the original's accumulation in one run, on 6.4 megapixels.

The original adds `coo_matrix((ones, (truth, prediction)), dtype=float32)` to a sparse total.
Both sides drop the ignored pixels and count the same 2560 x 2500 labels; CPU time, best of several.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from scipy.sparse import coo_matrix

from factseg_paddle.cli import ArgumentParser
from factseg_paddle.metrics import confusion_matrix

NUM_CLASSES, IGNORE_INDEX = 16, 255
HEIGHT, WIDTH = 2560, 2500
AT_LEAST = 3.0  # measured: 12 to 15 times
EXAMPLES = """examples:
  python scripts/bench_metrics.py
  python scripts/bench_metrics.py --repeats 9 --json

Exit status: 0 at least 3 times faster on every pair of types, 1 slower or a different result.
"""


def main(argv: list[str] | None = None) -> int:
    """Print one line per pair of types, or one JSON object."""
    parser = ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5, help="runs of each side (default 5)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args(argv)
    if args.repeats < 1:
        print(f"{parser.prog}: repeats {args.repeats} is below 1", file=sys.stderr)
        return 2
    cases = [
        measure(labels, predictions, args.repeats)
        for labels, predictions in (("int64", "int64"), ("uint8", "uint8"), ("int64", "uint8"))
    ]
    passed = all(case["equal"] and case["ratio"] >= AT_LEAST for case in cases)
    if args.json:
        print(json.dumps({"passed": passed, "at_least": AT_LEAST, "cases": cases}))
    else:
        for case in cases:
            print(
                f"labels {case['labels']}, predictions {case['predictions']}: "
                f"original {case['original_ms']:.1f} ms, ours {case['ours_ms']:.1f} ms, "
                f"{case['ratio']:.1f} times faster"
            )
    return 0 if passed else 1


def measure(labels_dtype: str, predictions_dtype: str, repeats: int) -> dict:
    """Time both sides on the same random labels and predictions of the given types."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, NUM_CLASSES, (HEIGHT, WIDTH)).astype(labels_dtype)
    labels[rng.random(labels.shape) < 0.05] = IGNORE_INDEX
    predictions = rng.integers(0, NUM_CLASSES, (HEIGHT, WIDTH)).astype(predictions_dtype)
    original_s, original = _best(lambda: _original(labels, predictions), repeats)
    ours_s, ours = _best(lambda: confusion_matrix(labels, predictions, NUM_CLASSES), repeats)
    return {
        "labels": labels_dtype,
        "predictions": predictions_dtype,
        "pixels": labels.size,
        "original_ms": original_s * 1e3,
        "ours_ms": ours_s * 1e3,
        "ratio": original_s / ours_s,
        "equal": bool(np.array_equal(original, ours)),
    }


def _original(labels: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    total = coo_matrix((NUM_CLASSES, NUM_CLASSES), dtype=np.float32)
    valid = labels != IGNORE_INDEX
    truth, predicted = labels[valid], predictions[valid]
    ones = np.ones(truth.size, dtype=np.float32)
    total += coo_matrix((ones, (truth, predicted)), shape=total.shape, dtype=np.float32)
    return total.toarray()


def _best(run: Callable[[], np.ndarray], repeats: int) -> tuple[float, np.ndarray]:
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        result = run()
        seconds.append(time.process_time() - start)
    return min(seconds), result


if __name__ == "__main__":
    sys.exit(main())
