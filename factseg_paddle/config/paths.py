"""A path in a configuration.

A relative path is taken from the repository, so that a configuration means the same wherever a
script is started, and from the current folder where the project is installed without one; `~` is
the home folder. Paths of a command line are the other way round: see `config.load_config`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, PlainSerializer

from factseg_paddle.folders import CHECKOUT, base_folder


def _from_base(path: str) -> str:
    if not path or "\0" in path:
        raise ValueError(f"{path!r} is no path")
    try:
        return str(base_folder() / Path(path).expanduser())
    except RuntimeError as error:
        raise ValueError(f"{path} names a home folder that does not exist") from error


def _to_base(path: str) -> str:
    """Undo `_from_base` inside a checkout, so that what is written holds for another one too."""
    inside = path.removeprefix(f"{CHECKOUT}/") if CHECKOUT else path
    return path if inside.startswith("~") else inside


PathText = Annotated[str, AfterValidator(_from_base), PlainSerializer(_to_base)]
