"""`python -m factseg_proof.faults`: plant known faults into FactSeg and see whether they are found.

Each fault of the catalogue is planted into Paddle's FactSeg, and the comparison is run: it has to
fail first at the right step and name the right place. Faults that change nothing must raise no
alarm. reprod_log with its defaults judges the same recorded values beside it, and the column of
PaDiff is from one recorded run.

Examples:
  python -m factseg_proof.faults
  python -m factseg_proof.faults --only "eps 1e-3" align_corners

Exit status: 0 all found at the right step, 95 % placed exactly, no false alarm; 1 not; 2 could not
run
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

from alignment.cli import exit_with_error, quieten_frameworks
from alignment.pair import AlignmentError
from factseg_paddle.cli import ArgumentParser
from factseg_paddle.folders import base_folder
from factseg_proof.faults.outcomes import Outcomes
from factseg_proof.faults.run import BACKBONE, CROP, run_faults


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    from tqdm import tqdm

    parser = ArgumentParser.of_docstring(__doc__, "python -m factseg_proof.faults")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these faults alone")
    parser.add_argument("--crop", type=int, default=CROP, help="side of the input")
    parser.add_argument(
        "--backbone", default=BACKBONE, help=f"{BACKBONE} by default, which faults in one are for"
    )
    parser.add_argument(
        "--out", type=Path, default=base_folder() / "output/faults", help="folder for the table"
    )
    args = parser.parse_args(argv)
    quieten_frameworks()
    try:
        run = run_faults(args.only, crop=args.crop, backbone=args.backbone)
        bar = tqdm(run, unit="fault", disable=not sys.stderr.isatty())
        with contextlib.closing(run):
            outcomes = Outcomes(tuple(bar))
    except (AlignmentError, ValueError, OSError, ImportError) as error:
        return exit_with_error("the faults could not be run", error)
    outcomes.save(args.out)
    print(outcomes)
    return 0 if outcomes else 1


if __name__ == "__main__":
    sys.exit(main())
