"""Say in one sentence what this machine lacks; used by the Makefile before and after installing.

What runs before installing needs the standard library only, and syntax that Python 3.6 reads, so
that an old interpreter can be told that it is old.
"""

import importlib
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

PACKAGES = ("cv2", "paddle", "torch", "reprod_log", "skimage", "sklearn")


def problem_before_installing() -> str:
    """Return what keeps the environment from being made; an empty string where nothing does."""
    major, minor = sys.version_info[:2]
    if not (3, 10) <= (major, minor) <= (3, 12):
        return (
            f"Python {major}.{minor} is not supported: use 3.10 to 3.12 (make PYTHON=python3.11 …)"
        )
    for module in ("venv", "ensurepip"):
        try:
            importlib.import_module(module)
        except ImportError:
            return (
                f"Python's venv is not complete ({module} is missing): apt-get install python3-venv"
            )
    return ""


def problem_after_installing() -> str:
    """Return the first package that can't be imported, and the cure; empty where all can be."""
    from factseg_paddle.cli import explain

    for name in PACKAGES:
        try:
            importlib.import_module(name)
        except ImportError as error:
            return explain(error)
    return ""


def matrix_kernels() -> str:
    """Describe in a line the matrix kernels that Paddle takes on this processor."""
    from factseg_paddle.cpu import describe_kernels, read_description

    return describe_kernels(read_description(), sys.platform, os.environ)


def main(argv: "list[str] | None" = None) -> int:
    """Check before installing, or with --installed what was installed; 0 good, 2 not."""
    installed = "--installed" in (sys.argv[1:] if argv is None else argv)
    problem = problem_after_installing() if installed else problem_before_installing()
    if problem:
        print(problem, file=sys.stderr)
    elif installed:
        print(matrix_kernels())
    return 2 if problem else 0


if __name__ == "__main__":
    sys.exit(main())
