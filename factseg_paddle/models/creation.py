"""Networks by name.

A network becomes known by lying here: each file of this package may hold `NETWORKS`, its functions
of (num_classes, *, options) that build one variant each, and the function's name is the network's.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from difflib import get_close_matches
from numbers import Integral
from pathlib import Path
from typing import Any

from paddle import nn

Builder = Callable[..., nn.Layer]

_MOST = 8  # suggestions for a name that is not known


def create_model(name: str, num_classes: int = 21, **options: Any) -> nn.Layer:
    """Build a network with its own initial weights.

    Args:
        name: one of `list_models()`.
        num_classes: classes including the background.
        **options: of that network; see the function of that name in its family's file.

    Returns:
        A network that maps images [N, 3, H, W] to an output with `logits` [N, num_classes, H, W]
        and `aux_logits`.

    Raises:
        ValueError: the name, an option or an option's value is not known, or num_classes is no
            integer from 2 on.
    """
    builders = _builders()
    if name not in builders:
        raise ValueError(explain_unknown("network", name, sorted(builders)))
    if not isinstance(num_classes, Integral):
        raise ValueError(f"num_classes {num_classes!r} is no integer; give the number of classes")
    if num_classes < 2:
        raise ValueError(
            f"num_classes {num_classes} is too few: background and one foreground class make 2"
        )
    known = list(inspect.signature(builders[name]).parameters)[1:]
    for option in options:
        if option not in known:
            raise ValueError(explain_unknown(f"option of {name}", option, known))
    network = builders[name](num_classes, **options)
    network.num_classes = num_classes
    return network


def list_models() -> list[str]:
    """The names that `create_model` knows, sorted."""
    return sorted(_builders())


def _builders() -> dict[str, Builder]:
    package, folder = __name__.rpartition(".")[0], str(Path(__file__).parent)
    modules = (
        importlib.import_module(f"{package}.{module.name}")
        for module in pkgutil.iter_modules([folder])
    )
    return {
        builder.__name__: builder
        for module in modules
        for builder in getattr(module, "NETWORKS", ())
    }


def explain_unknown(what: str, given: str, known: list[str]) -> str:
    """A sentence on a name that is not known: names that contain it or are like it, or all known.

    Capitals do not count, and names that begin with it come first.
    """
    part = given.lower()
    containing = sorted(
        (name for name in known if part and part in name.lower()),
        key=lambda name: not name.lower().startswith(part),
    )
    close = containing[:_MOST] or get_close_matches(part, known, n=3, cutoff=0.5)
    more = f" or {len(containing) - _MOST} more" if len(containing) > _MOST else ""
    choice = f"known are {', '.join(known)}"
    if close:
        choice = f"did you mean {' or '.join(close)}{more}?"
    return f"{what} {given!r} is not known; {choice if known else 'it has none'}"
