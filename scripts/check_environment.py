"""Say in one sentence what this machine lacks; used by the Makefile before and after installing.

Standard library only, and syntax that old interpreters read, so that they can be told so.
"""

import importlib
import sys

ADVICE = {
    "libGL.so.1": "OpenCV needs the system library libGL: apt-get install libgl1",
    "libgthread-2.0.so.0": "OpenCV needs the system library GLib: apt-get install libglib2.0-0",
    "libgomp.so.1": "Paddle and torch need the system library libgomp: apt-get install libgomp1",
}
PACKAGES = ("cv2", "paddle", "torch", "reprod_log", "skimage", "sklearn")


def problem_before_installing():
    """What keeps the environment from being made; an empty string where nothing does."""
    if not (3, 10) <= sys.version_info[:2] <= (3, 12):
        return "Python %d.%d is not supported: use 3.10 to 3.12 (make PYTHON=python3.11 ...)" % (
            sys.version_info[:2]
        )
    for module in ("venv", "ensurepip"):
        try:
            importlib.import_module(module)
        except ImportError:
            return "Python's venv is not complete (%s is missing): apt-get install python3-venv" % (
                module
            )
    return ""


def problem_after_installing(packages=PACKAGES):
    """The first package that can't be imported, and why; an empty string where all can be."""
    for name in packages:
        try:
            importlib.import_module(name)
        except ImportError as error:
            return explain(name, error)
    return ""


def explain(name, error):
    """A sentence on a failed import, with the cure where the cause is known."""
    for library, advice in ADVICE.items():
        if library in str(error):
            return advice
    return "%s can't be imported (%s): pip install -r requirements.txt" % (name, error)


def main(argv=None):
    """Check before installing, or with --installed what was installed; 0 good, 2 not."""
    installed = "--installed" in (sys.argv[1:] if argv is None else argv)
    problem = problem_after_installing() if installed else problem_before_installing()
    if problem:
        sys.stderr.write(problem + "\n")
    return 2 if problem else 0


if __name__ == "__main__":
    sys.exit(main())
