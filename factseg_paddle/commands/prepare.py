"""Make a store of iSAID whose windows are read without decoding whole images, or check the data."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from factseg_paddle.cli import ArgumentParser, exit_with_error
from factseg_paddle.commands.progress_bar import ProgressBar

COMMAND = "factseg prepare"

EXAMPLES = """examples:
  factseg prepare --dataset_root data/isaid --check
  factseg prepare --dataset_root data/isaid --output data/isaid_prepared
  factseg prepare --check --dataset_root data/isaid_prepared
  factseg prepare --check --config configs/my_data.yml

The store is lossless and about as large as the PNG files; training and evaluation take it as
--dataset_root. A run that was stopped or killed goes on where it was. --check reads everything,
writes nothing and lists all problems, a line each.

Exit status: 0 prepared, or all fine; 1 problems were found, or it had to stop; 2 could not start.
"""


def main(argv: Sequence[str] | None = None, *, prog: str = COMMAND) -> int:
    """Print results and problems on stdout, progress and errors on stderr.

    Args:
        argv: arguments, those of the process where None.
        prog: what messages call the program.
    """
    parser = ArgumentParser.of_command(__doc__, EXAMPLES, command=COMMAND, prog=prog)
    parser.add_argument(
        "--dataset_root", type=Path, default=Path("data/isaid"), help="default data/isaid"
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("data/isaid_prepared"),
        help="folder of the store (default data/isaid_prepared)",
    )
    parser.add_argument("--num_workers", type=int, help="processes (default: one for each core)")
    parser.add_argument("--check", action="store_true", help="look for bad data, write nothing")
    parser.add_argument("--config", type=Path, help="with --check: the data of a recipe or file")
    args = parser.parse_args(argv)
    if args.num_workers is not None and args.num_workers < 0:
        parser.error(f"--num_workers {args.num_workers} is negative")
    if args.config and not args.check:
        parser.error("--config goes with --check")
    previous = signal.signal(signal.SIGTERM, _stop)
    try:
        return _run(args, prog)
    except ImportError as error:
        return exit_with_error(prog, error)
    except KeyboardInterrupt:
        print(f"{prog}: stopped; run it again, it goes on where it was", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGTERM, previous)


def _run(args: argparse.Namespace, prog: str) -> int:
    from concurrent.futures.process import BrokenProcessPool

    from factseg_paddle.config.loading import ConfigError
    from factseg_paddle.cpu import usable_cores
    from factseg_paddle.data.layouts.pair_files import DataError
    from factseg_paddle.data.store.prepare import PrepareError, prepare_isaid

    num_workers = usable_cores() if args.num_workers is None else args.num_workers
    try:
        if args.check:
            return _check(args, num_workers)
        with ProgressBar("pair", log_to=sys.stdout) as progress:
            done = prepare_isaid(
                args.dataset_root, args.output, num_workers=num_workers, progress=progress
            )
    except (PrepareError, BrokenProcessPool) as error:
        print(f"{prog}: {error}", file=sys.stderr)
        return 1
    except (DataError, ConfigError, OSError) as error:
        return exit_with_error(prog, error)
    print(f"{args.output}: {done}")
    return 0


def _check(args: argparse.Namespace, num_workers: int) -> int:
    from factseg_paddle.config.data_section import Data
    from factseg_paddle.config.loading import load_config
    from factseg_paddle.data.check import check_data

    data = (
        load_config(args.config).data
        if args.config
        else Data(dataset_root=str(args.dataset_root.absolute()))
    )
    with ProgressBar("pair") as progress:
        checked = check_data(data, num_workers=num_workers, progress=progress)
    for problem in checked.problems:
        print(problem)
    print(f"{args.config or args.dataset_root}: {checked}")
    return 0 if checked else 1


def _stop(*_: object) -> None:
    sys.exit(143)
