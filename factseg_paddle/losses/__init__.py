"""The losses: of the joint probability, and those that the original offers beside it."""

from .class_binary import ClassBinaryLoss
from .cross_entropy import (
    CrossEntropyLoss,
    InverseFrequencyCrossEntropyLoss,
    OhemCrossEntropyLoss,
    pixel_cross_entropy,
)
from .dice import BinaryDiceLoss, DiceLoss
from .focal import FocalLoss
from .joint import Clone, JointLoss, joint_probability
from .labels import split_labels
from .mining import Sampler, ohem, som, valid_mean

__all__ = [
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
    "joint_probability",
    "ohem",
    "pixel_cross_entropy",
    "som",
    "split_labels",
    "valid_mean",
]
