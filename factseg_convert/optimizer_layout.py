"""torch's optimizer state to Paddle's form (`factseg_paddle.optimizers.state_format`) and back.

torch numbers the parameters in the order in which its optimizer got them, over all groups. Which
number is which parameter is known from the groups' `param_names` (an optimizer that was given
`named_parameters()` has them) or, for one group over the whole model, from the model's own order;
it is never guessed from shapes, which only have to agree.

Arrays change their layout as the weights do: a Linear's momentum is transposed with its weight.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from alignment.weights.models import array_of_torch, torch_of_array
from alignment.weights.optimizer_slots import ENTRIES
from alignment.weights.tensors import Source, TensorSpec, WeightMap, WeightsError
from factseg_convert.torch_optimizer import (
    check_shapes,
    defaults_of,
    groups_of,
    is_complete,
    is_usual_step,
    kind_of,
    named_state,
    names_of,
    plain,
    step_count,
    tensors,
)
from factseg_paddle.optimizers.state_format import OptimizerStateError, check_form


def to_paddle(
    opt: Mapping[str, Any],
    parameters: Mapping[str, Sequence[int]],
    weights: WeightMap,
    *,
    step: int | None = None,
    scheduler: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the state of a torch SGD, Adam or AdamW in Paddle's form.

    Args:
        opt: `optimizer.state_dict()`.
        parameters: The model's parameters in its own order, name -> shape; without buffers.
        weights: What Paddle makes of torch's tensors: of `match_models`, or `map_of_specs`.
        step: Steps done, for SGD, which doesn't count them; Adam's own count comes first.
        scheduler: torch's `scheduler.state_dict()`; None for a fixed rate.

    Returns:
        Paddle's form with `groups`: every value of torch's groups, with Paddle's names.

    Raises:
        OptimizerStateError: Another optimizer, entries that are not known, parameters that can't
            be told or whose shapes differ; one sentence.
    """
    groups = groups_of(opt)
    kind = kind_of(groups)
    names = names_of(groups, list(parameters))
    entries = named_state(opt.get("state"), names)
    check_shapes(entries, parameters)
    steps = {name: state.pop("step") for name, state in entries.items() if "step" in state}
    common = max((step_count(name, value) for name, value in steps.items()), default=step or 0)
    state = _arrays_to_paddle(entries, weights)
    for source in weights.sources:
        step_of_parameter = steps.get(source.torch_names[0])
        if (
            source.paddle_name in state
            and step_of_parameter is not None
            and not is_usual_step(step_of_parameter, common)
        ):
            state[source.paddle_name]["step"] = plain(step_of_parameter)
    result = {
        "type": kind,
        "step": common,
        "state": state,
        "scheduler": {},
        "groups": _groups_to_paddle(groups, names, weights),
    }
    if scheduler is not None:
        result |= {"scheduler": _position(scheduler), "torch_scheduler": plain(scheduler)}
    try:
        check_form(result)
    except OptimizerStateError as error:
        raise OptimizerStateError(f"in Paddle's form {error}") from error
    return result


def to_torch(
    state: Mapping[str, Any],
    parameters: Mapping[str, Sequence[int]],
    specs: Iterable[TensorSpec],
) -> dict[str, Any]:
    """Return Paddle's form as torch's `optimizer.state_dict()`.

    Hyperparameters that the state does not have are torch's defaults for its type; the rate comes
    from the scheduler's position, and Momentum's is Paddle's default of 0.9.

    Args:
        state: As `optimizer_state` or `to_paddle` made it.
        parameters: torch's parameters in the model's order, name -> shape; without buffers.
        specs: What each torch tensor becomes in Paddle.

    Raises:
        OptimizerStateError: Not such a state, or its names or shapes are not the model's.
    """
    check_form(state)
    specs = [spec for spec in specs if spec.first_name in parameters and spec.paddle_name]
    torch_names = {str(spec.paddle_name): spec.first_name for spec in specs}
    groups = state.get("groups", [{"parameters": list(torch_names)}])
    defaults = {} if is_complete(state["type"], groups) else defaults_of(state)
    groups = [{**defaults, **tensors(group)} for group in groups]
    _check_names(state["state"], groups, torch_names)
    members = [list(dict.fromkeys(torch_names[n] for n in g.pop("parameters"))) for g in groups]
    ids = {name: i for i, name in enumerate(name for names in members for name in names)}
    # Names are written where the order alone would not tell.
    is_named = len(groups) > 1 or members != [list(parameters)]
    for group, names in zip(groups, members, strict=True):
        if is_named:
            group.setdefault("param_names", names)
        group["params"] = [ids[name] for name in names]
    order = dict.fromkeys(torch_names[name] for name in state["state"])
    return {
        "state": {ids[name]: _entries_to_torch(name, state, specs) for name in order},
        "param_groups": groups,
    }


