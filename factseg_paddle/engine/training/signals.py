"""Being told to stop: the current iteration is finished and a checkpoint written first."""

from __future__ import annotations

import signal
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
    """Remembers the first SIGTERM or Ctrl-C while it is active; a second Ctrl-C ends at once.

    A second SIGTERM does not: Paddle's launcher sends three within a second.

    Attributes:
        received: the signal's number, 0 for none.
    """

    def __init__(self) -> None:
        self.received = 0
        self._earlier: dict[int, signal.Handlers] = {}

    def __enter__(self) -> StopSignals:
        for number in SIGNALS:
            self._earlier[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._earlier.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self.received and number == signal.SIGINT:
            raise SystemExit(128 + number)
        self.received = self.received or number
