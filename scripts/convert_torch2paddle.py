#!/usr/bin/env python
"""Convert torch checkpoints of any network here, and of image classifiers, to Paddle, bit by bit.

Every tensor is accounted for by name, or nothing is written. What Paddle's file can't hold goes to
OUTPUT.manifest.json. Loading runs no code from the file. The state of SGD, Adam or AdamW in `opt`
or `optimizer` goes along into a .pdopt beside the output.

    python scripts/convert_torch2paddle.py   # every .pth file under weights/
    python scripts/convert_torch2paddle.py --input weights/resnet50-19c8e357.pth
    python scripts/convert_torch2paddle.py --input a.pth --output b.pdparams --arch unet_bilinear
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from factseg_convert.cli import run_converter

WEIGHTS = Path(__file__).resolve().parents[1] / "weights"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script with `argv`; the exit status is 0 or 2."""
    return run_converter("paddle", weights=WEIGHTS, description=__doc__, argv=argv)


if __name__ == "__main__":
    sys.exit(main())
