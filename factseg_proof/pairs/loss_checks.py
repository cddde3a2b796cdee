"""Step 04: every loss of `factseg_paddle` against its twin, and JointLoss literal = logits."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

CLASSES = 16
SIZE = 64
STEP = 1000  # of training, for the loss that depends on it

SHOWN = ("sampling", "form", "average", "normalize")

Check = tuple[str, Callable[[], np.ndarray], Callable[[], np.ndarray]]

LOSSES = (
    ("JointLoss", {"sampling": "som"}, "joint"),
    ("JointLoss", {"sampling": "ohem", "min_kept": 500}, "joint"),
    ("JointLoss", {"sampling": "mean"}, "joint"),
    ("JointLoss", {"sampling": "som", "form": "literal"}, "joint"),
    ("JointLoss", {"sampling": "ohem", "min_kept": 500, "form": "literal"}, "joint"),
    ("JointLoss", {"sampling": "mean", "form": "literal"}, "joint"),
    ("CrossEntropyLoss", {}, "classes"),
    ("OhemCrossEntropyLoss", {"min_kept": 500}, "classes"),
    ("InverseFrequencyCrossEntropyLoss", {"num_classes": CLASSES}, "classes"),
    ("FocalLoss", {"alpha": [0.25] + [0.75] * (CLASSES - 1), "gamma": 2.0}, "classes"),
    ("FocalLoss", {"average": "all"}, "classes"),
    ("SoftmaxFocalLoss", {"normalize": False}, "classes"),
    ("SoftmaxFocalLoss", {"normalize": True}, "classes"),
    ("AnnealedFocalLoss", {"annealing_steps": 3 * STEP}, "classes"),
    ("DiceLoss", {}, "classes"),
    ("BinaryDiceLoss", {}, "binary"),
    ("ClassBinaryLoss", {}, "joint"),
)


def values(labels: np.ndarray, seed: int) -> Iterator[Check]:
    """Yield (name, torch's, Paddle's) value of every loss, in float64 on random logits.

    Args:
        labels: int64 [N, H, W], 255 where ignored.
        seed: of the logits.
    """
    rng = np.random.default_rng([seed, 4])
    labels = np.ascontiguousarray(labels[:, -SIZE:, -SIZE:])
    shape = (labels.shape[0], CLASSES, *labels.shape[1:])
    class_logits = rng.normal(0, 3, shape)
    binary_logits = rng.normal(0, 3, (shape[0], 1, *shape[2:]))
    foreground = np.where(labels == 255, 255, (labels > 0).astype(np.int64))
    inputs = {
        "joint": (class_logits, binary_logits, labels),
        "classes": (class_logits, labels),
        "binary": (binary_logits, foreground),
    }
    for loss, options, takes in LOSSES:
        arrays = inputs[takes]
        shown = ", ".join(str(v) for k, v in options.items() if k in SHOWN)
        yield (
            f"{loss}({shown})",
            lambda n=loss, o=options, x=arrays: _torch_value(n, o, x),
            lambda n=loss, o=options, x=arrays: _paddle_value(n, o, x),
        )
    for sampling in ("som", "ohem", "mean"):
        options = {"sampling": sampling, "min_kept": 500}
        yield (
            f"JointLoss({sampling}): torch's literal = Paddle's logits",
            lambda o=options: _torch_value("JointLoss", o | {"form": "literal"}, inputs["joint"]),
            lambda o=options: _paddle_value("JointLoss", o | {"form": "logits"}, inputs["joint"]),
        )
    yield (
        "joint_probability",
        lambda: _torch_probability(class_logits, binary_logits),
        lambda: _paddle_probability(class_logits, binary_logits),
    )


def _torch_value(loss: str, options: dict, arrays: tuple[np.ndarray, ...]) -> np.ndarray:
    import torch

    from torch_ref import losses

    tensors = [torch.from_numpy(array) for array in arrays]
    criterion = getattr(losses, loss)(**options)
    losses.set_step(criterion, STEP)
    return criterion(*tensors).numpy()


def _paddle_value(loss: str, options: dict, arrays: tuple[np.ndarray, ...]) -> np.ndarray:
    import paddle

    from factseg_paddle import losses

    tensors = [paddle.to_tensor(array) for array in arrays]
    criterion = getattr(losses, loss)(**options)
    losses.set_step(criterion, STEP)
    return criterion(*tensors).numpy()


def _torch_probability(class_logits: np.ndarray, binary_logits: np.ndarray) -> np.ndarray:
    import torch

    from torch_ref import joint_probability

    tensors = (torch.from_numpy(class_logits), torch.from_numpy(binary_logits))
    return joint_probability(*tensors).numpy()


def _paddle_probability(class_logits: np.ndarray, binary_logits: np.ndarray) -> np.ndarray:
    import paddle

    from factseg_paddle import joint_probability

    tensors = (paddle.to_tensor(class_logits), paddle.to_tensor(binary_logits))
    return joint_probability(*tensors).numpy()
