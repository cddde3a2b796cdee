"""Loading weights into a network: every tensor is accounted for, or nothing is loaded."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import paddle
from paddle import nn

from factseg_paddle.engine.run_files import MODEL_FILE
from factseg_paddle.files import shown
from factseg_paddle.folders import advice
from factseg_paddle.io import CheckpointError, load_plain

CLASSIFIER_PREFIXES = ("fc.", "classifier.", "features.norm5.")
"""What a checkpoint of ResNet, VGG or DenseNet has behind what a backbone takes from it."""

_PREFIX = "module."
_LISTED = 6


@dataclass(frozen=True)
class LoadReport:
    """What became of a file's tensors.

    Attributes:
        path: the file.
        used: names of the tensors that were loaded.
        unused: names of the file's tensors that the network has no place for.
        kept: names of the network's tensors that stayed as they were.
        reason: why the last two are there; "" where both are empty.
    """

    path: Path
    used: tuple[str, ...]
    unused: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    reason: str = ""

    def __bool__(self) -> bool:
        return bool(self.used)

    def __str__(self) -> str:
        text = f"{self.path}: {len(self.used)} tensors loaded"
        if self.unused:
            text += f", {len(self.unused)} not used ({_listed(self.unused)})"
        if self.kept:
            text += f", {len(self.kept)} kept as initialised ({_listed(self.kept)})"
        return f"{text}: {self.reason}" if self.reason else text


def read_weights(path: str | Path) -> tuple[Path, dict[str, np.ndarray]]:
    """Read the tensors of a `.pdparams` file or of a checkpoint folder.

    Published files are bare state dicts or hold one under "model"; `module.` before the names is
    dropped. No code of the file is run.

    Returns:
        The file itself, and its tensors by bare name.

    Raises:
        CheckpointError: it is missing, damaged, torch's, or no state dict.
    """
    path = Path(path)
    file = path / MODEL_FILE if path.is_dir() else path
    if path.suffix in (".pth", ".pt"):
        command = advice(script="python scripts/convert_torch2paddle.py", command="factseg convert")
        raise CheckpointError(f"{path} is a torch file; convert it first: {command} --input {path}")
    if not file.is_file():
        what = f"{path} has no {MODEL_FILE}" if path.is_dir() else f"the weights {path} don't exist"
        raise CheckpointError(f"{what}; give a .pdparams file or a checkpoint folder")
    content = load_plain(file)
    if isinstance(content, Mapping) and isinstance(content.get("model"), Mapping):
        content = content["model"]
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(f"{file} is no state dict")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, np.ndarray):
            kind = type(value).__name__
            raise CheckpointError(f"{file} is no state dict: {name!r} is of type {kind}, no tensor")
    prefixed = all(name.startswith(_PREFIX) for name in content)
    return file, {n.removeprefix(_PREFIX) if prefixed else n: a for n, a in content.items()}


def load_weights(model: nn.Layer, path: str | Path) -> LoadReport:
    """Load a checkpoint: all tensors, or all but the class heads of another class count.

    Args:
        model: a network with `num_classes`.
        path: see `read_weights`.

    Raises:
        CheckpointError: as `read_weights`, or a name or shape does not fit; nothing is loaded.
    """
    return set_weights(model, *read_weights(path))


def set_weights(model: nn.Layer, file: Path, arrays: Mapping[str, np.ndarray]) -> LoadReport:
    """Set what `read_weights` gave, as `load_weights` does.

    Raises:
        CheckpointError: a name or shape does not fit; nothing is loaded.
    """
    state = model.state_dict()
    differing, classes = _of_other_classes(state, arrays, model.num_classes)
    fitting = {name: array for name, array in arrays.items() if name not in differing}
    _set_all(state, fitting, file, kept=differing)
    reason = f"{classes} classes in the file, {model.num_classes} here" if differing else ""
    return LoadReport(file, tuple(fitting), differing, differing, reason)


def _of_other_classes(
    state: Mapping[str, paddle.Tensor], arrays: Mapping[str, np.ndarray], num_classes: int
) -> tuple[tuple[str, ...], int]:
    """Return the tensors that differ from the network's in the number of classes alone, and it.

    Nothing where the file's tensors do not agree on one number.
    """
    differing, counts = [], set()
    for name in filter(arrays.__contains__, state):
        ours, theirs = state[name].shape, arrays[name].shape
        if len(ours) != len(theirs):
            continue
        changed = [(a, b) for a, b in zip(ours, theirs, strict=True) if a != b]
        if {a for a, _ in changed} == {num_classes}:
            differing.append(name)
            counts |= {b for _, b in changed}
    layers = {name.rpartition(".")[0] for name in differing}
    beside = [name for name in state if name.rpartition(".")[0] in layers and name not in differing]
    if any(num_classes in state[name].shape for name in beside):
        return (), 0  # a head of which one tensor alone is of other classes is damaged
    return (tuple(differing), counts.pop()) if len(counts) == 1 else ((), 0)


def load_backbone(network: nn.Layer, path: str | Path) -> LoadReport:
    """Load torchvision's classification weights into a network's backbone, not the classifier.

    The biases of VGG16-BN's convolutions, where the network has none, go into the running means of
    the BatchNorms behind them, and linear weights, where the network has a convolution over the
    whole map, take its shape: the same functions.

    Args:
        network: with `backbone_layers()`, the layers by torchvision's names.
        path: see `read_weights`.

    Raises:
        CheckpointError: as `read_weights`, the network has no backbone, or a name or shape does
            not fit; nothing is loaded.
    """
    if not hasattr(network, "backbone_layers"):
        raise CheckpointError(
            f"{path} can't be used: {type(network).__name__} has no pretrained backbone"
        )
    file, arrays = read_weights(path)
    state = {
        f"{prefix}.{name}": tensor
        for prefix, layer in network.backbone_layers().items()
        for name, tensor in layer.state_dict().items()
    }
    unused = tuple(n for n in arrays if n.startswith(CLASSIFIER_PREFIXES) and n not in state)
    used = {name: array for name, array in arrays.items() if name not in unused}
    _set_all(state, _as_convolutions(_with_folded_biases(used, state), state), file)
    reason = "the encoder has no classifier" if unused else ""
    return LoadReport(file, tuple(used), unused, reason=reason)


def _with_folded_biases(
    arrays: Mapping[str, np.ndarray], state: Mapping[str, paddle.Tensor]
) -> dict[str, np.ndarray]:
    folded = dict(arrays)
    for name, bias in arrays.items():
        match = re.fullmatch(r"features\.(\d+)\.bias", name)
        mean = f"features.{int(match[1]) + 1}._mean" if match else ""
        if name not in state and mean in arrays:
            folded[mean] = arrays[mean] - bias
            del folded[name]
    return folded


def _as_convolutions(
    arrays: Mapping[str, np.ndarray], state: Mapping[str, paddle.Tensor]
) -> dict[str, np.ndarray]:
    shaped = dict(arrays)
    for name, tensor in state.items():
        out_channels, *receptive = tensor.shape
        if name in arrays and arrays[name].shape == (math.prod(receptive), out_channels):
            shaped[name] = arrays[name].T.reshape(tensor.shape)
    return shaped


def model_arrays(model: nn.Layer) -> dict[str, np.ndarray]:
    """Return a copy of all tensors by structured name."""
    return {name: np.array(tensor.numpy()) for name, tensor in model.state_dict().items()}


def _set_all(
    state: Mapping[str, paddle.Tensor],
    arrays: Mapping[str, np.ndarray],
    file: Path,
    kept: tuple[str, ...] = (),
) -> None:
    missing = [name for name in state if name not in arrays and name not in kept]
    foreign = [name for name in arrays if name not in state]
    misshapen = [
        f"{name} is {list(arrays[name].shape)}, should be {list(tensor.shape)}"
        for name, tensor in state.items()
        if name in arrays and list(arrays[name].shape) != list(tensor.shape)
    ]
    problems = [
        f"{len(names)} {what} ({_listed(names)})"
        for what, names in (
            ("tensors are missing", missing),
            ("tensors have no place here", foreign),
            ("tensors have another shape", misshapen),
        )
        if names
    ]
    if problems:
        raise CheckpointError(
            f"{file} does not fit this network, nothing was loaded: {'; '.join(problems)}"
        )
    with paddle.no_grad():
        for name, tensor in state.items():
            if name in arrays:
                tensor.set_value(_floats(arrays[name]).astype(_dtype(tensor)))


def _dtype(tensor: paddle.Tensor) -> str:
    return "float32" if tensor.dtype == paddle.bfloat16 else str(tensor.numpy().dtype)


def _floats(array: np.ndarray) -> np.ndarray:
    """Return float32 in the place of bfloat16, which comes as the upper half of its bits."""
    if array.dtype == np.uint16:
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array


def _listed(names: tuple[str, ...] | list[str]) -> str:
    listed = ", ".join(shown(name) for name in names[:_LISTED])
    return f"{listed}, …" if len(names) > _LISTED else listed
