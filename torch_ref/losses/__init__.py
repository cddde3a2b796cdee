"""The losses: of the joint probability, and those that the original offers beside it."""

from torch_ref.losses.annealed_focal import AnnealedFocalLoss, SoftmaxFocalLoss, set_step
from torch_ref.losses.auxiliary import AuxiliaryLoss
from torch_ref.losses.class_binary import ClassBinaryLoss
from torch_ref.losses.cross_entropy import (
    CrossEntropyLoss,
    InverseFrequencyCrossEntropyLoss,
    OhemCrossEntropyLoss,
    pixel_cross_entropy,
)
from torch_ref.losses.dice import BinaryDiceLoss, DiceLoss
from torch_ref.losses.focal import FocalLoss
from torch_ref.losses.joint import JointLoss, joint_probability
from torch_ref.losses.labels import split_labels
from torch_ref.losses.mining import Sampler, ohem, som, valid_mean

__all__ = [
    "AnnealedFocalLoss",
    "AuxiliaryLoss",
    "BinaryDiceLoss",
    "ClassBinaryLoss",
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
