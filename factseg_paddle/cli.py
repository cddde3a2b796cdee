"""Parsing, signals, threads and error messages that all command lines share."""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from types import FrameType
from typing import NoReturn

from factseg_paddle.cpu import usable_cores
from factseg_paddle.folders import advice

SYSTEM_LIBRARIES = {
    "libGL.so.1": "OpenCV needs the system library libGL: apt-get install libgl1",
    "libgthread-2.0.so.0": "OpenCV needs the system library GLib: apt-get install libglib2.0-0",
    "libgomp.so.1": "Paddle and torch need the system library libgomp: apt-get install libgomp1",
}


_EXTRAS = {"paddle": "paddle", "torch": "align", "reprod_log": "align"}
"""Which extra of pyproject.toml brings a module; the others come with seg."""


class Stopped(BaseException):
    """Raised where a signal asks the program to stop; `status` is the exit status to leave with.

    Not an Exception, as KeyboardInterrupt is not: error handlers must not catch it.
    """

    def __init__(self, number: int) -> None:
        self.status = 128 + number
        super().__init__(f"stopped by {signal.Signals(number).name}")


_STOPPING = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def stop_on_signals() -> Iterator[None]:
    """Turn SIGTERM and Ctrl-C into `Stopped`, so that half-written files are removed."""

    def stop(number: int, _frame: FrameType | None) -> NoReturn:
        raise Stopped(number)

    earlier = {number: signal.signal(number, stop) for number in _STOPPING}
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


@contextmanager
def importing_paddle() -> Iterator[None]:
    """Hold back SIGTERM, Ctrl-C and Paddle's advice on OMP_NUM_THREADS while Paddle is imported.

    The import puts a handler of its own in the place of the one for SIGTERM, which ends the
    process at once; and what a handler raises within an import can come out as an ImportError.
    The advice, two lines on stderr, is about OpenBLAS and ranks; see `configure_threads`.
    """
    earlier = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
    try:
        with redirect_stderr(sys.stderr and _WithoutAdvice()):  # None where it is closed
            yield
    finally:
        for number in _STOPPING:
            signal.signal(number, signal.getsignal(number))
        signal.pthread_sigmask(signal.SIG_SETMASK, earlier)


class _WithoutAdvice(io.TextIOBase):
    """stderr without lines that name OMP_NUM_THREADS; log handlers created meanwhile keep it."""

    def __init__(self) -> None:
        self._stream, self._skips_line_end = sys.stderr, False

    def write(self, text: str) -> int:
        skipped = "OMP_NUM_THREADS" in text or (self._skips_line_end and text == "\n")
        self._skips_line_end = skipped and text != "\n"
        return len(text) if skipped else self._stream.write(text)

    def flush(self) -> None:
        self._stream.flush()

    def fileno(self) -> int:
        return self._stream.fileno()

    def isatty(self) -> bool:
        return self._stream.isatty()


def configure_threads() -> None:
    """Let Paddle compute with every core of this process, divided among the ranks of a launch.

    Call it before Paddle is imported, which otherwise uses one thread. A value of OMP_NUM_THREADS
    that is set already stays. The same number of threads gives the same bits; another number rounds
    otherwise.
    """
    ranks = int(os.environ.get("PADDLE_TRAINERS_NUM") or 1)
    threads = max(1, usable_cores() // ranks)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # idle threads that spin slow the others


def explain(error: Exception | str) -> str:
    """Return what is wrong as one sentence; for a failed import, with the cure."""
    if not isinstance(error, ImportError):
        return str(error)
    for library, remedy in SYSTEM_LIBRARIES.items():
        if library in str(error):
            return remedy
    extra = _EXTRAS.get((error.name or "").partition(".")[0], "seg")
    cure = advice(
        script="pip install -r requirements.txt",
        command=f'pip install "factseg_paddle[{extra}]"',
    )
    return f"{error}; install what is missing: {cure}"


def help_text(text: str, command: str, prog: str) -> str:
    """Return a help text whose examples start the command as the reader did.

    Args:
        text: the help, which says `factseg NAME`.
        command: that `factseg NAME`.
        prog: what was started: the same, or a file of scripts/ such as "train.py".
    """
    if not prog.endswith(".py"):
        return text
    name = command.partition(" ")[2]
    # a program of paddle.distributed.launch is named by its file
    text = text.replace(f'"$(which factseg)" {name}', f"scripts/{prog}")
    return text.replace(command, f"python scripts/{prog}")


def exit_with_error(prog: str, error: Exception | str, status: int = 2) -> int:
    """Print the error on stderr and return the exit status, 2 for a task that could not run."""
    print(f"{prog}: {explain(error)}", file=sys.stderr)
    return status


class ArgumentParser(argparse.ArgumentParser):
    """argparse's parser, whose errors are one sentence instead of the usage; exit status 2."""

    @classmethod
    def of_docstring(cls, docstring: str, prog: str | None = None) -> ArgumentParser:
        """Return a parser whose help is a docstring: first line above the options, rest below."""
        description, _, epilog = docstring.partition("\n\n")
        return cls(
            prog=prog,
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    @classmethod
    def of_command(
        cls, description: str, examples: str, *, command: str, prog: str
    ) -> ArgumentParser:
        """Return the parser of a `factseg NAME`, whose examples start it as the reader did.

        Args:
            description: what stands above the options.
            examples: what stands below them; it says `factseg NAME`.
            command: that `factseg NAME`.
            prog: what was started: the same, or a file of scripts/ such as "train.py".
        """
        return cls(
            prog=prog,
            description=description,
            epilog=help_text(examples, command, prog),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    def add_opts(self, help: str) -> None:  # noqa: A002 - argparse's own word
        """Add `--opts KEY=VALUE …`; given twice, the second adds to the first."""
        self.add_argument(
            "--opts", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help=help
        )

    def error(self, message: str) -> NoReturn:
        """Print the sentence and leave."""
        self.exit(2, f"{self.prog}: {message}; see --help\n")
