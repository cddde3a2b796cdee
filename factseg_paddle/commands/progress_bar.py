"""Progress on a terminal: a bar on stderr, and lines that do not run into it."""

from __future__ import annotations

import sys
from typing import TextIO

from tqdm import tqdm


class ProgressBar:
    """A `factseg_paddle.progress.Progress` that is shown; the bar appears with the first count.

    Args:
        unit: what is counted.
        log_to: where the lines go; None for stderr.
    """

    def __init__(self, unit: str, log_to: TextIO | None = None) -> None:
        self._unit, self._log_to = unit, log_to
        self._bar: tqdm | None = None

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def log(self, text: str) -> None:
        """Write a line where the lines go."""
        self.write(text, self._log_to or sys.stderr)

    def start(self, total: int, label: str = "") -> None:
        """Begin to count to `total`; the same line shows every count."""
        if self._bar is None:
            self._bar = tqdm(total=total, desc=label, unit=self._unit, file=sys.stderr)
        else:
            self._bar.set_description(label, refresh=False)
            self._bar.reset(total)

    def advance(self, count: int = 1) -> None:
        """Count what is done."""
        if self._bar is not None:
            self._bar.update(count)

    def write(self, text: str, stream: TextIO) -> None:
        """Write a line to a stream at once, beside the bar where one is shown."""
        if self._bar is None:
            print(text, file=stream, flush=True)
            return
        with self._bar.external_write_mode(file=stream):
            print(text, file=stream, flush=True)
