"""The classic networks in torch and in Paddle, each by the name that `create_model` knows."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from alignment.pair import Pair
from factseg_proof.pairs import recipe
from factseg_proof.pairs.scenes import as_batch, read_scenes
from factseg_proof.pairs.seeded import CopiedModel, SeededModel

CROP = 64
NUM_CLASSES = 16
AUX_WEIGHT = 0.4  # any but 0 and 1 compares the auxiliary heads


def make_pair(
    name: str,
    seed: int = 0,
    *,
    image: Path | None = None,
    mask: Path | None = None,
    crop_size: int = CROP,
) -> Pair:
    """Make the pair of a network with seeded weights, dropout off, and its auxiliary losses.

    Args:
        name: one of `factseg_paddle.list_models()` but FactSeg, which has a pair of its own.
        seed: of the weights and of the scenes.
        image: an RGB image file; None paints scenes.
        mask: its mask, colours or indices.
        crop_size: side of the square input, a multiple of 32.

    Raises:
        ValueError: as `read_scenes`.
    """
    pixels, labels = as_batch(read_scenes(seed, image, mask, crop_size))
    return Pair(
        name=name,
        torch_model=SeededModel(partial(_torch_model, name), seed),
        paddle_model=CopiedModel(partial(_paddle_model, name)),
        inputs=(pixels,),
        targets=(labels,),
        torch_loss=_torch_loss,
        paddle_loss=_paddle_loss,
        torch_train=recipe.torch_setup(),
        paddle_train=recipe.paddle_setup(),
    )


def _torch_model(name: str):
    from torch import nn

    from torch_ref import create_model

    model = create_model(name, NUM_CLASSES)
    for layer in model.modules():
        if isinstance(layer, nn.Dropout | nn.Dropout2d):
            layer.p = 0.0
    model.register_forward_pre_hook(_let_auxiliary_heads_run)
    return model


def _paddle_model(name: str):
    from paddle import nn

    from factseg_paddle import create_model

    model = create_model(name, NUM_CLASSES)
    for layer in model.sublayers():
        if isinstance(layer, nn.Dropout | nn.Dropout2D):
            layer.p = 0.0
    model.register_forward_pre_hook(_let_auxiliary_heads_run)
    return model


def _let_auxiliary_heads_run(network, _inputs) -> None:  # noqa: ANN001
    """Let them run in training mode, by the network's own flag; its layers stay in evaluation mode.

    So a fault in them is placed as any other, and BatchNorm's running statistics are still read.
    """
    network.training = True


def _torch_loss(output, labels):  # noqa: ANN001
    from torch_ref.losses import AuxiliaryLoss, CrossEntropyLoss

    return AuxiliaryLoss(CrossEntropyLoss(), AUX_WEIGHT)(*output, labels)


def _paddle_loss(output, labels):  # noqa: ANN001
    from factseg_paddle.losses import AuxiliaryLoss, CrossEntropyLoss

    return AuxiliaryLoss(CrossEntropyLoss(), AUX_WEIGHT)(*output, labels)
