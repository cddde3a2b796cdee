#!/usr/bin/env python
"""Measure JointLoss in Paddle: the logits form against the literal form.

Each form runs in processes of its own, the two by turns. A process makes the inputs, notes its
peak memory, then runs forward and backward again and again. Time is the median over these
repetitions, then over the processes, as is the growth of the peak resident memory over the process
that holds the inputs. Exit status: 0 if both targets are met (the logits form at least 1.7 times
faster, its growth at most 0.7 of the literal form's), 1 if not, 2 if it could not run.
"""

import argparse
import json
import statistics
import sys
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from factseg_paddle.cli import ArgumentParser
from factseg_paddle.memory import peak_memory_bytes

MIN_SPEEDUP = 1.7
MAX_MEMORY_RATIO = 0.7
NUM_CLASSES = 16
EXAMPLES = """examples:
  python scripts/bench_losses.py
  python scripts/bench_losses.py --size 256 --repeats 1 --json
"""


@dataclass(frozen=True)
class Workload:
    """What every process runs: logits [batch, 16, size, size], some labels ignored."""

    batch: int
    size: int
    iterations: int
    seed: int


@dataclass(frozen=True)
class Measurement:
    """One form: seconds of a forward and backward pass, and the growth of the peak in bytes."""

    seconds: float
    growth_bytes: float
    loss: float


@dataclass(frozen=True)
class Verdict:
    """Both forms side by side; true when both targets are met."""

    literal: Measurement
    logits: Measurement

    @property
    def speedup(self) -> float:
        """Return how many times faster the logits form is."""
        return self.literal.seconds / self.logits.seconds

    @property
    def memory_ratio(self) -> float:
        """Return the logits form's growth over the literal form's; infinite where that did not."""
        if self.literal.growth_bytes <= 0:
            return float("inf")
        return self.logits.growth_bytes / self.literal.growth_bytes

    def __bool__(self) -> bool:
        return self.speedup >= MIN_SPEEDUP and self.memory_ratio <= MAX_MEMORY_RATIO

    def __str__(self) -> str:
        lines = ["form     forward + backward  growth of peak memory"]
        for form in ("literal", "logits"):
            one: Measurement = getattr(self, form)
            milliseconds, mebibytes = 1e3 * one.seconds, one.growth_bytes / 2**20
            lines.append(f"{form:<8} {milliseconds:>15.1f} ms {mebibytes:>17.1f} MiB")
        lines.append(f"{self.speedup:.2f} times faster (target: at least {MIN_SPEEDUP})")
        lines.append(f"{self.memory_ratio:.2f} of the growth (target: at most {MAX_MEMORY_RATIO})")
        lines.append("targets met" if self else "targets missed")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, object]:
        """Give the figures as plain values; a ratio that is not finite is None."""
        finite = self.memory_ratio != float("inf")
        return {
            "passed": bool(self),
            "speedup": self.speedup,
            "memory_ratio": self.memory_ratio if finite else None,
            "forms": {form: asdict(getattr(self, form)) for form in ("literal", "logits")},
        }


def compare_forms(workload: Workload, repeats: int) -> Verdict:
    """Run `repeats` processes of each form, by turns, and take medians."""
    runs: dict[str, list[Measurement]] = {"literal": [], "logits": []}
    for _ in range(repeats):
        for form, measured in runs.items():
            # A pool of one, made anew: a fresh process, and an error if it is killed.
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                measured.append(pool.submit(measure, form, workload).result())
    return Verdict(
        **{
            form: Measurement(
                seconds=statistics.median(one.seconds for one in measured),
                growth_bytes=statistics.median(one.growth_bytes for one in measured),
                loss=measured[0].loss,
            )
            for form, measured in runs.items()
        }
    )


def measure(form: str, workload: Workload) -> Measurement:
    """Time one form in this process and see how far its peak memory grows."""
    warnings.filterwarnings("ignore", message="No ccache found")  # paddle's, on every import
    import numpy as np
    import paddle

    from factseg_paddle.losses import JointLoss

    random = np.random.RandomState(workload.seed)
    shape = (workload.batch, NUM_CLASSES, workload.size, workload.size)
    class_logits = paddle.to_tensor(2 * random.randn(*shape).astype(np.float32))
    binary_logits = paddle.to_tensor(2 * random.randn(shape[0], 1, *shape[2:]).astype(np.float32))
    labels = random.randint(0, NUM_CLASSES, (shape[0], *shape[2:]))
    labels[random.rand(*labels.shape) < 0.05] = 255
    labels = paddle.to_tensor(labels)
    logits = (class_logits, binary_logits)
    for tensor in logits:
        tensor.stop_gradient = False
    joint_loss = JointLoss(form=form)

    peak_with_inputs = peak_memory_bytes()
    seconds = []
    for _ in range(workload.iterations + 1):
        for tensor in logits:
            tensor.clear_gradient(set_to_zero=False)
        start = time.perf_counter()
        loss = joint_loss(*logits, labels)
        loss.backward()
        seconds.append(time.perf_counter() - start)
    return Measurement(
        seconds=statistics.median(seconds[1:]),  # the first pass warms up
        growth_bytes=peak_memory_bytes() - peak_with_inputs,
        loss=float(loss),
    )


def main(argv: list[str] | None = None) -> int:
    """Parse the arguments, compare, print."""
    parser = ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=_positive, default=2, help="images (default: 2)")
    parser.add_argument("--size", type=_positive, default=512, help="side, pixels (default: 512)")
    parser.add_argument(
        "--repeats", type=_positive, default=3, help="processes of each form (default: 3)"
    )
    parser.add_argument(
        "--iterations", type=_positive, default=5, help="timed passes per process (default: 5)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the inputs (default: 0)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    args = parser.parse_args(argv)
    workload = Workload(args.batch, args.size, args.iterations, args.seed)
    try:
        verdict = compare_forms(workload, args.repeats)
    except ImportError as error:
        print(f"cannot measure: {error}; install requirements.txt", file=sys.stderr)
        return 2
    except BrokenProcessPool:
        print("a measuring process was killed: too little memory? use --size 256", file=sys.stderr)
        return 2
    if args.json:
        print(json.dumps({"workload": asdict(workload), **verdict.as_dict()}))
    else:
        print(f"JointLoss at {[args.batch, NUM_CLASSES, args.size, args.size]} float32, SOM")
        print(verdict)
    return 0 if verdict else 1


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not positive; use 1 or more")
    return value


if __name__ == "__main__":
    sys.exit(main())
