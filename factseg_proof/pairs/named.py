"""Make the pair of one of our networks by its name."""

from __future__ import annotations

import importlib

from alignment.pair import AlignmentError, Pair
from alignment.pair_files import Request


def make_named_pair(request: Request) -> Pair:
    """Return the pair of one of our networks, whose name is `request.pair`.

    Raises:
        AlignmentError: no network has this name, or its input can't be made.
    """
    from factseg_proof.pairs import classic, factseg

    files = {"image": request.image, "mask": request.mask}
    try:
        _check_name(request)
        if request.pair.startswith("factseg"):
            crop = factseg.CROP if request.crop is None else request.crop
            backbone = request.pair.removeprefix("factseg").removeprefix("_") or "resnet50"
            return factseg.make_pair(request.seed, **files, crop_size=crop, backbone=backbone)
        crop = classic.CROP if request.crop is None else request.crop
        return classic.make_pair(request.pair, request.seed, **files, crop_size=crop)
    except (ValueError, OSError) as error:
        raise AlignmentError(str(error)) from error


def _check_name(request: Request) -> None:
    """Only the framework that runs may be imported; the names are the same in both."""
    package = "torch_ref" if request.torch_runs else "factseg_paddle"
    creation = importlib.import_module(f"{package}.models.creation")
    names = ["factseg", *creation.list_models()]
    if request.pair not in names:
        sentence = creation.explain_unknown("pair", request.pair, names)
        raise AlignmentError(f"{sentence} (one's own is FILE.py:FUNCTION)")
