"""The keys of a configuration, their types and their defaults, which are the published recipe's.

A relative path is taken from the repository, so that a configuration means the same wherever a
script is started, and from the current folder where the project is installed without one; `~` is
the home folder. Paths of a command line are the other way round: see `config.load_config`. A run
goes on only with the same configuration, but for the keys that are marked with MAY_CHANGE.

Source: `configs/isaid/factseg.py` of Junjue-Wang/FactSeg and of its Paddle port.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PlainSerializer, model_validator

from factseg_paddle.aliases import ALIASES, full_name
from factseg_paddle.config.transforms import (
    MAY_CHANGE,
    Count,
    Normalize,
    Positive,
    Section,
    Transform,
    sample_side,
)
from factseg_paddle.folders import CHECKOUT, base_folder
from factseg_paddle.transforms import Normalization


def _from_base(path: str) -> str:
    if not path or "\0" in path:
        raise ValueError(f"{path!r} is no path")
    try:
        return str(base_folder() / Path(path).expanduser())
    except RuntimeError as error:
        raise ValueError(f"{path} names a home folder that does not exist") from error


def _known_device(device: str) -> str:
    if not re.fullmatch(r"cpu|gpu(:[0-9]+)?", device):
        raise ValueError(f"{device!r} is none of cpu, gpu and gpu:N")
    return device


def _to_base(path: str) -> str:
    """Undo `_from_base` inside a checkout, so that what is written holds for another one too."""
    inside = path.removeprefix(f"{CHECKOUT}/") if CHECKOUT else path
    return path if inside.startswith("~") else inside


PathText = Annotated[str, AfterValidator(_from_base), PlainSerializer(_to_base)]
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
        """Mean, standard deviation and order of channels, for training and evaluation alike."""
        return next(t for t in self.transforms if isinstance(t, Normalize)).function


class Model(Section):
    """The network and what it starts from.

    Attributes:
        name: one of `factseg_paddle.list_models()`, or its alias (see `factseg_paddle.aliases`).
        options: of that network; see the function of that name in its family's file.
        gradient_checkpointing: recompute activations in backward, in networks that have the option:
            less memory, the same gradients.
        pretrained: weights of the backbone (.pdparams), or null.
        weights: weights of the whole network to start from (.pdparams or a checkpoint folder), or
            null.
    """

    name: Annotated[str, AfterValidator(full_name)] = ALIASES["factseg"]
    options: dict[str, bool | int | float | str] = Field(default_factory=dict)
    gradient_checkpointing: Annotated[bool, MAY_CHANGE] = False
    pretrained: Annotated[PathText | None, MAY_CHANGE] = None
    weights: Annotated[PathText | None, MAY_CHANGE] = None


class Loss(Section):
    """What is minimised.

    Attributes:
        kind: "joint" is for networks with binary logits, FactSeg's (see
            `factseg_paddle.losses.JointLoss`). The others are for all other networks, with their
            auxiliary heads': "cross_entropy"; "focal", "annealed_focal" and "dice", see
            `FocalLoss`, `AnnealedFocalLoss` and `DiceLoss` there.
        sampling: which pixels joint and cross_entropy take: "som" those of the largest loss, "ohem"
            those of low probability, "mean" all.
        ratio: share of the pixels that som takes.
        form: of the joint loss: "logits", or "literal" as the original computes it.
        thresh: ohem takes pixels whose probability of the right class is below it.
        min_kept: pixels per image that ohem takes at least.
        gamma: focusing exponent of focal and annealed_focal.
        annealing_steps: iterations until annealed_focal is the focal loss.
        aux_weight: of each auxiliary head's loss; null for the network's own.
    """

    kind: Literal["joint", "cross_entropy", "focal", "annealed_focal", "dice"] = "joint"
    sampling: Literal["som", "ohem", "mean"] = "som"
    ratio: Annotated[float, Field(gt=0, le=1)] = 0.1
    form: Literal["logits", "literal"] = "logits"
    thresh: Annotated[float, Field(gt=0, le=1)] = 0.7
    min_kept: Positive = 100_000
    gamma: Annotated[float, Field(ge=0)] = 2.0
    annealing_steps: Positive = 10_000
    aux_weight: Annotated[float, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _every_key_counts(self) -> Loss:
        sampled = ("joint", "cross_entropy")
        owners = dict.fromkeys(("sampling", "ratio", "thresh", "min_kept"), sampled)
        focal = ("focal", "annealed_focal")
        owners |= {"form": ("joint",), "annealing_steps": ("annealed_focal",), "gamma": focal}
        owners["aux_weight"] = ("cross_entropy", *focal, "dice")
        self.check_owners("kind", owners)
        return self


class Optimizer(Section):
    """The optimizer and its learning rate; see `factseg_paddle.engine.schedule`.

    Attributes:
        kind: "momentum" for SGD with momentum, or "adam" with its usual betas 0.9 and 0.999.
        learning_rate: the highest one.
        schedule: "poly" is learning_rate * (1 - iteration / iters) ** power; "cosine" falls along
            half a wave; "step" multiplies by gamma at each milestone, and without any is constant.
        power: of poly.
        end_learning_rate: what poly and cosine reach at the end.
        milestones: iterations at which step lowers the rate.
        gamma: what step multiplies by.
        warmup_iters: iterations in which the rate rises first.
        head_lr_factor: what the rate is multiplied by outside the pretrained backbone.
        momentum: of SGD.
        weight_decay: of all parameters, as a part of their gradients.
        clip_norm: largest L2 norm of all gradients together; null for any.
    """

    kind: Literal["momentum", "adam"] = "momentum"
    learning_rate: Annotated[float, Field(gt=0)] = 0.007
    schedule: Literal["poly", "cosine", "step"] = "poly"
    power: Annotated[float, Field(ge=0)] = 0.9
    end_learning_rate: Annotated[float, Field(ge=0)] = 0.0
    milestones: list[Positive] = Field(default_factory=list)
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.1
    warmup_iters: Count = 0
    head_lr_factor: Annotated[float, Field(gt=0)] = 1.0
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    clip_norm: Annotated[float, Field(gt=0)] | None = 35.0

    @model_validator(mode="after")
    def _every_key_counts(self) -> Optimizer:
        schedules = {
            "power": ("poly",),
            "end_learning_rate": ("poly", "cosine"),
            "milestones": ("step",),
            "gamma": ("step",),
        }
        self.check_owners("schedule", schedules)
        self.check_owners("kind", {"momentum": ("momentum",)})
        return self

    @model_validator(mode="after")
    def _rates_fall(self) -> Optimizer:
        if self.end_learning_rate > self.learning_rate:
            raise ValueError(
                f"end_learning_rate {self.end_learning_rate} is above learning_rate "
                f"{self.learning_rate}"
            )
        if self.milestones != sorted(set(self.milestones)):
            raise ValueError(f"milestones {self.milestones} do not rise")
        return self


class Amp(Section):
    """Mixed precision.

    Attributes:
        level: "O1", "O2" or null for float32.
        init_loss_scaling: the first loss scale.
        growth_interval: steps without overflow after which the scale doubles.
    """

    level: Literal["O1", "O2"] | None = None
    init_loss_scaling: Annotated[float, Field(gt=0)] = 1024.0
    growth_interval: Positive = 2000


class Train(Section):
    """The training run; intervals are in iterations, 0 for never.

    Attributes:
        iters: iterations of the whole run.
        batch_size: samples of an iteration, over all processes.
        num_workers: processes that read samples, per training process.
        log_iters: interval of the log lines.
        save_interval: interval of checkpoints.
        keep: newest checkpoints to keep; the best one is kept besides.
        do_eval: evaluate during training.
        eval_interval: interval of evaluations.
        eval_images: images to evaluate during training; null for all.
        use_vdl: write VisualDL records.
        save_dir: folder of the run.
    """

    iters: Positive = 60_000
    batch_size: Positive = 8
    num_workers: Annotated[Count, MAY_CHANGE] = 4
    log_iters: Annotated[Positive, MAY_CHANGE] = 50
    save_interval: Annotated[Count, MAY_CHANGE] = 500
    keep: Annotated[Positive, MAY_CHANGE] = 3
    do_eval: Annotated[bool, MAY_CHANGE] = False
    eval_interval: Annotated[Positive, MAY_CHANGE] = 5000
    eval_images: Annotated[Positive | None, MAY_CHANGE] = None
    use_vdl: Annotated[bool, MAY_CHANGE] = False
    save_dir: Annotated[PathText, MAY_CHANGE] = "output/train"
    amp: Amp = Amp()


class Evaluation(Section):
    """The sliding window.

    Attributes:
        patch_size: side of a window, divisible by 32.
        stride: distance of neighbouring windows.
        batch_size: windows that go through the network at once.
        flip: average over both mirror images as well.
        scales: factors of the image's size to average over.
    """

    patch_size: Annotated[int, Field(ge=32, multiple_of=32)] = 896
    stride: Positive = 512
    batch_size: Positive = 1
    flip: bool = False
    scales: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=1)] = Field(
        default_factory=lambda: [1.0]
    )

    @model_validator(mode="after")
    def _overlaps(self) -> Evaluation:
        if self.stride > self.patch_size:
            raise ValueError(f"stride {self.stride} leaves gaps between windows")
        return self


class Config(Section):
    """All of a run.

    Attributes:
        seed: of weights, order and transforms.
        device: "cpu", "gpu", "gpu:N", or null for a GPU where there is one.
        data: the images and their classes.
        model: the network and what it starts from.
        loss: what is minimised.
        optimizer: the optimizer and its learning rate.
        train: the training run.
        eval: the sliding window.
    """

    seed: Annotated[int, Field(ge=0, lt=2**32)] = 2333
    device: Annotated[Annotated[str, AfterValidator(_known_device)] | None, MAY_CHANGE] = None
    data: Data = Data()
    model: Model = Model()
    loss: Loss = Loss()
    optimizer: Optimizer = Optimizer()
    train: Train = Train()
    eval: Annotated[Evaluation, MAY_CHANGE] = Evaluation()

    @model_validator(mode="after")
    def _samples_fit(self) -> Config:
        side = sample_side(self.data.patch_size, self.data.transforms)
        if side % 32:
            near = max(32, side // 32 * 32), -(-side // 32) * 32
            use = " or ".join(dict.fromkeys(map(str, near)))
            raise ValueError(f"samples have {side} pixels, which 32 does not divide; use {use}")
        return self

    @model_validator(mode="after")
    def _warm_up_ends(self) -> Config:
        warmup, iters = self.optimizer.warmup_iters, self.train.iters
        if warmup >= iters:
            raise ValueError(
                f"optimizer.warmup_iters {warmup} leave nothing of the {iters} of train.iters"
            )
        return self


PATH_KEYS = (
    "data.dataset_root",
    "data.train.names",
    "data.val.names",
    "model.pretrained",
    "model.weights",
    "train.save_dir",
)
"""The keys whose values are paths."""
