"""The keys of a configuration, their types and their defaults, which are the published recipe's.

Source: `configs/isaid/factseg.py` of Junjue-Wang/FactSeg and of its Paddle port.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Colour = Annotated[list[Annotated[int, Field(ge=0, le=255)]], Field(min_length=3, max_length=3)]
Channels = Annotated[list[float], Field(min_length=3, max_length=3)]


class Section(BaseModel):
    """Keys with values of one type each; unknown keys and other types are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


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
    """Subtract a mean and divide by a standard deviation, both on the scale 0 to 255."""

    name: Literal["normalize"]
    mean: Channels = [123.675, 116.28, 103.53]
    std: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=3, max_length=3)] = [
        58.395,
        57.12,
        57.375,
    ]


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


class Split(Section):
    """Where the images and masks of one part of a folder dataset lie, relative to `dataset_root`.

    Attributes:
        image_dir: folder of the images.
        mask_dir: folder of the masks, or null where there are none.
        names: file listing the names to use, one a line, without suffix; null for all.
    """

    image_dir: str
    mask_dir: str | None = None
    names: str | None = None


class Data(Section):
    """The images, their classes, and what training does to them.

    Attributes:
        kind: "isaid" for the original's layout, raw or prepared; "folder" for one's own data.
        dataset_root: folder of the data.
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
        transforms: in this order.
    """

    kind: Literal["isaid", "folder"] = "isaid"
    dataset_root: str = "data/isaid"
    train: Split | None = None
    val: Split | None = None
    image_suffix: str = ".png"
    mask_suffix: str = ".png"
    palette: Annotated[list[Colour], Field(min_length=2, max_length=255)] | None = None
    class_names: list[str] | None = None
    num_classes: Annotated[int, Field(ge=2, le=255)] = 16
    ignore_index: Annotated[int, Field(ge=0, le=255)] = 255
    patch_size: Positive = 896
    stride: Positive = 512
    cache_mb: Count = 512
    transforms: list[Transform] = Field(default_factory=list)

    @model_validator(mode="after")
    def _fits(self) -> Data:
        folder = {"train", "val", "image_suffix", "mask_suffix", "palette", "class_names"}
        given = sorted(folder & self.model_fields_set)
        if self.kind == "isaid" and given:
            raise ValueError(f"kind isaid has {', '.join(given)} built in; use kind folder")
        if self.kind == "isaid" and self.num_classes != 16:
            raise ValueError(f"num_classes is {self.num_classes}, but iSAID has 16 classes")
        if self.kind == "isaid" and self.ignore_index != 255:
            raise ValueError(f"ignore_index is {self.ignore_index}, but iSAID's masks use 255")
        if self.kind == "folder" and self.val is None and self.train is None:
            raise ValueError("kind folder needs train or val, each with an image_dir")
        for key in ("palette", "class_names"):
            value = getattr(self, key)
            if value is not None and len(value) != self.num_classes:
                raise ValueError(f"{key} has {len(value)} entries for {self.num_classes} classes")
        if self.ignore_index < self.num_classes:
            raise ValueError(f"ignore_index {self.ignore_index} is a class")
        if self.stride > self.patch_size:
            raise ValueError(f"stride {self.stride} leaves gaps between patches")
        return self


class Model(Section):
    """FactSeg and what it starts from; see `factseg_paddle.models.FactSeg`.

    Attributes:
        pretrained: ResNet weights for the encoder (.pdparams), or null.
        weights: FactSeg weights to start from (.pdparams or a checkpoint folder), or null.
    """

    backbone: Literal["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"] = "resnet50"
    output_stride: Literal[8, 16, 32] = 32
    frozen_stages: Annotated[int, Field(ge=0, le=5)] = 0
    frozen_batch_norm: bool = False
    gradient_checkpointing: bool = False
    pretrained: str | None = None
    weights: str | None = None


class Loss(Section):
    """See `factseg_paddle.losses.JointLoss`."""

    sampling: Literal["som", "ohem", "mean"] = "som"
    ratio: Annotated[float, Field(gt=0, le=1)] = 0.1
    form: Literal["logits", "literal"] = "logits"
    thresh: Annotated[float, Field(gt=0, le=1)] = 0.7
    min_kept: Positive = 100_000


class Optimizer(Section):
    """SGD with momentum and the poly schedule: learning_rate * (1 - iteration / iters) ** power.

    Attributes:
        clip_norm: largest L2 norm of all gradients together; null for any.
    """

    learning_rate: Annotated[float, Field(gt=0)] = 0.007
    power: Annotated[float, Field(ge=0)] = 0.9
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    clip_norm: Annotated[float, Field(gt=0)] | None = 35.0


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
    num_workers: Count = 4
    log_iters: Positive = 50
    save_interval: Count = 500
    keep: Positive = 3
    do_eval: bool = False
    eval_interval: Positive = 5000
    eval_images: Positive | None = None
    use_vdl: bool = False
    save_dir: str = "output/train"
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
    scales: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=1)] = [1.0]

    @model_validator(mode="after")
    def _overlaps(self) -> Evaluation:
        if self.stride > self.patch_size:
            raise ValueError(f"stride {self.stride} leaves gaps between windows")
        return self


class Config(Section):
    """All of a run. `device` is "cpu", "gpu", "gpu:N" or null for a GPU where there is one."""

    seed: Count = 2333
    device: Annotated[str, Field(pattern=r"^(cpu|gpu(:\d+)?)$")] | None = None
    data: Data = Data()
    model: Model = Model()
    loss: Loss = Loss()
    optimizer: Optimizer = Optimizer()
    train: Train = Train()
    eval: Evaluation = Evaluation()
