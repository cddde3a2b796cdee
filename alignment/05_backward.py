"""Alignment step 05: compare the gradient of every parameter and of the input.

Options are those of `python -m alignment`; the report lies in output/alignment/05_backward/.
"""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)

from alignment.__main__ import main  # noqa: E402 - the path comes first

if __name__ == "__main__":
    steps = ["--steps", "backward"]
    sys.exit(main([*steps, *sys.argv[1:]], default_out="output/alignment/05_backward"))
