"""Measure the alignment of FactSeg: wall time after start-up, and peak memory.

Examples:
  python scripts/bench_alignment.py
  python scripts/bench_alignment.py --crop 64 --train-steps 2
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from factseg_paddle.cli import ArgumentParser  # noqa: E402 - the path comes first

MEASURED = """
import json, sys, time
import paddle, torch
from alignment import align
from factseg_proof.pairs.factseg import make_pair
from dataclasses import replace
from factseg_paddle.memory import peak_memory_bytes
pair = replace(make_pair(crop_size={crop}, backbone={backbone!r}), train_steps={train_steps})
started = time.perf_counter()
report = align(pair, out={out!r})
seconds = time.perf_counter() - started
peak = peak_memory_bytes() / 2**30
print(json.dumps({{"passed": report.passed, "seconds": seconds, "peak_gib": peak}}))
"""


def main(argv: list[str] | None = None) -> int:
    """Run the alignment in a process of its own and print what it took; 0 aligned, 1 not."""
    parser = ArgumentParser.of_docstring(__doc__)
    parser.add_argument("--crop", type=int, default=128, help="side of the two images")
    parser.add_argument("--train-steps", type=int, default=10, help="of the step train")
    parser.add_argument("--backbone", default="resnet50", help="of both networks")
    parser.add_argument(
        "--out", type=Path, default=REPOSITORY / "output/bench_alignment", help="for the report"
    )
    args = parser.parse_args(argv)
    code = MEASURED.format(
        crop=args.crop,
        backbone=args.backbone,
        train_steps=args.train_steps,
        out=str(args.out),
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        env={"OMP_WAIT_POLICY": "PASSIVE", **os.environ},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        return 2
    measured = json.loads(done.stdout.splitlines()[-1])
    load = os.getloadavg()[0]
    print(
        f"FactSeg, {args.backbone}, 2 images of {args.crop}x{args.crop}, all steps, "
        f"{args.train_steps} training steps: {measured['seconds']:.0f} s, "
        f"{measured['peak_gib']:.2f} GiB at the peak ({os.cpu_count()} cores, load {load:.1f})"
    )
    return 0 if measured["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
