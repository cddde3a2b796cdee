"""Compare the networks: parameters, FLOPs, forward time and memory in both frameworks, and mIoU.

Each network runs in torch and in Paddle on the CPU, with as many threads, a process each, one pass
after the other by turns. A time means something as a ratio to another of the same run. Memory is
the growth of a process's peak over what it held after its imports: weights and activations.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from alignment.steps.environment import environment_of
from factseg_paddle.aliases import full_name
from factseg_paddle.cli import (
    ArgumentParser,
    Stopped,
    configure_threads,
    exit_with_error,
    stop_on_signals,
)
from factseg_paddle.folders import base_folder
from factseg_proof.costs.measure import count, measure
from factseg_proof.costs.table import (
    MarkdownTable,
    Published,
    Row,
    read_miou,
    read_published,
    write,
)

COMMAND = "factseg compare"
EXAMPLES = """examples:
  factseg compare
  factseg compare --networks farseg_resnet50 unet_bilinear --repeats 9 \\
    --seconds 60
  factseg compare --metrics factseg_resnet50=output/evaluation/metrics.json

OUTPUT gets table.md, table.json and, where the mIoU of a network is known, miou.png. Published mIoU
on iSAID stand with their sources in factseg_proof/costs/published_miou.yml; ours come from
evaluations of iSAID, by evaluate.py or factseg evaluate.
Exit status: 0 all networks ran, 1 some did not, 2 could not start, 130 or 143 told to stop.
"""


def main(argv: Sequence[str] | None = None, *, prog: str = COMMAND) -> int:
    """Print the table line by line and write the files; progress on stderr.

    Args:
        argv: arguments, those of the process where None.
        prog: what messages call the program.
    """
    args = _parser(prog).parse_args(argv)
    configure_threads()
    try:
        with stop_on_signals():
            return _compare(args)
    except (ImportError, ValueError, OSError) as error:
        return exit_with_error(prog, error)
    except Stopped as stop:
        print(f"{prog}: {stop}; nothing is written", file=sys.stderr)
        return stop.status


def _compare(args: argparse.Namespace) -> int:
    names, ours = _chosen(args)
    args.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=args.output):
        pass  # that it can be written is known before hours, not after
    about = {
        "size": args.size,
        "num_classes": args.num_classes,
        "threads": os.environ["OMP_NUM_THREADS"],
        "environment": environment_of("torch") | environment_of("paddle"),
    }
    published = read_published()
    table = MarkdownTable(names, published)
    print(table.header(), flush=True)
    rows = []
    for name in tqdm(names, desc="measuring", unit="network", file=sys.stderr):
        rows.append(_row(args, name, published.get(name), ours.get(name)))
        tqdm.write(table.line(rows[-1]))  # on stdout, above the bar
    for line in write(args.output, table, rows, about):
        print(line)
    return 1 if any(row.failure for row in rows) else 0


def _chosen(args: argparse.Namespace) -> tuple[list[str], dict[str, float]]:
    """Return the networks, and the mIoU of ours.

    Raises:
        ImportError: torch is not installed.
        ValueError: a name is not known, or a file is no metrics.json.
        OSError: a file can't be read.
    """
    from torch_ref.models.creation import explain_unknown, list_models

    known = list_models()
    names = list(dict.fromkeys(map(full_name, args.networks or known)))
    ours = {}
    for name in names:
        if name not in known:
            raise ValueError(explain_unknown("network", name, known))
    for short, path in args.metrics:
        name = full_name(short)
        if name not in names:
            raise ValueError(explain_unknown("network of --metrics", name, names))
        ours[name] = read_miou(path)
    return names, ours


def _row(
    args: argparse.Namespace, name: str, published: Published | None, ours: float | None
) -> Row:
    options = {"repeats": args.repeats, "seconds": args.seconds}
    size, costs, failure = None, None, ""
    try:
        size = count(name, args.num_classes, args.size)
        costs = measure(name, args.num_classes, args.size, **options)
    except Exception as error:  # anything that a network may raise: its line says it
        failure = str(error)
    return Row(name, size, costs, published, ours, failure)


def _parser(prog: str) -> ArgumentParser:
    parser = ArgumentParser.of_command(__doc__, EXAMPLES, command=COMMAND, prog=prog)
    add = parser.add_argument
    add("--networks", nargs="+", metavar="NAME", help="of list_models() (default: all)")
    add("--num_classes", type=_positive, default=16, help="with the background (default 16)")
    add("--size", type=_positive, default=512, help="side of the image, pixels (default 512)")
    add(
        "--metrics",
        nargs="+",
        type=_name_and_file,
        default=[],
        metavar="NAME=FILE",
        help="metrics.json of an evaluation of a network: our mIoU",
    )
    output = base_folder() / "output" / "compare_models"
    add("--output", type=Path, default=output, help="folder")
    add("--repeats", type=_positive, default=3, help="timed passes at most (default 3)")
    add(
        "--seconds", type=_duration, default=6.0, help="of timed passes that are enough (default 6)"
    )
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not positive; use 1 or more")
    return value


def _duration(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{value} is no positive number of seconds")
    return value


def _name_and_file(text: str) -> tuple[str, Path]:
    name, equals, file = text.partition("=")
    if not equals or not file:
        raise argparse.ArgumentTypeError(f"{text} is not of the form NAME=metrics.json")
    return name, Path(file)
