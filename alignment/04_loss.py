"""Alignment step 04: compare every loss, and JointLoss's two forms.

Options are those of `python -m alignment`; the report lies in output/alignment/04_loss/.
"""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)

from alignment.__main__ import main  # noqa: E402 - the path comes first

if __name__ == "__main__":
    steps = ["--steps", "loss"]
    sys.exit(main([*steps, *sys.argv[1:]], default_out="output/alignment/04_loss"))
