"""What two configurations must have in common to be of one training run.

Whether a key matters stands with the key, in the schema: all do but those marked with MAY_CHANGE.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from factseg_paddle.config.messages import section_of
from factseg_paddle.config.schema import Config
from factseg_paddle.config.transforms import Section, may_change


def differences(then: Config, now: Config) -> list[str]:
    """Return a phrase for each key that decides what training does and differs, sorted by key."""
    before, after = deciding_values(then), deciding_values(now)
    return [
        f"{key} was {before.get(key, 'absent')!r}, is {after.get(key, 'absent')!r}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key, ...) != after.get(key, ...)
    ]


def deciding_values(config: Config) -> dict[str, Any]:
    """Return the plain values that decide what training does, by dotted key."""
    return dict(_deciding(config.model_dump(), Config, ""))


def _deciding(
    values: Mapping[str, Any], section: type[Section] | None, prefix: str
) -> Iterator[tuple[str, Any]]:
    """Yield the values inside a section, or inside a key that holds any names (section None)."""
    for key, value in values.items():
        if section and may_change(section, key):
            continue
        if isinstance(value, Mapping):
            yield from _deciding(value, section and section_of(section, key), f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
