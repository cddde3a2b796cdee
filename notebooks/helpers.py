"""What `notebooks/factseg_aistudio.ipynb` does besides showing: commands, packages, pictures.

Only the standard library and what comes with a notebook's kernel is imported here, so that this
works before anything is installed.
"""

from __future__ import annotations

import io
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pexpect
    import PIL.Image

TESTED_PADDLE = "3.3.1"
PADDLE_PACKAGES = ("paddlepaddle", "paddlepaddle-gpu")
PADDLE_PAGE = "https://www.paddlepaddle.org.cn/install/quick"

_ASK_PADDLE = (
    "import json, paddle; cuda = paddle.is_compiled_with_cuda(); "
    "print(json.dumps([paddle.__version__, paddle.device.cuda.device_count() if cuda else 0]))"
)
_TERMINAL = (24, 100)  # rows and columns that a command believes to have
_TALLEST, _WIDEST, _GAP = 1200, 1600, 16  # pixels of shown pictures


class NotebookError(RuntimeError):
    """The notebook can't go on; one sentence."""


def run(*command: object) -> None:
    """Run a command and show what it says as it says it; "python" is the kernel's own.

    It has a terminal, as with `!`: progress bars are drawn, and nothing is held back. Unlike `!`, a
    command that fails stops the notebook, and "interrupt the kernel" is a Ctrl-C that is waited
    for: training writes a checkpoint then.

    Raises:
        NotebookError: the command does not exist, or its exit status is not 0.
        KeyboardInterrupt: it was interrupted.
    """
    import pexpect  # comes with IPython

    words = [str(word) for word in command]
    print("$", shlex.join(words), flush=True)
    program = sys.executable if words[0] == "python" else words[0]
    environment = {"OMP_WAIT_POLICY": "PASSIVE"} | os.environ
    environment |= {"TQDM_MININTERVAL": "1"}  # a saved notebook keeps every state of a bar
    try:
        child = pexpect.spawn(
            program,
            words[1:],
            timeout=None,
            echo=False,
            encoding="utf-8",
            codec_errors="replace",
            dimensions=_TERMINAL,
            env=environment,
        )
    except pexpect.ExceptionPexpect as error:
        raise NotebookError(f"{words[0]} is not there: {error.value}") from error
    interrupted = _show_output(child)
    child.wait()
    child.close()
    if interrupted:
        raise KeyboardInterrupt
    if child.exitstatus != 0:
        signal = child.signalstatus
        end = f"status {child.exitstatus}" if signal is None else f"signal {signal}"
        name = shlex.join(words[: 3 if words[1:2] == ["-m"] else 2])
        raise NotebookError(f"{name} left with {end}: its messages are above")


def missing_packages(requirements: str | Path) -> list[str]:
    """Return the lines of a requirements file whose package is absent or older than it says."""
    from packaging.requirements import Requirement
    from packaging.version import Version

    missing = []
    for line in Path(requirements).read_text(encoding="utf-8").splitlines():
        text = line.partition("#")[0].strip()
        if not text:
            continue
        wanted = Requirement(text)
        if wanted.marker and not wanted.marker.evaluate():
            continue
        least = max((Version(one.version) for one in wanted.specifier), default=Version("0"))
        try:
            installed = Version(version(wanted.name))
        except PackageNotFoundError:
            installed = None
        if installed is None or installed < least:
            missing.append(text.partition(";")[0].strip())
    return missing


@dataclass(frozen=True)
class Paddle:
    """The Paddle that is installed.

    Attributes:
        package: "paddlepaddle" or "paddlepaddle-gpu"; "paddle" where it was installed otherwise.
        version: such as "3.3.1".
        gpus: how many it sees.
    """

    package: str
    version: str
    gpus: int

    def __str__(self) -> str:
        devices = f"{self.gpus} GPU" if self.gpus else "CPU"
        tested = "" if self.version == TESTED_PADDLE else f" (tested with {TESTED_PADDLE})"
        return f"{self.package} {self.version}, {devices}{tested}"


def find_paddle() -> Paddle:
    """Look at the installed Paddle, in a process of its own: this one would keep GPU memory.

    Raises:
        NotebookError: there is none, it is older than version 3, or the CPU package was installed
            over the GPU package.
    """
    packages = [name for name in PADDLE_PACKAGES if _installed(name)]
    if len(packages) == 2:
        raise NotebookError(
            "paddlepaddle is installed over paddlepaddle-gpu, which may then train on the CPU "
            "without saying so; pip uninstall both, then install paddlepaddle-gpu as "
            f"{PADDLE_PAGE} says"
        )
    asked = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _ASK_PADDLE],
        capture_output=True,
        text=True,
        check=False,
    )
    if asked.returncode:
        reason = (asked.stderr.strip().splitlines() or [f"status {asked.returncode}"])[-1]
        raise NotebookError(
            f"Paddle can't be imported ({reason}); in AI Studio choose an environment with "
            f"PaddlePaddle 3, elsewhere install it as {PADDLE_PAGE} says"
        )
    number, gpus = json.loads(asked.stdout.splitlines()[-1])
    if int(number.partition(".")[0]) < 3:
        raise NotebookError(
            f"Paddle {number} is too old; in AI Studio choose an environment with PaddlePaddle 3"
        )
    return Paddle((*packages, "paddle")[0], number, gpus)


def show(*pictures: str | Path) -> None:
    """Show picture files side by side, large ones smaller than they are.

    Raises:
        OSError: a file can't be read.
    """
    from IPython.display import Image, display

    png = io.BytesIO()
    side_by_side(pictures).save(png, "PNG")
    display(Image(png.getvalue()))


def side_by_side(pictures: Sequence[str | Path]) -> PIL.Image.Image:
    """Make one picture of several files, all as wide as the narrowest, at most 1600 pixels."""
    from PIL import Image

    opened = [Image.open(picture).convert("RGB") for picture in pictures]
    room = _WIDEST - _GAP * (len(opened) - 1)
    width = min(room // len(opened), *(one.width for one in opened))
    tallest = max(one.height / one.width for one in opened)
    width = max(1, min(width, int(_TALLEST / tallest)))
    scaled = [
        one.resize((width, max(1, round(one.height * width / one.width))), Image.Resampling.LANCZOS)
        for one in opened
    ]
    full = (width + _GAP) * len(scaled) - _GAP, max(one.height for one in scaled)
    sheet = Image.new("RGB", full, "white")
    for place, one in enumerate(scaled):
        sheet.paste(one, (place * (width + _GAP), 0))
    return sheet


def _show_output(child: pexpect.spawn) -> bool:
    """Print a pexpect child's output until it ends; return whether it was interrupted."""
    import pexpect

    held, interrupted = "", False
    while True:
        try:
            text = held + child.read_nonblocking(4096, timeout=None)
            # a terminal ends lines by \r\n; a lone \r is a bar that is drawn anew
            held = "\r" if text.endswith("\r") else ""
            print(text.removesuffix("\r").replace("\r\n", "\n"), end="", flush=True)
        except pexpect.EOF:
            return interrupted
        except KeyboardInterrupt:
            interrupted = True
            child.sendintr()


def _installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True
