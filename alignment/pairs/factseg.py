"""FactSeg in torch and in Paddle: our own pair, defined as a user would define theirs."""

from __future__ import annotations

import zlib
from functools import partial
from pathlib import Path

import numpy as np

from alignment.pair import Pair, TrainSetup
from alignment.pairs import loss_checks, metric_checks, preprocess_checks
from factseg_paddle.data.image_files import read_pair
from factseg_paddle.data.synthetic import paint_scene
from factseg_paddle.data.transforms import crop, normalize, pad_to, to_chw

CROP = 128
IMAGES = 2
SMALLEST_SCENE = 64

# The published recipe.
RATE, ITERATIONS, POWER = 0.007, 60000, 0.9
MOMENTUM, WEIGHT_DECAY, CLIP = 0.9, 1e-4, 35.0


def make_pair(
    seed: int = 0,
    *,
    image: Path | None = None,
    mask: Path | None = None,
    crop_size: int = CROP,
    form: str = "logits",
) -> Pair:
    """FactSeg-50 with seeded weights on sample scenes, or on a crop of a real image.

    Args:
        seed: of the weights, of the scenes and of what the checks draw.
        image: an RGB image file; None paints IMAGES scenes.
        mask: its mask, colours or indices.
        crop_size: side of the square input, a multiple of 32. Of a file the window with the most
            foreground is taken, padded with ignored pixels where the image is smaller.
        form: of the loss on both sides, "logits" or "literal".

    Raises:
        ValueError: crop_size does not divide by 32, or only one of image and mask is given.
    """
    if crop_size < 32 or crop_size % 32:
        lower = max(crop_size // 32 * 32, 0)
        sizes = " or ".join(str(size) for size in (lower, lower + 32) if size > 0)
        raise ValueError(f"crop {crop_size} is not a positive multiple of 32; use {sizes}")
    if (image is None) != (mask is None):
        raise ValueError("give both image and mask, or neither")
    if image is None:
        scenes = [_sample(crop_size, (seed, index)) for index in range(IMAGES)]
    else:
        scenes = [_busiest_window(*read_pair(image, mask), crop_size)]
    pixels = np.stack([to_chw(normalize(pixels)) for pixels, _ in scenes])
    labels = np.stack([labels for _, labels in scenes]).astype(np.int64)
    return Pair(
        name="factseg",
        torch_model=partial(_torch_model, seed),
        paddle_model=_paddle_model,
        inputs=(pixels,),
        targets=(labels,),
        torch_loss=partial(_torch_loss, form),
        paddle_loss=partial(_paddle_loss, form),
        torch_train=TrainSetup(_torch_optimizer, _torch_schedule, _torch_clip),
        paddle_train=TrainSetup(_paddle_optimizer),
        checks={
            "preprocess": partial(preprocess_checks.values, *scenes[0], image, mask),
            "metric": partial(metric_checks.values, labels, seed),
            "loss": partial(loss_checks.values, labels, seed),
        },
    )


def seeded_weight(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """A tensor that hides nothing: no statistic, scale or bias is 0 or 1.

    Args:
        name: torch's name, which with the seed decides the values.
        shape: the tensor's shape.
        seed: the pair's seed.

    Returns:
        float32 values that keep activations near unit scale.
    """
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    if name.endswith("running_mean"):
        values = rng.normal(0, 0.1, shape)
    elif name.endswith("running_var"):
        values = rng.uniform(0.5, 1.5, shape)
    elif len(shape) == 4:
        values = rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
    elif name.endswith("bias"):
        values = rng.normal(0, 0.1, shape)
    else:
        values = rng.uniform(0.4, 0.8, shape)
    return values.astype(np.float32)


def _torch_model(seed: int):
    import torch

    from torch_ref import FactSeg

    model = FactSeg()
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if not name.endswith("num_batches_tracked"):
                tensor.copy_(torch.from_numpy(seeded_weight(name, tuple(tensor.shape), seed)))
    return model


def _paddle_model():
    from factseg_paddle import FactSeg

    return FactSeg()


def _torch_loss(form: str, output, labels):  # noqa: ANN001
    from torch_ref import JointLoss

    return JointLoss(form=form)(*output, labels)


def _paddle_loss(form: str, output, labels):  # noqa: ANN001
    from factseg_paddle import JointLoss

    return JointLoss(form=form)(*output, labels)


def _torch_optimizer(model):  # noqa: ANN001
    import torch

    return torch.optim.SGD(model.parameters(), RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)


def _torch_schedule(optimizer):  # noqa: ANN001
    import torch

    return torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda iteration: (1 - iteration / ITERATIONS) ** POWER
    )


def _torch_clip(model):  # noqa: ANN001
    import torch

    torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)


def _paddle_optimizer(model):  # noqa: ANN001
    import paddle

    rate = paddle.optimizer.lr.PolynomialDecay(RATE, ITERATIONS, end_lr=0.0, power=POWER)
    return paddle.optimizer.Momentum(
        rate,
        MOMENTUM,
        parameters=model.parameters(),
        weight_decay=WEIGHT_DECAY,
        grad_clip=paddle.nn.ClipGradByGlobalNorm(CLIP),
    )


def _sample(size: int, seed: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A painted scene, its last rows and columns ignored as padding is."""
    scene = paint_scene(size=max(size, SMALLEST_SCENE), seed=seed)
    kept = size - size // 16
    image, labels = crop(scene.image, scene.labels, top=0, left=0, height=kept, width=kept)
    return pad_to(image, labels, height=size, width=size)


def _busiest_window(
    image: np.ndarray, labels: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """The size x size window with the most foreground; the first one where several have it."""
    height, width = labels.shape
    foreground = np.pad(((labels > 0) & (labels != 255)).astype(np.int64), ((1, 0), (1, 0)))
    sums = foreground.cumsum(0).cumsum(1)
    h, w = min(size, height), min(size, width)
    counts = sums[h:, w:] - sums[:-h, w:] - sums[h:, :-w] + sums[:-h, :-w]
    top, left = np.unravel_index(np.argmax(counts), counts.shape)
    window = crop(image, labels, top=int(top), left=int(left), height=h, width=w)
    return pad_to(*window, height=size, width=size)
