"""The checks that every loss makes of its logits and labels before it computes anything."""

import torch

INTEGER_DTYPES = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
_MOST_NAMED = 5


def split_labels(
    labels: torch.Tensor,
    logits: torch.Tensor,
    ignore_index: int,
    *,
    num_classes: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Check labels against logits and take the ignored pixels out of them.

    Args:
        labels: class indices, [N, H, W] int64 (any integer dtype is taken).
        logits: [N, C, H, W], what the labels must fit.
        ignore_index: the label of pixels that count for nothing; may lie inside [0, C).
        num_classes: how many classes there are, where that is not C: two for a binary logit.

    Returns:
        valid [N, H, W] bool, and targets [N, H, W] int64 in [0, C), which are 0 where not valid:
        safe to gather with.

    Raises:
        ValueError: the shapes do not fit, the labels are not integers, or a label lies outside
            [0, num_classes) and is not `ignore_index`.
    """
    _check_fit(labels, logits)
    labels = labels.long()
    num_classes = logits.shape[1] if num_classes is None else num_classes
    valid = labels != ignore_index
    targets = torch.where(valid, labels, torch.zeros_like(labels))
    wrong = (targets < 0) | (targets >= num_classes)
    if bool(wrong.any()):
        raise ValueError(
            f"{_named(targets.masked_select(wrong))} outside [0, {num_classes}) and not "
            f"ignore_index {ignore_index}; give these pixels a class or the label {ignore_index}"
        )
    return valid, targets


def check_branches(class_logits: torch.Tensor, binary_logits: torch.Tensor) -> None:
    """Raise a ValueError with both shapes, if the outputs of the two branches do not fit.

    Args:
        class_logits: [N, C, H, W] with C >= 2, the background and at least one foreground class.
        binary_logits: [N, 1, H, W] in the same dtype.
    """
    shapes = (
        f"class_logits of shape {list(class_logits.shape)} and "
        f"binary_logits of shape {list(binary_logits.shape)}"
    )
    if class_logits.ndim != 4 or class_logits.shape[1] < 2:
        raise ValueError(
            f"{shapes}: class_logits must be [N, C, H, W] with C >= 2, "
            "channel 0 the background and at least one foreground class"
        )
    batch, _, height, width = class_logits.shape
    if list(binary_logits.shape) != [batch, 1, height, width]:
        raise ValueError(f"{shapes} do not fit; binary_logits must be {[batch, 1, height, width]}")
    if class_logits.dtype != binary_logits.dtype:
        raise ValueError(
            f"{shapes} have dtypes {class_logits.dtype} and {binary_logits.dtype}; use one dtype"
        )


def keep_valid(losses: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Give the losses [N, H, W] with 0, and a gradient of 0, where a pixel is not valid."""
    return torch.where(valid, losses, torch.zeros_like(losses))


def _check_fit(labels: torch.Tensor, logits: torch.Tensor) -> None:
    shapes = f"labels of shape {list(labels.shape)} and logits of shape {list(logits.shape)}"
    if logits.ndim != 4:
        raise ValueError(f"{shapes}: logits must be [N, C, H, W]")
    if 0 in logits.shape:
        raise ValueError(f"{shapes}: there is no pixel to compute a loss of; drop empty batches")
    batch, _, height, width = logits.shape
    if list(labels.shape) != [batch, height, width]:
        raise ValueError(
            f"{shapes} do not fit; these logits need labels of shape {[batch, height, width]}"
        )
    if labels.dtype not in INTEGER_DTYPES:
        raise ValueError(
            f"{shapes} with dtype {labels.dtype}: labels are class indices; convert them to int64"
        )


def _named(wrong_labels: torch.Tensor) -> str:
    values, counts = torch.unique(wrong_labels, return_counts=True)
    named = [
        f"{value} ({count} {'pixel' if count == 1 else 'pixels'})"
        for value, count in zip(values.tolist(), counts.tolist(), strict=True)
    ]
    if len(named) > _MOST_NAMED:
        named[_MOST_NAMED:] = [f"{len(named) - _MOST_NAMED} more"]
    return f"label {named[0]} is" if len(named) == 1 else f"labels {', '.join(named)} are"
