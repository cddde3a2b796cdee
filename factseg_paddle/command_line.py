"""What the command lines of all scripts share."""

from __future__ import annotations

import argparse
from typing import NoReturn


class ArgumentParser(argparse.ArgumentParser):
    """argparse's, with an error of one sentence in the place of the usage, and exit status 2."""

    def error(self, message: str) -> NoReturn:
        """Print the sentence and leave."""
        self.exit(2, f"{self.prog}: {message}; see --help\n")
