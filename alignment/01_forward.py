"""Alignment step 01: compare every layer's output and the model's outputs.

Options are those of `python -m alignment`; the report lies in output/alignment/01_forward/.
"""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)

from alignment.__main__ import main  # noqa: E402 - the path comes first

if __name__ == "__main__":
    steps = ["--steps", "weights", "forward"]
    sys.exit(main([*steps, *sys.argv[1:]], default_out="output/alignment/01_forward"))
