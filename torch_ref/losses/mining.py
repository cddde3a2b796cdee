"""From a loss per pixel to one number: which pixels count.

SOM, small object mining: the FactSeg paper (doi 10.1109/TGRS.2021.3097148) and `som` in the
original's module/loss.py. OHEM, online hard example mining: `ohem_cross_entropy` there.

Every function takes losses that are at least 0, and exactly 0 where a pixel is ignored, and gives
0 with zero gradients where it keeps nothing: the original divided 0 by 0.
"""

import math
from dataclasses import dataclass

import torch

SAMPLINGS = ("som", "ohem", "mean")


@dataclass(frozen=True)
class Sampler:
    """The choice of the pixels that count, checked when it is made.

    Args:
        sampling: "som", "ohem" or "mean" (all valid pixels).
        ratio: SOM's share of all pixels, ignored ones included; in (0, 1].
        thresh: OHEM keeps the pixels whose true class has a probability below this; in (0, 1].
        min_kept: OHEM keeps about so many pixels per image however easy they are.

    Raises:
        ValueError: an unknown sampling, or a number out of its range.
    """

    sampling: str = "mean"
    ratio: float = 0.1
    thresh: float = 0.7
    min_kept: int = 100_000

    def __post_init__(self):
        check_choice("sampling", self.sampling, SAMPLINGS)
        for name in ("ratio", "thresh"):
            value = getattr(self, name)
            if not 0 < value <= 1:
                raise ValueError(f"{name} {value} is not in (0, 1]; it is a share, such as 0.1")
        if self.min_kept < 0:
            raise ValueError(f"min_kept {self.min_kept} is negative; use 0 or more pixels")

    def __call__(self, losses: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        """Reduce losses [N, H, W] float with valid [N, H, W] bool to a scalar."""
        if self.sampling == "som":
            return som(losses, self.ratio)
        if self.sampling == "ohem":
            return ohem(losses, valid, thresh=self.thresh, min_kept=self.min_kept)
        return valid_mean(losses, valid)


def som(losses: torch.Tensor, ratio: float) -> torch.Tensor:
    """Mine small objects: return the mean of the largest losses.

    Takes the top k = max(1, int(ratio * number of all pixels)), drops those that are 0, and
    divides their sum by their count + 1e-6.

    Args:
        losses: [N, H, W] float, 0 where ignored; ignored pixels count for k.
        ratio: share of the pixels, in (0, 1].
    """
    k = max(1, int(ratio * losses.numel()))
    top_losses, _ = torch.topk(losses.reshape(-1), k)
    # A product and not an index: a dropped pixel gets no gradient, and an empty choice gives 0.
    kept = (top_losses != 0).to(losses.dtype)
    return (top_losses * kept).sum() / (kept.sum() + 1e-6)


def ohem(
    losses: torch.Tensor, valid: torch.Tensor, *, thresh: float = 0.7, min_kept: int = 100_000
) -> torch.Tensor:
    """Mine hard examples online: return the mean over the pixels whose true class is improbable.

    Of the valid pixels of the whole batch, in order of the probability p of their true class, the
    one at index min(min_kept * N, number of valid - 1) sets p_k; kept is p < max(p_k, thresh).
    So a lone pixel that is above `thresh` is not kept, as in the original.

    The comparison is made on the loss, -log p, which orders the pixels alike and does not round
    to 0 or 1 at large logits.

    Args:
        losses: [N, H, W] float, -log p.
        valid: [N, H, W] bool.
        thresh: probability in (0, 1].
        min_kept: pixels per image.
    """
    num_valid = int(valid.sum())
    if num_valid == 0:
        return valid_mean(losses, valid)
    hardest_first = min(min_kept * losses.shape[0], num_valid - 1)
    valid_losses = losses.detach().masked_select(valid)
    kth_loss, _ = torch.kthvalue(valid_losses, num_valid - hardest_first)
    kept = valid & (losses.detach() > kth_loss.clamp(max=-math.log(thresh)))
    return valid_mean(losses, kept)


def valid_mean(losses: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Return mean of the losses [N, H, W] over the valid pixels; 0 where there are none."""
    kept = valid.to(losses.dtype)
    return (losses * kept).sum() / kept.sum().clamp(min=1.0)


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise a ValueError that lists the choices, if `value` is none of them."""
    if value not in choices:
        listed = ", ".join(repr(choice) for choice in choices)
        raise ValueError(f"{name} {value!r} is unknown; use one of {listed}")
