"""`train.log` of a run: appended line by line, cut back where a run is resumed."""

from __future__ import annotations

import os
import re
from pathlib import Path
from types import TracebackType
from typing import TextIO

from factseg_paddle.engine.logs.format import iteration_of
from factseg_paddle.files import atomic_write

_TABLE_ROW = re.compile(r"[|+]")


class TrainLog:
    """Appends to a file, and says the same on a stream.

    At the start the file is cut back to what an uninterrupted run would have written by then: from
    the first line of a later iteration on everything goes, as does a last line or table that a kill
    has cut in the middle. A run that starts at 0 keeps what was said before the first interval.

    A line is in the file when `write` returns, whatever happens to the process; a full disk is an
    error there. A stream that can't be written any more (the terminal was closed, a pipe ended)
    does not stop a run of two days: the file says so, and the rest goes to the file alone.

    Args:
        path: the file; its folder must exist.
        iteration: iterations that are done, 0 for a new run.
        stream: where to say the same, `sys.stdout` mostly; None for nowhere.

    Raises:
        OSError: the file can't be read or written.
    """

    def __init__(self, path: str | Path, iteration: int = 0, stream: TextIO | None = None) -> None:
        self.path = Path(path)
        self._stream = stream
        if self.path.exists():
            _cut_back(self.path, iteration)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self._file = os.open(self.path, flags, 0o666)

    def __enter__(self) -> TrainLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def write(self, text: str) -> None:
        """Append a line, or several that belong together, such as an evaluation's table.

        Raises:
            OSError: the disk is full, or the file can't be written for another reason.
        """
        text = text.rstrip("\n") + "\n"
        self._append(text)
        if self._stream is None:
            return
        encoding = self._stream.encoding or "utf-8"
        try:
            # a terminal that lacks a letter of a path is no reason to stop
            self._stream.write(text.encode(encoding, errors="backslashreplace").decode(encoding))
            self._stream.flush()
        except OSError as error:
            self._stream = None
            self._append(f"the output can't be written any more ({error}); this file goes on\n")

    def close(self) -> None:
        """Close the file; a second time does nothing."""
        if self._file >= 0:
            os.close(self._file)
        self._file = -1

    def _append(self, text: str) -> None:
        rest = memoryview(text.encode("utf-8", errors="backslashreplace"))
        while rest:
            rest = rest[os.write(self._file, rest) :]


def _cut_back(path: Path, iteration: int) -> None:
    content = path.read_bytes()
    kept = _until(content, iteration)
    if kept != content:
        with atomic_write(path) as temporary:
            temporary.write_bytes(kept)


def _until(content: bytes, iteration: int) -> bytes:
    """Return the beginning of a log up to an iteration, in whole lines and tables."""
    kept: list[bytes] = []
    table: int | None = None  # where an evaluation began whose table has not ended yet
    rules = 0
    *lines, _unfinished = content.split(b"\n")
    for line in lines:
        text = line.decode("utf-8", errors="replace")
        number = iteration_of(text)
        if number is not None and number > iteration:
            break
        if _TABLE_ROW.match(text):
            rules += text.startswith("+")
            table = None if rules == 3 else table
        else:
            table, rules = (len(kept) if "[EVAL] iter: " in text else None), 0
        kept.append(line + b"\n")
    return b"".join(kept[:table])
