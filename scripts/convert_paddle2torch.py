#!/usr/bin/env python
"""Convert Paddle checkpoints of any network here, and of image classifiers, to torch, bit by bit.

Every tensor is accounted for by name, or nothing is written. What torch's file can't hold goes to
OUTPUT.manifest.json. Loading runs no code from the file. A .pdopt of the same name beside the
weights, or optimizer.pdopt in a checkpoint folder, goes along as `opt`.

    python scripts/convert_paddle2torch.py   # every .pdparams file under weights/
    python scripts/convert_paddle2torch.py --input weights/resnet50.pdparams
    python scripts/convert_paddle2torch.py --input a.pdparams --output b.pth --arch unet_bilinear
    python scripts/convert_paddle2torch.py --input output/run/iter_1000   # a checkpoint folder
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
    return run_converter("torch", weights=WEIGHTS, description=__doc__, argv=argv)


if __name__ == "__main__":
    sys.exit(main())
