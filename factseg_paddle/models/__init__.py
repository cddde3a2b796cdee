"""The networks, in PaddlePaddle."""

from factseg_paddle.models.factseg import FactSeg, FactSegOutput

__all__ = ["FactSeg", "FactSegOutput"]
