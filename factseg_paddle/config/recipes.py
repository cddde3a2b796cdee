"""The configurations that come with the project, by name: "quickstart", "isaid/farseg_resnet50".

They are the files of `configs/`, which a wheel holds as `factseg_paddle/recipes/`.
"""

from __future__ import annotations

import difflib
from pathlib import Path

from factseg_paddle.folders import CHECKOUT, RECIPES

_SUFFIX = ".yml"
_IN_REPOSITORY = "configs/"


def list_recipes() -> list[str]:
    """Return the names of all recipes; a file that others stand on (`_NAME.yml`) is none."""
    files = RECIPES.rglob(f"[!_]*{_SUFFIX}")
    return sorted(file.relative_to(RECIPES).with_suffix("").as_posix() for file in files)


def find_config(name: str | Path) -> Path:
    """Return the file that a name means: itself where it lies there, else the recipe's.

    Raises:
        ValueError: the name has no suffix and there is neither such a file nor such a recipe.
    """
    path = Path(name)
    if path.is_file() or path.suffix:
        return path
    known = list_recipes()
    if path.as_posix() in known:
        return RECIPES / f"{path.as_posix()}{_SUFFIX}"
    if path.exists():
        return path
    near = difflib.get_close_matches(path.as_posix(), known, n=2)
    cure = f"did you mean {' or '.join(near)}?" if near else f"recipes are {', '.join(known)}"
    raise ValueError(f"{name} is neither a file nor a recipe; {cure}")


def shipped_file(config: Path, path: str) -> str:
    """Return where a path of a configuration lies that names a file beside the recipes.

    Recipes call such files `configs/…`, as the repository does; in a wheel they lie elsewhere.

    Args:
        config: the file that has the path; only our own recipes are meant.
        path: the value of a key, a path.
    """
    ours = CHECKOUT is None and config.resolve().is_relative_to(RECIPES)
    if ours and path.startswith(_IN_REPOSITORY):
        return str(RECIPES / path.removeprefix(_IN_REPOSITORY))
    return path
