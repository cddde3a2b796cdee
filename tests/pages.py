"""The documentation's pages, their blocks of code, and how a command of theirs is run."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from tests.paths import REPO

README = "README.md"
OWN_PAIR = "docs/align-your-pair.md"
ADD_A_NETWORK = "docs/add-a-network.md"

_DOCS = sorted(str(path.relative_to(REPO)) for path in (REPO / "docs").glob("*.md"))

PAGES = [README, "CONTRIBUTING.md", *_DOCS]
"""All pages in English but those of the API, which are made of docstrings."""

TRANSLATIONS = {README: "README_cn.md"} | {
    f"docs/{path.name}": str(path.relative_to(REPO)) for path in (REPO / "docs/zh").glob("*.md")
}
"""{page: its translation}."""

FENCE = re.compile(r"^```(\w*)\n(.*?)^```\n", re.DOTALL | re.MULTILINE)
"""A block of code: its language and its text."""


def read(page: str) -> str:
    return (REPO / page).read_text(encoding="utf-8")


def blocks(language: str, text: str) -> list[str]:
    return [body for name, body in FENCE.findall(text) if name == language]


def commands(text: str) -> list[str]:
    """All lines of the bash blocks."""
    return [line for block in blocks("bash", text) for line in block.splitlines() if line]


def prose(text: str) -> str:
    """A page without its blocks of code."""
    return FENCE.sub("", text)


def links(text: str) -> list[str]:
    """The targets of all links and pictures."""
    return re.findall(r"\]\(([^)\s]+)\)", prose(text))


def run(
    command: str, folder: Path, status: tuple[int, ...] = (0,)
) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder, with this checkout's code, and check its exit status."""
    done = subprocess.run(
        [program(command), *shlex.split(command)[1:]],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(REPO), "OMP_WAIT_POLICY": "PASSIVE"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in status, f"{command}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    assert "Traceback" not in done.stderr
    return done


def program(command: str) -> str:
    """What the command's first word starts: this Python, or a console script beside it."""
    word = shlex.split(command)[0]
    if word == "python":
        return sys.executable
    script = Path(sys.executable).with_name(word)
    assert script.is_file(), f"{script} is missing: run `pip install --no-deps -e .`"
    return str(script)


def tree() -> set[str]:
    """What git sees in the checkout that is not committed."""
    listing = ["git", "status", "--porcelain", "--untracked-files=all"]
    done = subprocess.run(listing, cwd=REPO, capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines())
