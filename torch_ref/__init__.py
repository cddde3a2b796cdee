"""The PyTorch reference: a literal translation of the papers and the original code.

Twin of `factseg_paddle`, file by file, without speed tricks and without options that the comparison
does not need. torch is imported with the first name that needs it: `torch_ref.data` and `.metrics`
are plain Python and numpy, and work where torch is not installed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch_ref.losses import JointLoss, joint_probability
    from torch_ref.models import FactSeg, create_model, list_models

__all__ = ["FactSeg", "JointLoss", "create_model", "joint_probability", "list_models"]

_HOME = {
    "FactSeg": "torch_ref.models",
    "JointLoss": "torch_ref.losses",
    "create_model": "torch_ref.models",
    "joint_probability": "torch_ref.losses",
    "list_models": "torch_ref.models",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
