"""Paint synthetic aerial scenes with the 16 iSAID classes, in iSAID's layout and colours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from factseg_paddle.cli import ArgumentParser, exit_with_error
from factseg_paddle.commands.progress_bar import ProgressBar

COMMAND = "factseg sample"

EXAMPLES = """examples:
  factseg sample --output output/sample
  factseg sample --output output/sample --images 12 --size 896 --seed 7

The same arguments write the same bytes. Exit status: 0 written, 2 could not write.
"""


def main(argv: Sequence[str] | None = None, *, prog: str = COMMAND) -> int:
    """Write the sample data; one line on stdout, progress on stderr.

    Args:
        argv: arguments, those of the process where None.
        prog: what messages call the program.
    """
    parser = ArgumentParser.of_command(__doc__, EXAMPLES, command=COMMAND, prog=prog)
    parser.add_argument("--output", required=True, type=Path, help="folder to make")
    parser.add_argument("--images", type=int, default=8, help="number (default 8), 1 in 4 for val")
    parser.add_argument("--size", type=int, default=512, help="side in pixels (default 512)")
    parser.add_argument("--seed", type=int, default=0, help="of the scenes, at least 0 (default 0)")
    args = parser.parse_args(argv)
    try:
        from factseg_paddle.data.synthetic.scenes import make_sample_dataset

        with ProgressBar("image") as progress:
            summary = make_sample_dataset(
                args.output, images=args.images, size=args.size, seed=args.seed, progress=progress
            )
    except (ImportError, ValueError) as error:
        return exit_with_error(prog, error)
    except OSError as error:
        return exit_with_error(prog, f"cannot write under {args.output}: {error}")
    print(f"{args.output}: {summary}")
    return 0
