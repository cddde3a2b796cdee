"""`python -m alignment`: compare a Paddle model with its torch reference, step by step.

Examples:
  python -m alignment                                    FactSeg on sample scenes, all steps
  python -m alignment --image I.png --mask M.png --crop 256
  python -m alignment --pair unet_bilinear               another network of list_models()
  python -m alignment --pair my_pair.py:make_pair --steps forward backward
  python -m alignment --side torch --out record          where Paddle is not installed
  python -m alignment --torch-records record             where torch is not installed

Exit status: 0 aligned (or recorded), 1 misaligned, 2 could not run
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from alignment.cli import exit_with_error, quieten_frameworks
from alignment.pair import STEPS, AlignmentError, Pair
from alignment.pair_files import Request, load_pair
from alignment.recording.reference import Reference
from alignment.recording.reference_files import load_reference, save_reference
from alignment.run import align, chosen_steps
from alignment.steps.paddle_comparison import run_paddle_alone
from alignment.steps.progress import ProgressBar, expected_phases
from alignment.steps.torch_reference import run_torch
from factseg_paddle.cli import ArgumentParser
from factseg_paddle.files import sha256_of_file
from factseg_paddle.folders import base_folder


def main(argv: Sequence[str] | None = None, *, default_out: str = "output/alignment") -> int:
    """Run the command line; see the module's docstring.

    Args:
        argv: arguments, those of the process where None.
        default_out: folder for the report, from `factseg_paddle.folders.base_folder()`.

    Returns:
        The exit status.
    """
    args = _parse(argv, default_out)
    quieten_frameworks()
    progress = ProgressBar()
    try:
        with (
            contextlib.closing(progress),
            contextlib.redirect_stdout(sys.stderr) if args.json else contextlib.nullcontext(),
        ):
            passed, text = _run(args, progress)
    except (AlignmentError, OSError, ImportError) as error:
        return exit_with_error("alignment could not run", error)
    print(text)
    return 0 if passed else 1


def _run(args: argparse.Namespace, progress: ProgressBar) -> tuple[bool, str]:
    """Return the verdict and what to print."""
    pair = load_pair(
        Request(
            pair=args.pair,
            seed=args.seed,
            image=args.image,
            mask=args.mask,
            crop=args.crop,
            torch_weights=args.torch_weights,
            paddle_weights=args.paddle_weights,
            torch_recorded=args.torch_records is not None,
            side=args.side,
        )
    )
    pair = _with_train_steps(pair, args.train_steps)
    steps = chosen_steps(pair, args.steps)
    progress.phases = expected_phases(
        steps,
        pair.checks,
        torch=not args.torch_records,
        paddle=args.side != "torch",
        train_steps=pair.train_steps,
    )
    if args.side == "torch":
        reference = run_torch(pair, steps, device=args.device, out=args.out, progress=progress)
        save_reference(replace(reference, identity=_identity(args)), args.out)
        return True, _recorded(args, pair.name, steps)
    if args.side == "paddle" and not args.torch_records:
        run_paddle_alone(pair, steps, args.out, device=args.device)
        return True, _recorded(args, pair.name, steps)
    reference = _recorded_reference(args) if args.torch_records else None
    report = align(
        pair, steps, device=args.device, out=args.out, reference=reference, progress=progress
    )
    text = (
        json.dumps(report.as_dict(), allow_nan=False)
        if args.json
        else f"{report}\nreport: {args.out}"
    )
    return report.passed, text


def _with_train_steps(pair: Pair, steps: int | None) -> Pair:
    if steps is None:
        return pair
    if pair.torch_train is None:
        raise AlignmentError(f"--train-steps: the pair {pair.name} has no step 'train'")
    try:
        return replace(pair, train_steps=steps)
    except ValueError as error:
        raise AlignmentError(f"--train-steps: {error}") from error


def _recorded_reference(args: argparse.Namespace) -> Reference:
    reference = load_reference(args.torch_records)
    for what, value in _identity(args).items():
        if reference.identity.get(what) != value:
            raise AlignmentError(
                f"the torch record was made with {what} {reference.identity.get(what, 'unknown')}, "
                f"this is {value}; record again"
            )
    return reference


def _identity(args: argparse.Namespace) -> dict[str, str]:
    """Return what decides the torch side beside its inputs, as far as it is given here."""
    identity = {"seed": str(args.seed)}
    if args.torch_weights:
        identity["torch weights"] = sha256_of_file(args.torch_weights)
    return identity


def _recorded(args: argparse.Namespace, pair: str, steps: Sequence[str]) -> str:
    if args.json:
        return json.dumps(
            {"recorded": args.side, "pair": pair, "steps": list(steps), "out": str(args.out)}
        )
    return f"recorded the {args.side} side of {pair} in {args.out}: {', '.join(steps)}"


def _parse(argv: Sequence[str] | None, default_out: str) -> argparse.Namespace:
    parser = ArgumentParser.of_docstring(__doc__, "python -m alignment")
    add = parser.add_argument
    add(
        "--pair",
        default="factseg",
        help="factseg, a network's name, or FILE.py:FUNCTION with FUNCTION(seed) -> Pair",
    )
    add("--steps", nargs="+", metavar="STEP", help=f"of {', '.join(STEPS)}; all by default")
    add("--seed", type=int, default=0, help="of weights and inputs")
    add("--device", choices=("cpu", "gpu"), default="cpu")
    add("--image", type=Path, help="image file (our own networks)")
    add("--mask", type=Path, help="its mask, colours or indices (our own networks)")
    add(
        "--crop", type=int, metavar="N", help="side of the square input, a multiple of 32 (our own)"
    )
    add(
        "--train-steps",
        type=int,
        metavar="N",
        help="steps of the step train; the pair's by default",
    )
    add("--torch-weights", type=Path, metavar="X", help=".pth file for the torch model")
    add("--paddle-weights", type=Path, metavar="Y", help=".pdparams file for the Paddle model")
    add("--out", type=Path, default=base_folder() / default_out, help="folder for the report")
    add("--side", choices=("both", "torch", "paddle"), default="both", help="record one side alone")
    add("--torch-records", type=Path, metavar="DIR", help="compare with a recorded torch side")
    add("--json", action="store_true", help="print report.json's object and nothing else")
    args = parser.parse_args(argv)
    if args.torch_records and args.side == "torch":
        parser.error("--torch-records replaces the torch side; leave out --side torch")
    return args


if __name__ == "__main__":
    sys.exit(main())
