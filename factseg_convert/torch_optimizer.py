"""What a torch `optimizer.state_dict()` says: its type, its parameters' names, their state.

Everything that can't be told is refused with one sentence, and so is everything unknown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from alignment.weights.models import array_of_torch, torch_of_array
from alignment.weights.optimizer_slots import ENTRIES
from factseg_paddle.optimizers.state_format import OptimizerStateError

# The values that every group of the type has, in every version of torch.
_SGD = ("lr", "momentum", "dampening", "weight_decay", "nesterov")
_ADAM = ("lr", "betas", "eps", "weight_decay", "amsgrad")

_NO_NAMES = "save the state of an optimizer that was given named_parameters()"


def groups_of(opt: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the groups, whose parameters are numbered from 0 through all of them."""
    groups = opt.get("param_groups")
    if not isinstance(groups, list) or not groups or not all(isinstance(g, dict) for g in groups):
        raise OptimizerStateError("it has no param_groups")
    ids = [i for group in groups for i in group.get("params", [None])]
    if ids != list(range(len(ids))):
        raise OptimizerStateError("its groups don't number their parameters from 0")
    return groups


def kind_of(groups: Sequence[Mapping[str, Any]]) -> str:
    """Return Paddle's name of the type, which torch's file tells only by its groups' values."""
    if all(set(_SGD) <= group.keys() for group in groups):
        return "Momentum" if any(group["momentum"] for group in groups) else "SGD"
    if not all(set(_ADAM) <= group.keys() for group in groups):
        keys = ", ".join(str(key) for key in groups[0] if key not in ("params", "param_names"))
        raise OptimizerStateError(f"it is not of SGD, Adam or AdamW; its groups have {keys}")
    if all("decoupled_weight_decay" in group for group in groups):
        return "AdamW" if any(group["decoupled_weight_decay"] for group in groups) else "Adam"
    if any(group["weight_decay"] for group in groups):
        raise OptimizerStateError(
            "it is of Adam or AdamW with weight decay, and torch before 2.6 does not say which"
        )
    return "Adam"  # the two are the same without decay


def names_of(groups: Sequence[Mapping[str, Any]], parameters: Sequence[str]) -> list[str]:
    """Return the parameters' names by number."""
    names = [name for group in groups for name in group.get("param_names", [])]
    count = sum(len(group["params"]) for group in groups)
    if not names:
        if len(groups) > 1:
            raise OptimizerStateError(
                f"it has {len(groups)} groups without names, so which parameter is in which can't "
                f"be told; {_NO_NAMES}"
            )
        if count != len(parameters):
            raise OptimizerStateError(
                f"it is over {count} parameters without names and the model has "
                f"{len(parameters)}; {_NO_NAMES}"
            )
        return list(parameters)
    known = {name: name for name in parameters} | {f"module.{name}": name for name in parameters}
    strange = [name for name in names if name not in known]
    if strange:
        raise OptimizerStateError(f"it names parameters that the model lacks: {strange}")
    if len(names) != count or len(set(names)) != count:
        raise OptimizerStateError(f"it names {len(set(names))} parameters and numbers {count}")
    return [known[name] for name in names]


def named_state(state: object, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the state by name, without the buffers that are None, in the state's order."""
    import torch

    if not isinstance(state, dict) or not all(isinstance(e, dict) for e in state.values()):
        raise OptimizerStateError("it has no state by parameter")
    strange = [key for key in state if not (type(key) is int and 0 <= key < len(names))]
    if strange:
        raise OptimizerStateError(f"it has state of parameters that no group has: {strange}")
    unknown = {str(key) for entries in state.values() for key in entries} - {*ENTRIES, "step"}
    if unknown:
        raise OptimizerStateError(f"its state has unknown entries: {', '.join(sorted(unknown))}")
    named = {
        names[i]: {key: value for key, value in entries.items() if value is not None}
        for i, entries in state.items()
    }
    for name, entries in named.items():
        for key, value in entries.items():
            if not isinstance(value, torch.Tensor) and not (key == "step" and _is_plain(value)):
                raise OptimizerStateError(f"{key} of {name} is no tensor")
    return named


def check_shapes(
    entries: Mapping[str, Mapping[str, Any]], parameters: Mapping[str, Sequence[int]]
) -> None:
    """See that each entry has its parameter's shape, and each step none."""
    problems = [
        f"{key} of {name} is {list(_shape(value))}, its parameter is {list(parameters[name])}"
        for name, arrays in entries.items()
        for key, value in arrays.items()
        if _shape(value) != (() if key == "step" else tuple(parameters[name]))
    ]
    if problems:
        raise OptimizerStateError(f"its shapes are not the model's: {'; '.join(problems)}")


def step_count(name: str, step: Any) -> int:
    """Return the steps that one parameter has done."""
    value = float(step)
    if not (value >= 0 and value.is_integer()):
        raise OptimizerStateError(f"the step of {name} is {value}")
    return int(value)


def is_usual_step(step: Any, common: int) -> bool:
    """Return whether torch would make the same tensor of the common count again."""
    import torch

    return isinstance(step, torch.Tensor) and step.dtype == torch.float32 and int(step) == common


def is_complete(kind: str, groups: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether torch itself would make the hyperparameters and type of the groups."""
    if kind in ("SGD", "Momentum"):
        return all(set(_SGD) <= group.keys() for group in groups)
    return all(
        set(_ADAM) <= group.keys()
        and ("decoupled_weight_decay" in group or group["weight_decay"] == 0)
        for group in groups
    )


def defaults_of(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a group of torch's optimizer where the state has none."""
    import torch

    kind = state["type"]
    make = getattr(torch.optim, {"Momentum": "SGD"}.get(kind, kind))
    (defaults,) = make([torch.zeros(1)]).state_dict()["param_groups"]
    del defaults["params"]
    if state["scheduler"]:
        defaults["lr"] = state["scheduler"]["last_lr"]
    if kind == "Momentum":
        defaults["momentum"] = 0.9
    if any("moment2_max" in entries for entries in state["state"].values()):
        defaults["amsgrad"] = True
    return defaults


def plain(value: Any) -> Any:
    """Return a value of a torch file with arrays for tensors, as a `.pdopt` can hold it."""
    import torch

    if isinstance(value, torch.Tensor):
        return array_of_torch(value)
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(plain(item) for item in value)
    if isinstance(value, np.generic):
        return value.item()
    if not _is_plain(value):
        raise OptimizerStateError(f"it holds a {type(value).__name__}")
    return value


def tensors(value: Any) -> Any:
    """Return the value that `plain` made plain."""
    if isinstance(value, np.ndarray):
        return torch_of_array(value)
    if isinstance(value, Mapping):
        return {key: tensors(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(tensors(item) for item in value)
    return value


def _is_plain(value: object) -> bool:
    return isinstance(value, bool | int | float | str | bytes | None)


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(getattr(value, "shape", ()))
