"""What lies in a `.pdopt` file of ours: an optimizer's state by structured parameter names.

Paddle's own `state_dict` is keyed by automatic parameter names, which change with every model that
a process builds, and knows no step count: Adam has powers of beta, which underflow. Here the state
is a plain dictionary, made and read by any process:

    {"type": "Momentum" | "SGD" | "Adam" | "AdamW",
     "step": int, the steps done,
     "state": {structured parameter name: {entry: array}},
     "scheduler": {"last_epoch": int, "last_lr": float}, or {} for a fixed rate}

Entries are `velocity` (Momentum), `moment1`, `moment2` and, with AMSGrad, `moment2_max` (Adam and
AdamW), each of the parameter's shape, and `master_weight` where a float16 or bfloat16 parameter has
one. A parameter that got no gradient so far has no state. Adam's `step` of a single parameter is an
entry of its own only where it is not the common one. Two further keys may be there and decide
nothing here: `groups`, the hyperparameters for torch, and `torch_scheduler`, torch's own record.

bfloat16 arrays are uint16 with the same bits, as in Paddle's files.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

ENTRIES = {
    "SGD": (),
    "Momentum": ("velocity",),
    "Adam": ("moment1", "moment2"),
    "AdamW": ("moment1", "moment2"),
}


class OptimizerStateError(ValueError):
    """An optimizer's state that does not fit or can't be understood; one sentence."""


def check_form(state: object) -> None:
    """See that a value read from a file is a state of the form above.

    Raises:
        OptimizerStateError: It is not; the sentence says where.
    """
    required = {"type", "step", "state", "scheduler"}
    if not isinstance(state, Mapping) or not required <= state.keys():
        lacking = required - (state.keys() if isinstance(state, Mapping) else set())
        raise OptimizerStateError(
            f"it is no optimizer state: {', '.join(sorted(lacking))} is missing"
        )
    unknown = state.keys() - required - {"groups", "torch_scheduler"}
    require(not unknown, f"it has unknown entries: {', '.join(sorted(map(str, unknown)))}")
    is_known = isinstance(state["type"], str) and state["type"] in ENTRIES
    require(is_known, f"its type {state['type']!r} is none of {[*ENTRIES]}")
    require(_is_count(state["step"]), f"its step is {state['step']!r}")
    scheduler = state["scheduler"]
    if scheduler != {}:
        is_right = isinstance(scheduler, Mapping) and scheduler.keys() == {"last_epoch", "last_lr"}
        is_right = is_right and type(scheduler["last_epoch"]) is int
        is_right = is_right and isinstance(scheduler["last_lr"], int | float)
        require(is_right, f"its scheduler is {scheduler!r}, not a last_epoch and a last_lr")
    require(isinstance(state["state"], Mapping), "its state is no dictionary")
    for name, entries in state["state"].items():
        require(isinstance(name, str), f"a parameter is called {name!r}")
        require(isinstance(entries, Mapping), f"the state of {name} is no dictionary")
        _check_entries(name, entries)
    groups = state.get("groups", [{"parameters": []}])
    require(isinstance(groups, list) and groups, "its groups are no list")
    for group in groups:
        names = group.get("parameters") if isinstance(group, Mapping) else None
        is_right = isinstance(names, list) and all(isinstance(name, str) for name in names)
        require(is_right, "a group has no parameters")


def _check_entries(name: str, entries: Mapping[str, Any]) -> None:
    known = {"velocity", "moment1", "moment2", "moment2_max", "master_weight", "step"}
    unknown = ", ".join(sorted(map(str, entries.keys() - known)))
    require(not unknown, f"{name} has unknown entries: {unknown}")
    for entry, value in entries.items():
        if entry == "step":
            is_step = np.ndim(value) == 0 and float(value) == int(value) >= 0
            require(is_step, f"the step of {name} is {value!r}")
        else:
            require(hasattr(value, "__array__"), f"{entry} of {name} is no array")


def require(is_right: object, message: str) -> None:
    """Raise an `OptimizerStateError` unless it is right."""
    if not is_right:
        raise OptimizerStateError(message)


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 63
