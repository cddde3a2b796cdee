"""What the command lines of the harness share."""

from __future__ import annotations

import logging
import os
import warnings

from factseg_paddle import cli


def exit_with_error(what: str, error: Exception | str) -> int:
    """Say `what` could not be done and why, a framework's error of many lines in one; gives 2."""
    return cli.exit_with_error(what, " ".join(cli.explain(error).split()))


def quieten_frameworks() -> None:
    """Keep the frameworks' warnings off stderr."""
    os.environ.setdefault("GLOG_minloglevel", "3")
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # "building the font cache"
    warnings.filterwarnings("ignore", module=r"(paddle|torch|paddleseg)\b.*")
