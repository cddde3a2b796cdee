"""The tensors of live models, and how a torch model's weights get into a Paddle model.

What differs between the frameworks, by layer type (paddle 3.3.1, torch 2.13): `Linear.weight` is
[in, out] in Paddle; BatchNorm keeps `_mean` and `_variance` and counts no batches;
MultiheadAttention's fused projection is three Linears; PReLU and InstanceNorm name their weights
otherwise; Bilinear's bias has a leading 1. LSTM, GRU, SimpleRNN and their cells agree in names,
shapes and gate order.

Neither framework is imported until a function here is given one of its models.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from alignment.weights.matching import match
from alignment.weights.suggestions import nearest
from alignment.weights.tensors import Convert, PaddleTensor, TensorSpec, WeightMap, WeightsError

if TYPE_CHECKING:
    import paddle
    import torch


def match_models(
    module: torch.nn.Module,
    layer: paddle.nn.Layer,
    *,
    rename: Mapping[str, str] | None = None,
    convert: Convert | None = None,
) -> WeightMap:
    """Join the tensors of two live models; see `alignment.weights.matching.match`."""
    return match(torch_specs(module), paddle_tensors(layer), rename=rename, convert=convert)


def torch_specs(module: torch.nn.Module) -> tuple[TensorSpec, ...]:
    """Return what each tensor of a torch model becomes in Paddle, by the type of its layer.

    Works on `torch.device("meta")` too. Fused tensors give one spec per part.
    """
    first_names: dict[int, str] = {}
    specs: list[TensorSpec] = []
    for name, tensor in _torch_tensors(module):
        path, _, local = name.rpartition(".")
        first = first_names.setdefault(id(tensor), name)
        owner = module.get_submodule(path)
        for paddle_local, layout, rows in _parts(owner, local, tensor):
            paddle_name = paddle_local and f"{path}.{paddle_local}".lstrip(".")
            # An attention's projections are Linears of their own in Paddle.
            fused = (paddle_local or "").count(".") > local.count(".")
            kind = "linear" if fused else _kind(owner)
            shape = tuple(tensor.shape)
            specs.append(TensorSpec(name, shape, paddle_name, layout, rows, first, kind))
    return tuple(specs)


def paddle_tensors(layer: paddle.nn.Layer) -> tuple[PaddleTensor, ...]:
    """Return a Paddle model's tensors; names that share a tensor (LSTM has such) count once."""
    from paddle import nn

    groups: dict[int, list[str]] = {}
    tensors = layer.state_dict()
    for name, tensor in tensors.items():
        groups.setdefault(id(tensor), []).append(name)
    linears = [sub for sub in layer.sublayers(include_self=True) if isinstance(sub, nn.Linear)]
    linear_weights = {id(linear.weight) for linear in linears}
    owners = dict(layer.named_sublayers(include_self=True))
    return tuple(
        PaddleTensor(
            first,
            tuple(tensors[first].shape),
            tuple(others),
            key in linear_weights,
            _kind(owners.get(first.rpartition(".")[0])),
        )
        for key, (first, *others) in groups.items()
    )


def torch_state(module: torch.nn.Module) -> dict[str, np.ndarray]:
    """Return a torch model's tensors as arrays (copies) by first name, in state-dict order.

    bfloat16 is given as uint16 with the same bits, as in Paddle's files.
    """
    state: dict[int, tuple[str, np.ndarray]] = {}
    for name, tensor in _torch_tensors(module):
        if id(tensor) not in state:
            state[id(tensor)] = name, array_of_torch(tensor)
    return dict(state.values())


def paddle_state(layer: paddle.nn.Layer) -> dict[str, np.ndarray]:
    """Return a Paddle model's tensors as arrays (copies) by first name; bfloat16 as uint16 bits."""
    tensors = layer.state_dict()
    return {entry.name: np.array(tensors[entry.name].numpy()) for entry in paddle_tensors(layer)}


def load_torch_state(module: torch.nn.Module, state: Mapping[str, np.ndarray]) -> None:
    """Copy arrays into a torch model; every tensor by its first name, all or none.

    Raises:
        WeightsError: A name is missing or extra, a shape or dtype differs; all are listed.
    """
    import torch

    first_names = {entry.first_name: None for entry in torch_specs(module)}
    tensors = {name: tensor for name, tensor in _torch_tensors(module) if name in first_names}
    current = {name: (tuple(t.shape), str(t.dtype)[6:]) for name, t in tensors.items()}
    _check_fit("torch", current, state)
    with torch.no_grad():
        for name, tensor in tensors.items():
            tensor.copy_(torch_of_array(state[name]))


