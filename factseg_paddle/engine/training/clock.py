"""How long iterations take, and how long the rest will."""

from __future__ import annotations

import time


class Clock:
    """Averages since the last log line.

    Args:
        samples: of one iteration, over all processes.
    """

    def __init__(self, samples: int) -> None:
        self._samples = samples
        self.restart()

    def restart(self) -> None:
        """Begin to average anew; the next iteration starts now."""
        self._reading, self._whole, self._count = 0.0, 0.0, 0
        self._started = time.perf_counter()

    def batch_is_read(self) -> None:
        """Note that the iteration's batch has arrived."""
        self._reading += time.perf_counter() - self._started

    def batch_is_done(self) -> None:
        """Note that the iteration is over."""
        self._whole += time.perf_counter() - self._started
        self._count += 1

    def next_batch(self) -> None:
        """Note that an iteration starts; what was done since the last one ended is not counted."""
        self._started = time.perf_counter()

    @property
    def batch_cost(self) -> float:
        """Return seconds of an iteration."""
        return self._whole / self._count

    @property
    def reader_cost(self) -> float:
        """Return seconds of an iteration that were spent waiting for its batch."""
        return self._reading / self._count

    @property
    def samples_per_second(self) -> float:
        """Return the samples per second over all processes."""
        return self._samples / self.batch_cost
