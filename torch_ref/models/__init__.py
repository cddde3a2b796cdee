"""The networks, in PyTorch."""

from torch_ref.models.creation import create_model, list_models
from torch_ref.models.factseg import FactSeg, FactSegOutput
from torch_ref.models.output import SegmentationOutput

__all__ = ["FactSeg", "FactSegOutput", "SegmentationOutput", "create_model", "list_models"]
