"""The networks, in PyTorch."""

from torch_ref.models.factseg import FactSeg, FactSegOutput

__all__ = ["FactSeg", "FactSegOutput"]
