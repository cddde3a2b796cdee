"""Alignment step 02: compare decoding, flips, rotation, padding and normalising.

Options are those of `python -m alignment`; the report lies in output/alignment/02_preprocess/.
"""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)

from alignment.__main__ import main  # noqa: E402 - the path comes first

if __name__ == "__main__":
    steps = ["--steps", "preprocess"]
    sys.exit(main([*steps, *sys.argv[1:]], default_out="output/alignment/02_preprocess"))
