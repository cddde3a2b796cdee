"""Predict the classes of images of any size with FactSeg weights, and draw them."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from factseg_paddle.engine.prediction import PredictionRun

COMMAND = "factseg predict"

EXAMPLES = """examples:
  factseg predict --weights output/factseg_r50_isaid/best_model --input photo.tif
  factseg predict --weights factseg50.pdparams --input photos --output output/predicted
  factseg predict --weights output/factseg_r50_isaid/best_model \\
    --input output/sample/val/images/images --masks output/sample/val/masks/images

OUTPUT gets index/ (class indices with the palette), color/ (the palette's colours), overlay/ (with
a legend) and, where MASKS holds the image's mask (of its name, or with the configured data's
suffixes), error/. PNG, JPEG, TIFF or BMP, 8 bits a channel. A TIFF is read window by window, so
memory depends on its width alone; the others are decoded whole. One bad file is reported and the
rest go on.
Exit status: 0 all predicted, 1 some failed, 2 none or could not start, 130 or 143 told to stop.
"""


def main(argv: Sequence[str] | None = None, *, prog: str = COMMAND) -> int:
    """Print one line per image; progress and what failed on stderr.

    Args:
        argv: arguments, those of the process where None.
        prog: what messages call the program.
    """
    args = _parser(prog).parse_args(argv)
    configure_threads()
    changes = {"device": args.device} if args.device else {}
    warnings.filterwarnings("ignore", message="No ccache found")  # paddle's, on every import
    try:
        with stop_on_signals():
            return _predict(args, changes, prog)
    except Stopped as stop:
        print(f"{prog}: {stop}; the images that are listed are complete", file=sys.stderr)
        return stop.status


def _predict(args: argparse.Namespace, changes: dict, prog: str) -> int:
    try:
        with importing_paddle():
            from factseg_paddle.engine.prediction import PredictionRun
        run = PredictionRun.prepare(
            args.weights,
            args.input,
            config=args.config,
            opts=args.opts,
            changes=changes,
            masks=args.masks,
        )
        print(run.restored, file=sys.stderr)
        results = _run(run, args.output)
    except (ImportError, ValueError, OSError) as error:
        return exit_with_error(prog, error)
    done = sum(map(bool, results))
    print(f"{done} of {len(results)} images predicted: {args.output}")
    return 0 if done == len(results) else 1 if done else 2


def _run(run: PredictionRun, output: Path) -> list:
    results = []
    with ProgressBar("window") as progress:
        for result in run.results(output, progress):
            progress.write(run.line(result), sys.stdout if result else sys.stderr)
            results.append(result)
    return results


def _parser(prog: str) -> ArgumentParser:
    parser = ArgumentParser.of_command(__doc__, EXAMPLES, command=COMMAND, prog=prog)
    add = parser.add_argument
    add("--weights", required=True, type=Path, help=".pdparams file or checkpoint folder")
    add("--input", required=True, type=Path, help="an image or a folder of images")
    output = base_folder() / "output" / "predicted"
    add("--output", type=Path, default=output, help="folder to write")
    add("--masks", type=Path, help="folder of masks, for error maps")
    text = "a recipe's name or a YAML file (default: the one that lies with the weights)"
    add("--config", type=Path, help=text)
    add("--device", help="cpu, gpu or gpu:N (default: a GPU where there is one)")
    parser.add_opts(help="such as eval.stride=256")
    return parser
