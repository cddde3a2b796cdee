"""The transforms of a configuration: names, settings, and what they make of a sample's size."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from factseg_paddle.transforms import Normalization

Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Channels = Annotated[list[float], Field(min_length=3, max_length=3)]

_RESUME = "may_change_on_resume"
MAY_CHANGE = Field(json_schema_extra={_RESUME: True})
"""Marks a key that changes no training step: a run may go on with another value."""


class Section(BaseModel):
    """Keys with values of one type each; unknown keys, other types, NaN and infinity are errors."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, validate_default=True
    )

    def changed(self, *keys: str) -> list[str]:
        """Return those of the keys whose value is not the default."""
        fields = type(self).model_fields
        return [
            key
            for key in keys
            if getattr(self, key) != fields[key].get_default(call_default_factory=True)
        ]

    def check_owners(self, choice: str, owners: Mapping[str, Sequence[str]]) -> None:
        """Refuse a key that is set and would change nothing.

        Args:
            choice: the key that decides.
            owners: {key: the values of `choice` with which it counts}.

        Raises:
            ValueError: `choice` has another value, and the key is not at its default.
        """
        chosen = getattr(self, choice)
        for key in self.changed(*owners):
            if chosen not in owners[key]:
                known = " or ".join(owners[key])
                raise ValueError(f"{key} belongs to {choice} {known}, and {choice} is {chosen}")


def may_change(section: type[Section], key: str) -> bool:
    """Return whether a key is marked with MAY_CHANGE."""
    extra = section.model_fields[key].json_schema_extra
    return isinstance(extra, dict) and bool(extra.get(_RESUME))


class HorizontalFlip(Section):
    """Mirror left and right."""

    name: Literal["horizontal_flip"]
    probability: Share = 0.5


class VerticalFlip(Section):
    """Mirror top and bottom."""

    name: Literal["vertical_flip"]
    probability: Share = 0.5


class Rot90(Section):
    """Turn counter-clockwise by 0 to 3 quarter turns, each as likely."""

    name: Literal["rot90"]


class RandomScale(Section):
    """Resize by a factor drawn uniformly: the image bicubic, the labels nearest."""

    name: Literal["random_scale"]
    minimum: Annotated[float, Field(gt=0)] = 0.5
    maximum: Annotated[float, Field(gt=0)] = 2.0

    @model_validator(mode="after")
    def _ordered(self) -> RandomScale:
        if self.minimum > self.maximum:
            raise ValueError(f"minimum {self.minimum} is more than maximum {self.maximum}")
        return self


class RandomCrop(Section):
    """Cut a square at a random place; a smaller image is padded first."""

    name: Literal["random_crop"]
    size: Positive


class Pad(Section):
    """Pad right and bottom to a square: the image with 0, the labels with ignore_index."""

    name: Literal["pad"]
    size: Positive


class ColorJitter(Section):
    """Change brightness, contrast and saturation by factors in [1 - x, 1 + x], hue by turns."""

    name: Literal["color_jitter"]
    brightness: Share = 0.0
    contrast: Share = 0.0
    saturation: Share = 0.0
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0


class Normalize(Section):
    """Subtract a mean and divide by a standard deviation, both on the scale 0 to 255.

    `channel_order` is that of the network's input and of both lists: a recipe that reads images
    with OpenCV has "bgr". The transforms before it see RGB.
    """

    name: Literal["normalize"]
    mean: Channels = [123.675, 116.28, 103.53]
    std: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=3, max_length=3)] = [
        58.395,
        57.12,
        57.375,
    ]
    channel_order: Literal["rgb", "bgr"] = "rgb"

    @property
    def function(self) -> Normalization:
        """Return what it does, as training and the sliding window take it."""
        return Normalization(tuple(self.mean), tuple(self.std), self.channel_order)


Transform = Annotated[
    HorizontalFlip
    | VerticalFlip
    | Rot90
    | RandomScale
    | RandomCrop
    | Pad
    | ColorJitter
    | Normalize,
    Field(discriminator="name"),
]

TRANSFORMS: dict[str, type[Section]] = {
    get_args(kind.model_fields["name"].annotation)[0]: kind
    for kind in get_args(get_args(Transform)[0])
}


def sample_side(patch_size: int, transforms: Sequence[Transform]) -> int:
    """Return side of the square samples that transforms make of patches.

    Args:
        patch_size: side of the largest patches; images that are smaller give smaller ones.
        transforms: in their order.

    Raises:
        ValueError: samples would not be of one size, or larger than what they are padded to.
    """
    side, is_one_size = patch_size, True
    for transform in transforms:
        if isinstance(transform, RandomScale):
            side, is_one_size = math.ceil(side * transform.maximum), False
        elif isinstance(transform, RandomCrop):
            side, is_one_size = transform.size, True
        elif isinstance(transform, Pad):
            if side > transform.size:
                raise ValueError(
                    f"pad to {transform.size} gets samples of up to {side} pixels;"
                    " use random_crop before it"
                )
            side, is_one_size = transform.size, True
    if not is_one_size:
        raise ValueError("random_scale needs a random_crop or pad after it")
    return side
