"""Paint synthetic aerial scenes with the 16 iSAID classes, in iSAID's layout and colours."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tqdm import tqdm

from factseg_paddle.cli import ArgumentParser, exit_with_error

EXAMPLES = """examples:
  python scripts/make_sample_data.py --output output/sample
  python scripts/make_sample_data.py --output output/sample --images 12 --size 896 --seed 7

The same arguments write the same bytes. Exit status: 0 written, 2 could not write.
"""


def main(argv: list[str] | None = None) -> int:
    """Write the sample data; one line on stdout, progress on stderr."""
    parser = ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", required=True, type=Path, help="folder to make")
    parser.add_argument("--images", type=int, default=8, help="number (default 8), 1 in 4 for val")
    parser.add_argument("--size", type=int, default=512, help="side in pixels (default 512)")
    parser.add_argument("--seed", type=int, default=0, help="of the scenes, at least 0 (default 0)")
    args = parser.parse_args(argv)
    try:
        from factseg_paddle.data.synthetic.scenes import make_sample_dataset

        summary = make_sample_dataset(
            args.output,
            images=args.images,
            size=args.size,
            seed=args.seed,
            track=lambda numbers: tqdm(numbers, desc="painting", unit="image", file=sys.stderr),
        )
    except (ImportError, ValueError) as error:
        return exit_with_error(parser.prog, error)
    except OSError as error:
        return exit_with_error(parser.prog, f"cannot write under {args.output}: {error}")
    print(f"{args.output}: {summary}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
