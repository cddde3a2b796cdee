"""A `Progress` that notes what it is told."""

from __future__ import annotations


class ProgressNotes:
    """Its lines, and of each count [label, total, done]."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.counts: list[list] = []

    def log(self, text: str) -> None:
        self.lines.append(text)

    def start(self, total: int, label: str = "") -> None:
        self.counts.append([label, total, 0])

    def advance(self, count: int = 1) -> None:
        self.counts[-1][2] += count
