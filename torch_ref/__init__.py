"""The PyTorch reference: a literal translation of the papers and the original code.

Twin of `factseg_paddle`, file by file, without speed tricks and without options that the comparison
does not need.
"""

from torch_ref.losses import JointLoss, joint_probability
from torch_ref.models import FactSeg

__all__ = ["FactSeg", "JointLoss", "joint_probability"]
