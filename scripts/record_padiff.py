#!/usr/bin/env python
"""Record what PaDiff 0.2.0 says of FactSeg with every planted fault.

The result is kept in factseg_proof/faults/padiff_recorded.json, and
`python -m factseg_proof.faults` shows it beside its own. PaDiff is not among the requirements,
since it wraps both frameworks' functions:
pip install --no-deps padiff==0.2.0

    python scripts/record_padiff.py
    python scripts/record_padiff.py --out padiff.json

Exit status: 0 recorded; 2 could not run.
"""

import argparse
import importlib.util
import json
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from alignment.cli import exit_with_error, quieten_frameworks
from alignment.pair import AlignmentError
from factseg_paddle.cli import ArgumentParser
from factseg_paddle.files import atomic_write
from factseg_proof.faults.padiff_record import PADIFF
from scripts.padiff_run import record


def main(argv: Sequence[str] | None = None) -> int:
    """Record PaDiff's verdicts; see the module's docstring."""
    parser = ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=PADIFF, help="the file to write")
    args = parser.parse_args(argv)
    if importlib.util.find_spec("padiff") is None:
        print("PaDiff is not installed: pip install --no-deps padiff==0.2.0", file=sys.stderr)
        return 2
    quieten_frameworks()
    arguments = sys.argv[1:] if argv is None else argv
    try:
        content = record(
            " ".join(["python scripts/record_padiff.py", *arguments]),
            progress=lambda line: print(line, file=sys.stderr, flush=True),
        )
        with atomic_write(args.out) as path:
            path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    except (AlignmentError, OSError, ImportError) as error:
        return exit_with_error("PaDiff could not be run", error)
    verdicts = list(content["faults"].values())
    print(
        f"{len(verdicts)} faults, equivalent ones among them: {verdicts.count('missed')} missed, "
        f"{verdicts.count('flagged')} flagged, {verdicts.count('placed')} placed; "
        f"written to {args.out}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
