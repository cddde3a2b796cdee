"""The losses: of the joint probability, and those that the original offers beside it."""

from factseg_paddle.losses.annealed_focal import AnnealedFocalLoss, SoftmaxFocalLoss, set_step
from factseg_paddle.losses.auxiliary import AuxiliaryLoss
from factseg_paddle.losses.class_binary import ClassBinaryLoss
from factseg_paddle.losses.cross_entropy import (
    CrossEntropyLoss,
    InverseFrequencyCrossEntropyLoss,
    OhemCrossEntropyLoss,
    pixel_cross_entropy,
)
from factseg_paddle.losses.dice import BinaryDiceLoss, DiceLoss
from factseg_paddle.losses.focal import FocalLoss
from factseg_paddle.losses.joint import Clone, JointLoss, joint_probability
from factseg_paddle.losses.labels import split_labels
from factseg_paddle.losses.mining import Sampler, ohem, som, valid_mean

__all__ = [
    "AnnealedFocalLoss",
    "AuxiliaryLoss",
    "BinaryDiceLoss",
    "ClassBinaryLoss",
    "Clone",
    "CrossEntropyLoss",
    "DiceLoss",
    "FocalLoss",
    "InverseFrequencyCrossEntropyLoss",
    "JointLoss",
    "OhemCrossEntropyLoss",
    "Sampler",
    "SoftmaxFocalLoss",
    "joint_probability",
    "ohem",
    "pixel_cross_entropy",
    "set_step",
    "som",
    "split_labels",
    "valid_mean",
]
