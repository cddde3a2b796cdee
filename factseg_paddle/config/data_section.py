"""The section `data` of a configuration: the images, their classes and their transforms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from factseg_paddle.config.paths import PathText
from factseg_paddle.config.transforms import (
    MAY_CHANGE,
    Count,
    Normalize,
    Positive,
    Section,
    Transform,
)
from factseg_paddle.transforms import Normalization

Colour = Annotated[list[Annotated[int, Field(ge=0, le=255)]], Field(min_length=3, max_length=3)]


class Split(Section):
    """Where the images and masks of one part of a folder dataset lie.

    Attributes:
        image_dir: folder of the images, inside `dataset_root`.
        mask_dir: folder of the masks, inside `dataset_root`, or null where there are none.
        names: file listing the names to use, one a line, without suffix; null for all. Like
            other paths it is taken from the repository, since a split need not lie with the data.
    """

    image_dir: str
    mask_dir: str | None = None
    names: PathText | None = None


class Sample(Section):
    """Painted scenes with iSAID's classes, see `factseg_paddle.data.synthetic.scenes`.

    Attributes:
        images: how many, of which 1 in 4 is for validation.
        size: side in pixels.
        seed: of the scenes.
    """

    images: Annotated[int, Field(ge=2)] = 8
    size: Annotated[int, Field(ge=64, le=8192)] = 512
    seed: Count = 0


VocList = Literal["train", "val", "trainval", "trainaug"]


class Voc(Section):
    """Where PASCAL VOC 2012 and SBD lie, and which lists are meant; see `data.layouts.voc`.

    Attributes:
        voc_dir: folder of JPEGImages, SegmentationClass and ImageSets, inside `dataset_root`.
        sbd_dir: folder of img, cls and SBD's lists, inside `dataset_root`; trainaug needs it.
        train: what is trained on.
        val: what is evaluated.
    """

    voc_dir: Annotated[str, MAY_CHANGE] = "VOCdevkit/VOC2012"
    sbd_dir: Annotated[str, MAY_CHANGE] = "benchmark_RELEASE/dataset"
    train: VocList = "trainaug"
    val: Annotated[VocList, MAY_CHANGE] = "val"


_BUILT_IN = {"isaid": ("iSAID", 16), "voc": ("VOC", 21)}
"""Name and number of classes of the kinds that bring their own."""


class Data(Section):
    """The images, their classes, and what training does to them.

    Attributes:
        kind: "isaid" for the original's layout, raw or prepared; "voc" for PASCAL VOC 2012 and SBD;
            "folder" for one's own data.
        dataset_root: folder of the data.
        sample: scenes to paint into `dataset_root` where nothing lies yet; null for none.
        voc: of kind voc.
        train: of a folder dataset.
        val: of a folder dataset.
        image_suffix: of a folder dataset.
        mask_suffix: what replaces the image's suffix in the mask's name, of a folder dataset.
        palette: colour of each class, of a folder dataset; null where masks hold indices.
        class_names: of a folder dataset; null numbers them.
        num_classes: classes including the background, class 0.
        ignore_index: label of pixels that count for nothing.
        patch_size: side of the training windows, in pixels.
        stride: distance of neighbouring training windows.
        cache_mb: memory for decoded images per process where the data are not prepared.
        transforms: in this order; one of them is normalize, which evaluation uses too.
    """

    kind: Literal["isaid", "voc", "folder"] = "isaid"
    dataset_root: Annotated[PathText, MAY_CHANGE] = "data/isaid"
    sample: Sample | None = None
    voc: Voc | None = None
    train: Split | None = None
    val: Annotated[Split | None, MAY_CHANGE] = None
    image_suffix: Annotated[str, Field(min_length=1)] = ".png"
    mask_suffix: str = ".png"
    palette: Annotated[list[Colour], Field(min_length=2, max_length=255)] | None = None
    class_names: Annotated[list[str] | None, MAY_CHANGE] = None
    num_classes: Annotated[int, Field(ge=2, le=255)] = 16
    ignore_index: Annotated[int, Field(ge=0, le=255)] = 255
    patch_size: Positive = 896
    stride: Positive = 512
    cache_mb: Annotated[Count, MAY_CHANGE] = 512
    transforms: list[Transform] = Field(default_factory=lambda: [Normalize(name="normalize")])

    @model_validator(mode="before")
    @classmethod
    def _voc_has_its_section(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and values.get("kind") == "voc" and not values.get("voc"):
            return {**values, "voc": {}}
        return values

    @model_validator(mode="after")
    def _kind_fits(self) -> Data:
        folder = ("train", "val", "image_suffix", "mask_suffix", "palette", "class_names")
        changed = self.changed(*folder)
        if self.kind in _BUILT_IN:
            name, classes = _BUILT_IN[self.kind]
            if changed:
                raise ValueError(
                    f"kind {self.kind} has {', '.join(changed)} built in; use kind folder"
                )
            if self.num_classes != classes:
                raise ValueError(
                    f"num_classes is {self.num_classes}, but {name} has {classes} classes"
                )
            if self.ignore_index != 255:
                raise ValueError(f"ignore_index is {self.ignore_index}, but {name}'s masks use 255")
        if self.kind != "voc" and self.voc:
            raise ValueError(f"voc belongs to kind voc, and kind is {self.kind}")
        if self.kind == "folder" and self.val is None and self.train is None:
            raise ValueError("kind folder needs train or val, each with an image_dir")
        if self.kind != "isaid" and self.sample:
            raise ValueError("a sample is painted as iSAID; use kind isaid")
        return self

    @model_validator(mode="after")
    def _classes_fit(self) -> Data:
        for key in ("palette", "class_names"):
            value = getattr(self, key)
            if value is not None and len(value) != self.num_classes:
                raise ValueError(f"{key} has {len(value)} entries for {self.num_classes} classes")
        colours = self.palette or []
        for index, colour in enumerate(colours):
            if colour in colours[:index]:
                first = colours.index(colour)
                raise ValueError(f"palette has {colour} for class {first} and for class {index}")
        if self.ignore_index < self.num_classes:
            raise ValueError(f"ignore_index {self.ignore_index} is a class")
        return self

    @model_validator(mode="after")
    def _patches_fit(self) -> Data:
        if self.stride > self.patch_size:
            raise ValueError(f"stride {self.stride} leaves gaps between patches")
        names = [transform.name for transform in self.transforms]
        if names.count("normalize") != 1:
            raise ValueError("transforms must have normalize once")
        if "color_jitter" in names[names.index("normalize") :]:
            raise ValueError("color_jitter changes colours on the scale 0 to 255; normalize later")
        return self

    @property
    def normalization(self) -> Normalization:
        """Return mean, standard deviation and order of channels, in training and evaluation."""
        return next(t for t in self.transforms if isinstance(t, Normalize)).function