def load_paddle_state(layer: paddle.nn.Layer, state: Mapping[str, np.ndarray]) -> None:
    """Copy arrays into a Paddle model; every tensor by its first name, all or none.

    `set_state_dict` only warns about what does not fit; this raises.

    Raises:
        WeightsError: A name is missing or extra, a shape or dtype differs; all are listed.
    """
    tensors = layer.state_dict()
    tensors = {entry.name: tensors[entry.name] for entry in paddle_tensors(layer)}
    current = {n: (tuple(t.shape), str(t.dtype).rpartition(".")[2]) for n, t in tensors.items()}
    _check_fit("Paddle", current, state)
    for name, tensor in tensors.items():
        tensor.set_value(np.array(state[name], order="C"))


def array_of_torch(tensor: torch.Tensor) -> np.ndarray:
    """Return a tensor's values as a C-ordered copy; bfloat16, which numpy lacks, as uint16 bits."""
    import torch

    tensor = tensor.detach().cpu().contiguous()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(np.uint16).copy()
    return tensor.numpy().copy()


def torch_of_array(array: np.ndarray) -> torch.Tensor:
    """Return the tensor that `array_of_torch` gives as `array`; uint16 becomes bfloat16."""
    import torch

    array = np.array(array, order="C")
    if array.dtype == np.uint16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


# Layer types ---------------------------------------------------------------------------------

_OTHER_NAMES = {"nondynamicallyquantizablelinear": "linear", "simplernn": "rnn"}


def _kind(layer: object) -> str:
    """Return a layer's kind in torch's spelling, lower case; "" for what neither framework has."""
    for cls in type(layer).__mro__:
        if cls.__module__.startswith(("torch.nn.modules", "paddle.nn.layer")):
            name = re.sub(r"conv(\d)dtranspose", r"convtranspose\1d", cls.__name__.lower())
            return "" if name in ("module", "layer") else _OTHER_NAMES.get(name, name)
    return ""


_Part = tuple[str | None, str, tuple[int, int] | None]  # name in the Paddle layer, layout, rows


def _parts(owner: torch.nn.Module, local: str, tensor: torch.Tensor) -> list[_Part]:
    """Return what becomes of the tensor `local` of a torch layer; most stay as they are."""
    from torch import nn
    from torch.nn.modules import batchnorm, instancenorm

    by_type: tuple[tuple[type, dict[str, _Part]], ...] = (
        (nn.Linear, {"weight": ("weight", "transposed", None)}),
        (
            batchnorm._BatchNorm,
            {
                "running_mean": ("_mean", "same", None),
                "running_var": ("_variance", "same", None),
                "num_batches_tracked": (None, "same", None),
            },
        ),
        (
            instancenorm._InstanceNorm,
            {"weight": ("scale", "same", None), "num_batches_tracked": (None, "same", None)},
        ),
        (nn.PReLU, {"weight": ("_weight", "same", None)}),
        (nn.Bilinear, {"bias": ("bias", "row", None)}),
    )
    if isinstance(owner, nn.MultiheadAttention):
        return _attention_parts(local, tensor)
    for kind, parts in by_type:
        if isinstance(owner, kind) and local in parts:
            return [parts[local]]
    return [(local, "same", None)]


def _attention_parts(local: str, tensor: torch.Tensor) -> list[_Part]:
    letters = "qkv"
    if local in ("in_proj_weight", "in_proj_bias"):
        width = tensor.shape[0] // 3
        kind = local.removeprefix("in_proj_")
        layout = "transposed" if kind == "weight" else "same"
        return [
            (f"{letter}_proj.{kind}", layout, (i * width, (i + 1) * width))
            for i, letter in enumerate(letters)
        ]
    if local in {f"{letter}_proj_weight" for letter in letters}:
        return [(f"{local[0]}_proj.weight", "transposed", None)]
    return [(local, "same", None)]  # bias_k and bias_v have no counterpart and will be reported


def _torch_tensors(module: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    import torch

    for name, value in module.state_dict(keep_vars=True).items():
        if not isinstance(value, torch.Tensor):
            raise WeightsError(f"torch's {name} is extra state of its layer, not a tensor")
        yield name, value


def _check_fit(
    side: str, current: Mapping[str, tuple[tuple[int, ...], str]], state: Mapping[str, np.ndarray]
) -> None:
    problems = []
    for name in current.keys() | state.keys():
        if name not in state:
            problems.append(f"{name} is missing")
        elif name not in current:
            close = nearest(name, current)
            problems.append(f"{name} is extra" + (f" (nearest: {close})" if close else ""))
        else:
            dtype = "bfloat16" if state[name].dtype == np.uint16 else str(state[name].dtype)
            if (state[name].shape, dtype) != current[name]:
                shape, dtype_of_model = current[name]
                received = f"{dtype} {list(state[name].shape)}"
                problems.append(f"{name} is {dtype_of_model} {list(shape)} and is given {received}")
    if problems:
        raise WeightsError(f"the weights don't fit the {side} model: {'; '.join(sorted(problems))}")
