"""How long-running work tells what it does: lines for people, and a count towards a total."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """What evaluation, prediction and the preparation of data report to.

    `factseg_paddle.commands.progress_bar.ProgressBar` shows it on a terminal.
    """

    def log(self, text: str) -> None:
        """Take a line for people."""

    def start(self, total: int, label: str = "") -> None:
        """Begin to count to `total`, under a new label; an earlier count is over."""

    def advance(self, count: int = 1) -> None:
        """Count what is done."""


class NoProgress:
    """Tells nobody."""

    def log(self, text: str) -> None:
        """Drop the line."""

    def start(self, total: int, label: str = "") -> None:
        """Count nothing."""

    def advance(self, count: int = 1) -> None:
        """Count nothing."""


NO_PROGRESS = NoProgress()
