"""Evaluate FactSeg weights with the original's sliding window and write all that came out."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from factseg_paddle.cli import (
    ArgumentParser,
    Stopped,
    configure_threads,
    exit_with_error,
    importing_paddle,
    stop_on_signals,
)
from factseg_paddle.commands.progress_bar import ProgressBar
from factseg_paddle.folders import base_folder

COMMAND = "factseg evaluate"

EXAMPLES = """examples:
  factseg evaluate --weights output/factseg_r50_isaid/best_model
  factseg evaluate --config factseg_r50_isaid --weights factseg50.pdparams \\
    --dataset_root data/isaid --output output/evaluation
  factseg evaluate --weights output/quickstart/best_model --flip --scales 0.75 1.0 1.25

OUTPUT gets metrics.json (with the confusion matrix), confusion_matrix.png, per_image.csv (worst
first), predictions/ (palette PNG) and worst/ (error maps). The same command goes on where it was
stopped; other weights or settings start anew. An image or mask that is changed under its old name
is not noticed: give another OUTPUT then.
Exit status: 0 evaluated, 1 stopped itself, 2 could not start, 130 or 143 told to stop.
"""


def main(argv: Sequence[str] | None = None, *, prog: str = COMMAND) -> int:
    """Print the table of classes and the summary; progress on stderr.

    Args:
        argv: arguments, those of the process where None.
        prog: what messages call the program.
    """
    args = _parser(prog).parse_args(argv)
    configure_threads()
    changes = {"eval.flip": True} if args.flip else {}
    for key, value in (
        ("data.dataset_root", args.dataset_root),
        ("eval.scales", args.scales),
        ("eval.batch_size", args.batch_size),
        ("device", args.device),
    ):
        if value is not None:
            changes[key] = value
    warnings.filterwarnings("ignore", message="No ccache found")  # paddle's, on every import
    try:
        with stop_on_signals():
            return _evaluate(args, changes, prog)
    except Stopped as stop:
        print(f"{prog}: {stop}; the same command goes on with the images left", file=sys.stderr)
        return stop.status


def _evaluate(args: argparse.Namespace, changes: dict, prog: str) -> int:
    progress = ProgressBar("window")
    try:
        with importing_paddle():
            from factseg_paddle.engine.evaluation.run import EvaluationRun
            from factseg_paddle.engine.logs.format import class_table
        run = EvaluationRun.prepare(
            args.weights,
            args.output,
            config=args.config,
            opts=args.opts,
            changes=changes,
            progress=progress,
        )
    except (ImportError, ValueError, OSError) as error:
        return exit_with_error(prog, error)
    try:
        with progress:
            evaluated = run.run(progress, worst=args.worst)
    except (ValueError, OSError) as error:
        progress.log(f"{prog}: {error}; the images that are done are kept")
        return 1
    metrics = evaluated.metrics
    print(class_table(metrics.class_iou, metrics.mean_iou))
    print(metrics)
    print(f"{len(evaluated.images)} images; details: {args.output}")
    return 0


def _parser(prog: str) -> ArgumentParser:
    parser = ArgumentParser.of_command(__doc__, EXAMPLES, command=COMMAND, prog=prog)
    add = parser.add_argument
    add("--weights", required=True, type=Path, help=".pdparams file or checkpoint folder")
    text = "a recipe's name or a YAML file (default: the one that lies with the weights)"
    add("--config", type=Path, help=text)
    add("--dataset_root", help="folder of the data, in place of the configuration's")
    output = base_folder() / "output" / "evaluation"
    add("--output", type=Path, default=output, help="folder to write")
    add("--flip", action="store_true", help="average over both mirror images as well")
    add("--scales", type=float, nargs="+", help="factors of the image's size to average over")
    add("--batch_size", type=int, help="windows that go through the network at once")
    add("--worst", type=_count, default=5, help="error maps of so many images (default 5)")
    add("--device", help="cpu, gpu or gpu:N (default: a GPU where there is one)")
    parser.add_opts(help="such as eval.stride=256")
    return parser


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} is no count; give 0 or more")
    return int(text)
