"""The keys of a configuration, their types and their defaults, which are the published recipe's.

A run goes on only with the same configuration, but for the keys that are marked with MAY_CHANGE.
For paths see `factseg_paddle.config.paths`.

Source: `configs/isaid/factseg.py` of Junjue-Wang/FactSeg and of its Paddle port.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from factseg_paddle.aliases import ALIASES, full_name
from factseg_paddle.config.data_section import Data
from factseg_paddle.config.paths import PathText
from factseg_paddle.config.transforms import (
    MAY_CHANGE,
    Count,
    Positive,
    Section,
    sample_side,
)


def _known_device(device: str) -> str:
    if not re.fullmatch(r"cpu|gpu(:[0-9]+)?", device):
        raise ValueError(f"{device!r} is none of cpu, gpu and gpu:N")
    return device


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
