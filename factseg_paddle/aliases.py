"""Short names of networks, as configurations and command lines take them."""

from __future__ import annotations

ALIASES = {"factseg": "factseg_resnet50"}


def full_name(name: str) -> str:
    """Return the name that `list_models` knows; a name that is no alias stays as it is."""
    return ALIASES.get(name, name)


def short_name(name: str) -> str:
    """Return the alias of a network that has one, as reports call it; else the name itself."""
    return next((alias for alias, full in ALIASES.items() if full == name), name)
