"""Checkpoint files for the converter tests."""

from pathlib import Path

import numpy as np
import torch

from alignment.torch_side.shapes import shapes_only
from scripts import convert_paddle2torch, convert_torch2paddle
from torch_ref import FactSeg
from torch_ref.models.backbones import BACKBONES

COUNTER = "num_batches_tracked"


def names_and_shapes(arch, backbone="resnet18", num_classes=5):
    """Torch names and shapes, from a model without memory."""
    with shapes_only():
        if arch == "factseg":
            model = FactSeg(num_classes=num_classes, backbone=backbone)
        else:
            model = BACKBONES[backbone](num_classes=num_classes)
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def random_state(arch, backbone="resnet18", num_classes=5, *, counters=True, seed=0):
    """A state dict of random float32 values; the counters count up."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for i, (name, shape) in enumerate(names_and_shapes(arch, backbone, num_classes).items()):
        if name.endswith(COUNTER):
            if counters:
                state[name] = torch.tensor(1000 + i)
        else:
            state[name] = torch.rand(shape, generator=generator)
    return state


def light_state(arch, backbone="resnet18", num_classes=5):
    """A state dict of full shapes whose file is small: each tensor is one number, expanded."""
    return {
        name: torch.tensor(3) if name.endswith(COUNTER) else torch.tensor(0.5).expand(shape)
        for name, shape in names_and_shapes(arch, backbone, num_classes).items()
    }


def there_and_back(folder, content):
    """Save as torch does, convert to Paddle and back, and load the result."""
    torch.save(content, folder / "a.pth")
    assert convert_torch2paddle.main(["--input", str(folder / "a.pth")]) == 0
    argv = ["--input", str(folder / "a.pdparams"), "--output", str(folder / "back.pth")]
    assert convert_paddle2torch.main(argv) == 0
    return load_torch(folder / "back.pth")


def load_torch(path: Path):
    return torch.load(path, weights_only=True)


def assert_same_tensors(got, expected):
    """Same names in the same order, same shapes, dtypes and bits (NaN included)."""
    assert list(got) == list(expected)
    for name, tensor in expected.items():
        assert got[name].dtype == tensor.dtype, name
        assert got[name].shape == tensor.shape, name
        ours, theirs = (bits(t) for t in (got[name], tensor))
        assert np.array_equal(ours, theirs), name


def bits(tensor: torch.Tensor) -> np.ndarray:
    """A tensor's bytes."""
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy()
