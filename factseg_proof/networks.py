"""`python -m factseg_proof.networks`: compare every network of `list_models()` with its torch twin.

Examples:
  python -m factseg_proof.networks                          all of them, a line each (make zoo)
  python -m factseg_proof.networks --networks unet_bilinear --steps forward loss backward

Each network is a process of its own, so that its memory is free before the next one starts; the
largest, of VGG-16, want 10 GB. One that can not run is reported, and the rest go on.
Exit status: 0 all aligned, 1 some not, 2 some or all could not run
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from alignment.cli import exit_with_error
from alignment.pair import STEPS, AlignmentError
from factseg_paddle.aliases import full_name
from factseg_paddle.cli import ArgumentParser
from factseg_paddle.folders import base_folder


def main(argv: Sequence[str] | None = None) -> int:
    """Print a line per network and the number of those that are aligned."""
    parser = ArgumentParser.of_docstring(__doc__, prog="factseg_proof.networks")
    parser.add_argument("--networks", nargs="+", metavar="NAME", help="all by default")
    parser.add_argument("--steps", nargs="+", metavar="STEP", help=f"of {', '.join(STEPS)}")
    parser.add_argument("--train-steps", type=int, default=2, help="of the step train")
    parser.add_argument("--out", type=Path, default=base_folder() / "output" / "zoo")
    args = parser.parse_args(argv)
    from torch_ref.models.creation import explain_unknown, list_models

    known = list_models()
    names = list(map(full_name, args.networks or known))
    options = ["--train-steps", str(args.train_steps)]
    if unknown := [name for name in names if name not in known]:
        sentence = explain_unknown("network", unknown[0], known)
        return exit_with_error("factseg_proof.networks could not run", sentence)
    if args.steps:
        options = ["--steps", *args.steps, *(options if "train" in args.steps else [])]
    aligned = not_run = 0
    for name in names:
        try:
            passed, line = compare(name, options, args.out / name)
        except AlignmentError as error:
            passed, line = False, f"could not run: {error}"
            not_run += 1
        print(f"{name:32} {line}", flush=True)
        aligned += passed
    print(f"{aligned} of {len(names)} networks aligned; reports: {args.out}")
    return 2 if not_run else 0 if aligned == len(names) else 1


def compare(name: str, options: Sequence[str], out: Path) -> tuple[bool, str]:
    """Run `python -m alignment --pair NAME`.

    Args:
        name: of the network.
        options: more arguments.
        out: folder of its report.

    Returns:
        Whether it is aligned, and that in words.

    Raises:
        AlignmentError: it could not run; with the sentence that it said.
    """
    out = out.absolute()  # the child stands in another folder
    command = [sys.executable, "-m", "alignment", "--pair", name, *options, "--out", str(out)]
    done = subprocess.run(command, cwd=base_folder(), capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        if done.returncode < 0:
            raise AlignmentError(
                f"ended by signal {-done.returncode}; the system may have killed it to free memory"
            )
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise AlignmentError(lines[-1].removeprefix("alignment could not run: "))
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    tensors = [tensor for step in report["steps"] for tensor in step["tensors"]]
    steps = " ".join(step["step"] for step in report["steps"])
    if report["passed"]:
        line = f"aligned: {len(tensors)} comparisons in {steps}"
        return True, f"{line}; largest {_largest(tensors):.0%} of allowed"
    return False, f"MISALIGNED, first divergence: {report['first_divergence']}"


def _largest(tensors: Sequence[dict]) -> float:
    """Return the largest error as a share of what is allowed; declared differences have none."""
    passed = [t for t in tensors if t["status"] == "passed" and t["error"] and t["allowed"]]
    return max((tensor["error"] / tensor["allowed"] for tensor in passed), default=0.0)


if __name__ == "__main__":
    sys.exit(main())
