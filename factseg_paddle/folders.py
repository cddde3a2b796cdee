"""Where recipes lie and output goes: in a checkout, and where the project is installed."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_SHIPPED_RECIPES = _PACKAGE / "recipes"  # `configs/` in a wheel, see pyproject.toml

CHECKOUT: Path | None = None if _SHIPPED_RECIPES.is_dir() else _PACKAGE.parent
"""The repository where this code lies in one (also by `pip install -e`), None where it does not."""

RECIPES: Path = CHECKOUT / "configs" if CHECKOUT else _SHIPPED_RECIPES
"""The folder of the configurations that come with the project."""


def base_folder() -> Path:
    """Return what relative paths of a configuration and default output folders start at.

    That is the repository in a checkout, so that a configuration means the same wherever a script
    is started, and elsewhere the current folder.
    """
    return CHECKOUT or Path.cwd()


def advice(*, script: str, command: str) -> str:
    """Return which of two commands a message names: the checkout's script or the installed one."""
    return script if CHECKOUT else command
