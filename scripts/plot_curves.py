#!/usr/bin/env python
"""Draw training logs: `factseg curves` from a checkout; --help says more."""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from factseg_paddle.commands.curves import main as command


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command under the script's name; give its exit status."""
    return command(argv, prog="plot_curves.py")


if __name__ == "__main__":
    sys.exit(main())
