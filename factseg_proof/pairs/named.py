"""Make the pair of one of our networks by its name."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial

from alignment.pair import AlignmentError, Pair
from alignment.pair_files import Request
from factseg_paddle.aliases import ALIASES, full_name
from factseg_proof.pairs import classic, factseg

MAKERS: dict[str, Callable[..., Pair]] = {
    f"factseg_{backbone}": partial(factseg.make_pair, backbone=backbone)
    for backbone in ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
}
"""The networks whose pair is more than network, loss and recipe; `classic` makes the others."""


def make_named_pair(request: Request) -> Pair:
    """Return the pair of one of our networks, whose name or alias is `request.pair`.

    Raises:
        AlignmentError: no network has this name, or its input can't be made.
    """
    name = full_name(request.pair)
    _check_name(name, request)
    make = MAKERS.get(name) or partial(classic.make_pair, name)
    options_given = {"image": request.image, "mask": request.mask, "crop_size": request.crop}
    options = {key: value for key, value in options_given.items() if value is not None}
    try:
        return make(request.seed, **options)
    except (ValueError, OSError) as error:
        raise AlignmentError(str(error)) from error


def _check_name(name: str, request: Request) -> None:
    """Refuse a name that is not known; the names are the same in both packages.

    Only the framework that runs may be imported.
    """
    package = "torch_ref" if request.torch_runs else "factseg_paddle"
    creation = importlib.import_module(f"{package}.models.creation")
    if name not in creation.MODELS:
        names = [*ALIASES, *creation.list_models()]
        sentence = creation.explain_unknown("pair", request.pair, names)
        raise AlignmentError(f"{sentence} (one's own is FILE.py:FUNCTION)")
