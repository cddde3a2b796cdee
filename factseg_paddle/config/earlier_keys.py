"""Keys of earlier configurations, in which FactSeg was one name with keys of its own.

`model: {name: factseg, backbone: resnet18, output_stride: 16}`, or the same without the name, is
`model: {name: factseg_resnet18, options: {output_stride: 16}}` now. The configuration of an earlier
run holds all of these keys, for whatever network: at their defaults they say nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from factseg_paddle.aliases import full_name

FAMILY = "factseg"
_BACKBONE = "resnet50"
_OPTIONS = {"output_stride": 32, "frozen_stages": 0, "frozen_batch_norm": False}


def with_current_keys(values: Mapping[str, Any], below: Mapping[str, Any]) -> Mapping[str, Any]:
    """Write one file's or option's values with today's keys.

    Args:
        values: the whole configuration or a part of it.
        below: what files and options before it say, with today's keys.

    Raises:
        ValueError: a key of FactSeg's is set for another network, or contradicts the name.
    """
    section, section_below = values.get("model"), below.get("model", {})
    if not isinstance(section, Mapping) or not isinstance(section_below, Mapping):
        return values
    section = dict(section)
    name = _move_backbone(section, str(section_below.get("name", FAMILY)))
    _move_options(section, name, section_below.get("options", {}))
    return {**values, "model": section}


def _move_backbone(section: dict[str, Any], below: str) -> str:
    """Put the backbone into the name, in place; return the name that holds now."""
    name = section.get("name", FAMILY if _is_factseg(below) else below)
    if name == FAMILY and _is_factseg(below):  # it said nothing about the backbone
        section.pop("name", None)
        name = full_name(below)
    backbone = section.get("backbone")
    if not isinstance(name, str) or not isinstance(backbone, str):
        return str(name)
    del section["backbone"]
    if not _is_factseg(name):
        _check_default(name, "backbone", backbone, _BACKBONE)
        return name
    named = f"{FAMILY}_{backbone}"
    if section.get("name", FAMILY) not in (FAMILY, named):
        raise ValueError(f"model: backbone is {backbone}, but name is {name}; leave backbone out")
    section["name"] = named
    return named


def _move_options(section: dict[str, Any], name: str, below: Any) -> None:
    """Put FactSeg's other keys into its options, in place."""
    options_of_model = {}
    for key, default in _OPTIONS.items():
        if key not in section:
            continue
        value = section.pop(key)
        if not _is_factseg(name):
            _check_default(name, key, value, default)
        elif value != default or (isinstance(below, Mapping) and key in below):
            options_of_model[key] = value
    options = section.get("options", {})
    if options_of_model and isinstance(options, Mapping):
        section["options"] = {**options_of_model, **options}


def _is_factseg(name: str) -> bool:
    return name.partition("_")[0] == FAMILY


def _check_default(name: str, key: str, value: object, default: object) -> None:
    if value != default:
        raise ValueError(f"model: {key} belongs to FactSeg; {name} takes options")
