"""FactSeg in PaddlePaddle: networks, losses, data, metrics. Never imports torch.

Paddle itself is imported with the first name that needs it: `factseg_paddle.data`, `.metrics` and
`.io` are numpy and work where Paddle is not installed. What Paddle's matrix library reads from the
environment is set here (`factseg_paddle.cpu`): nothing of ours imports Paddle before this package.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING

from factseg_paddle.cpu import kernel_settings, read_description

if TYPE_CHECKING:
    from factseg_paddle.losses import JointLoss, joint_probability
    from factseg_paddle.models import FactSeg, create_model, list_models

__all__ = ["FactSeg", "JointLoss", "create_model", "joint_probability", "list_models"]

_HOME = {
    "FactSeg": "factseg_paddle.models",
    "JointLoss": "factseg_paddle.losses",
    "create_model": "factseg_paddle.models",
    "joint_probability": "factseg_paddle.losses",
    "list_models": "factseg_paddle.models",
}

os.environ.update(kernel_settings(read_description(), sys.platform, os.environ))


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
