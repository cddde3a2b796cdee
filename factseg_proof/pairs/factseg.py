"""FactSeg in torch and in Paddle: our own pair, defined as a user would define theirs."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from alignment.pair import Pair
from factseg_paddle.aliases import short_name
from factseg_proof.pairs import loss_checks, metric_checks, preprocess_checks, recipe
from factseg_proof.pairs.scenes import CROP, as_batch, read_scenes
from factseg_proof.pairs.seeded import CopiedModel, SeededModel


def make_pair(
    seed: int = 0,
    *,
    image: Path | None = None,
    mask: Path | None = None,
    crop_size: int = CROP,
    form: str = "logits",
    backbone: str = "resnet50",
) -> Pair:
    """Make FactSeg with seeded weights on sample scenes, or on a crop of a real image.

    Args:
        seed: of the weights, of the scenes and of what the checks draw.
        image: an RGB image file; None paints IMAGES scenes.
        mask: its mask, colours or indices.
        crop_size: side of the square input, a multiple of 32. Of a file the window with the most
            foreground is taken, padded with ignored pixels where the image is smaller.
        form: of the loss on both sides, "logits" or "literal".
        backbone: resnet18, 34, 50, 101 or 152.

    Raises:
        ValueError: crop_size does not divide by 32, or only one of image and mask is given.
    """
    scenes = read_scenes(seed, image, mask, crop_size)
    pixels, labels = as_batch(scenes)
    return Pair(
        name=short_name(f"factseg_{backbone}"),
        torch_model=SeededModel(partial(_torch_model, backbone), seed),
        paddle_model=CopiedModel(partial(_paddle_model, backbone)),
        inputs=(pixels,),
        targets=(labels,),
        torch_loss=partial(_torch_loss, form),
        paddle_loss=partial(_paddle_loss, form),
        torch_train=recipe.torch_setup(),
        paddle_train=recipe.paddle_setup(),
        checks={
            "preprocess": partial(preprocess_checks.values, *scenes[0], image, mask),
            "metric": partial(metric_checks.values, labels, seed),
            "loss": partial(loss_checks.values, labels, seed),
        },
    )


def _torch_model(backbone: str):
    from torch_ref import FactSeg

    return FactSeg(backbone=backbone)


def _paddle_model(backbone: str):
    from factseg_paddle import FactSeg

    return FactSeg(backbone=backbone)


def _torch_loss(form: str, output, labels):  # noqa: ANN001
    from torch_ref import JointLoss

    return JointLoss(form=form)(*output, labels)


def _paddle_loss(form: str, output, labels):  # noqa: ANN001
    from factseg_paddle import JointLoss

    return JointLoss(form=form)(*output, labels)
