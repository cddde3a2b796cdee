"""The networks, in PaddlePaddle."""

from factseg_paddle.models.creation import create_model, list_models
from factseg_paddle.models.factseg import FactSeg, FactSegOutput
from factseg_paddle.models.output import SegmentationOutput

__all__ = ["FactSeg", "FactSegOutput", "SegmentationOutput", "create_model", "list_models"]