def scheduler_to_torch(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a torch `scheduler.state_dict()`: the one that came from torch, or a position's."""
    if "torch_scheduler" in state:
        return tensors(state["torch_scheduler"])
    position = state["scheduler"]
    count, epoch = len(state.get("groups", [None])), position["last_epoch"]
    return {
        "last_epoch": epoch,
        "_step_count": epoch + 1,
        "_last_lr": [position["last_lr"]] * count,
        "lr_lambdas": [None] * count,  # LambdaLR asks for it; None keeps its own functions
    }


def map_of_specs(specs: Iterable[TensorSpec]) -> WeightMap:
    """Return the map of a Paddle model that has just the specs' tensors, under their names."""
    sources = [
        Source(
            spec.paddle_name,
            spec.paddle_shape,
            (spec.first_name,),
            spec.to_paddle,
            spec.paddle_name if spec.rows else spec.torch_name,
        )
        for spec in specs
        if spec.paddle_name and spec.torch_name == spec.first_name
    ]
    return WeightMap(tuple(sources), ())


def without_counterpart(state: Mapping[str, Any]) -> list[str]:
    """Return the values of the groups that the other framework's optimizer can't do."""
    neutral = {"dampening": 0, "maximize": False, "l1_decay": 0.0}
    return sorted(
        {
            f"{key}={group[key]}"
            for group in state.get("groups", [])
            for key, value in neutral.items()
            if group.get(key, value) != value
        }
    )


# Groups and names ----------------------------------------------------------------------------


def _groups_to_paddle(
    groups: Sequence[Mapping[str, Any]], names: Sequence[str], weights: WeightMap
) -> list[dict[str, Any]]:
    in_paddle = []
    for group in groups:
        members = [names[i] for i in group["params"]]
        paddle_names = [
            source.paddle_name
            for name in members
            for source in weights.sources
            if source.torch_names[0] == name
        ]
        values = {key: plain(value) for key, value in group.items() if key != "params"}
        in_paddle.append({**values, "parameters": paddle_names})
    return in_paddle


def _check_names(
    state: Mapping[str, Any], groups: Sequence[Mapping[str, Any]], known: Mapping[str, str]
) -> None:
    grouped = [name for group in groups for name in group.get("parameters", [])]
    strange = sorted({name for name in (*state, *grouped) if name not in known})
    if strange:
        raise OptimizerStateError(f"it has parameters that the model lacks: {', '.join(strange)}")
    stray = [name for name in state if name not in grouped]
    if stray or len(set(grouped)) < len(grouped):
        raise OptimizerStateError(f"its groups don't hold each parameter once: {', '.join(stray)}")


# Arrays --------------------------------------------------------------------------------------


def _arrays_to_paddle(
    entries: Mapping[str, Mapping[str, Any]], weights: WeightMap
) -> dict[str, dict[str, Any]]:
    """Return the arrays by Paddle's names, in the order of the torch parameters they come from."""
    known = {name for source in weights.sources for name in source.torch_names}
    lacking = [name for name in entries if name not in known]
    if lacking:
        raise OptimizerStateError(f"Paddle has no counterpart of {', '.join(lacking)}")
    order = {name: i for i, name in enumerate(entries)}
    sources = [source for source in weights.sources if source.torch_names[0] in order]
    sources.sort(key=lambda source: order[source.torch_names[0]])
    by_parameter: dict[str, dict[str, Any]] = {source.paddle_name: {} for source in sources}
    for key, entry in ENTRIES.items():
        arrays = {n: array_of_torch(slots[key]) for n, slots in entries.items() if key in slots}
        try:
            converted = weights.to_paddle(arrays)
        except WeightsError as error:
            raise OptimizerStateError(str(error)) from error
        for paddle_name, array in converted.items():
            by_parameter[paddle_name][entry] = array
    return by_parameter


def _entries_to_torch(
    name: str, state: Mapping[str, Any], specs: Sequence[TensorSpec]
) -> dict[str, Any]:
    import torch

    parts = [spec for spec in specs if spec.first_name == name and spec.torch_name == name]
    entries = [state["state"].get(spec.paddle_name, {}) for spec in parts]
    if any(part.keys() != entries[0].keys() for part in entries):
        raise OptimizerStateError(f"{name} is made of parameters whose states have other entries")
    in_torch: dict[str, Any] = {}
    if state["type"] in ("Adam", "AdamW"):
        step = entries[0].get("step", torch.tensor(float(state["step"]), dtype=torch.float32))
        in_torch["step"] = tensors(step)
    for key, entry in ENTRIES.items():
        if entry in entries[0]:
            arrays = [np.asarray(part[entry]) for part in entries]
            in_torch[key] = torch_of_array(_joined(entry, arrays, parts))
    # torch keeps this for a parameter that it stepped without momentum.
    return in_torch or {"momentum_buffer": None}


def _joined(entry: str, arrays: Sequence[np.ndarray], parts: Sequence[TensorSpec]) -> np.ndarray:
    """Return the torch array of its parts: one, or the rows of a fused tensor in order."""
    for array, part in zip(arrays, parts, strict=True):
        if array.shape != part.paddle_shape:
            shape = list(part.paddle_shape)
            raise OptimizerStateError(
                f"{entry} of {part.paddle_name} is {list(array.shape)}, should be {shape}"
            )
    if not parts[0].rows:
        return parts[0].to_torch(arrays[0])
    pairs = zip(arrays, parts, strict=True)
    return np.concatenate([a.T if part.layout == "transposed" else a for a, part in pairs])


# Values --------------------------------------------------------------------------------------


def _position(scheduler: Mapping[str, Any]) -> dict[str, Any]:
    epoch, rates = scheduler.get("last_epoch"), scheduler.get("_last_lr")
    if type(epoch) is not int or not isinstance(rates, list) or not rates:
        raise OptimizerStateError("the scheduler beside it has no last_epoch and _last_lr")
    return {"last_epoch": epoch, "last_lr": float(rates[0])}
