"""Alignment step 06: ten training steps, each from the state of torch.

Options are those of `python -m alignment`; the report lies in output/alignment/06_train/.
"""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)

from alignment.__main__ import main  # noqa: E402 - the path comes first

if __name__ == "__main__":
    steps = ["--steps", "train"]
    sys.exit(main([*steps, *sys.argv[1:]], default_out="output/alignment/06_train"))
