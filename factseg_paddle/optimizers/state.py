"""Taking an optimizer's state out of it and putting it into another, of any process.

Paddle's own `state_dict` is keyed by automatic parameter names, which change with every model that
a process builds, and knows no step count: Adam has powers of beta, which underflow. The form of
`optimizers.state_format` has structured names and the count; the powers are made of it again.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from factseg_paddle.optimizers.hyperparameters import options_of
from factseg_paddle.optimizers.state_format import ENTRIES, OptimizerStateError, check_form, require

if TYPE_CHECKING:
    import paddle

_BETA_POWERS = {"beta1_pow_acc": "_beta1", "beta2_pow_acc": "_beta2"}


def optimizer_state(
    model: paddle.nn.Layer, optimizer: paddle.optimizer.Optimizer, step: int
) -> dict[str, Any]:
    """Return a live optimizer's state in the form of a `.pdopt`, arrays copied, with `groups`.

    Args:
        model: The layer that holds all of the optimizer's parameters.
        optimizer: Momentum, SGD, Adam or AdamW.
        step: How many steps it has done.

    Raises:
        OptimizerStateError: Another kind of optimizer, parameters that are not the model's, a
            scheduler that keeps more than its position, or fewer steps than Adam has done.
    """
    kind = _kind(optimizer)
    names = _names(model, optimizer)
    state = {}
    for parameter, group in _parameters(optimizer):
        entries = {
            entry: _array(tensor) for entry, tensor in _tensors(optimizer, parameter).items()
        }
        if not entries:
            continue
        if kind in ("Adam", "AdamW"):
            own_step = _own_step(optimizer, parameter, group, step)
            entries |= {} if own_step == step else {"step": np.array(own_step, np.int64)}
        state[names[parameter.name]] = entries
    return {
        "type": kind,
        "step": int(step),
        "state": state,
        "scheduler": _position(optimizer._learning_rate),
        "groups": options_of(optimizer, _parameters(optimizer), names),
    }


def load_optimizer_state(
    model: paddle.nn.Layer, optimizer: paddle.optimizer.Optimizer, state: Mapping[str, Any]
) -> None:
    """Put a state into an optimizer, fresh or used, so that its next step goes on from there.

    Whatever the optimizer held before is forgotten. Its hyperparameters stay its own; a fixed rate
    is one of them.

    Args:
        model: The layer that holds all of the optimizer's parameters.
        optimizer: One of the state's type over the same parameters.
        state: As `optimizer_state` or a converter made it, arrays or tensors.

    Raises:
        OptimizerStateError: Another type; a name, shape, dtype or entry that does not fit; a
            scheduler on one side only. All are listed, and nothing has changed.
    """
    kind = _kind(optimizer)
    check_form(state)
    if state["type"] != kind:
        raise OptimizerStateError(f"the state is of {state['type']}, the optimizer is {kind}")
    scheduler = optimizer._learning_rate
    if bool(state["scheduler"]) != bool(_position(scheduler)):
        has = "a scheduler's position" if state["scheduler"] else "no scheduler's position"
        kept = "a fixed rate" if state["scheduler"] else f"a {type(scheduler).__name__}"
        raise OptimizerStateError(f"the state has {has}, but the optimizer has {kept}")
    if kind != "SGD" and state["step"] and not any(state["state"].values()):
        raise OptimizerStateError(f"the state has no tensors after {state['step']} steps of {kind}")
    _replace(optimizer, _names(model, optimizer), state)
    for key, value in state["scheduler"].items():
        setattr(scheduler, key, value)


# The optimizer's inside, as of paddle 3.3.1 --------------------------------------------------


def _kind(optimizer: paddle.optimizer.Optimizer) -> str:
    kind = type(optimizer).__name__
    require(kind in ENTRIES, f"the optimizer is {kind}; known are {', '.join(ENTRIES)}")
    # It keeps second references to its tensors, which a load would leave behind.
    require(not optimizer._use_multi_tensor, f"give {kind} use_multi_tensor=False")
    return kind


def _parameters(optimizer: paddle.optimizer.Optimizer) -> Iterator[tuple[Any, dict | None]]:
    """Return each parameter and its group; None where the optimizer was given no groups."""
    for item in optimizer._param_groups:
        if isinstance(item, dict):
            yield from ((parameter, item) for parameter in item["params"])
        else:
            yield item, None


def _names(model: paddle.nn.Layer, optimizer: paddle.optimizer.Optimizer) -> dict[str, str]:
    """Return structured names by automatic names; the first one where several share a parameter."""
    names = {parameter.name: name for name, parameter in model.named_parameters()}
    strange = [p.name for p, _ in _parameters(optimizer) if p.name not in names]
    require(not strange, f"the optimizer has parameters that the model lacks: {strange}")
    return names


def _position(scheduler: object) -> dict[str, Any]:
    if isinstance(scheduler, float):
        return {}
    # What a warm-up wraps is set from the position at every step.
    beyond = scheduler.state_dict().keys() - {"last_epoch", "last_lr", "LinearWarmup_LR"}
    name = type(scheduler).__name__
    require(not beyond, f"{name} keeps more than a position: {', '.join(sorted(beyond))}")
    return {"last_epoch": int(scheduler.last_epoch), "last_lr": float(scheduler.last_lr)}


def _tensors(optimizer: paddle.optimizer.Optimizer, parameter: Any) -> dict[str, Any]:
    """Return the tensors of one parameter's state, by entry; none where it has no state yet."""
    tensors = {}
    master = optimizer._master_weights.get(parameter.name)
    owner = (parameter if master is None else master).name
    for entry in (*ENTRIES[type(optimizer).__name__], "moment2_max"):
        tensor = optimizer._accumulators.get(_key(optimizer, entry), {}).get(owner)
        if tensor is not None:
            tensors[entry] = tensor
    if master is not None:
        tensors["master_weight"] = master
    return tensors


def _key(optimizer: paddle.optimizer.Optimizer, entry: str) -> str:
    return entry if optimizer._name is None else f"{optimizer._name}_{entry}"


def _array(value: Any) -> np.ndarray:
    return np.array(value.numpy() if hasattr(value, "numpy") else value)


def _replace(
    optimizer: paddle.optimizer.Optimizer, names: Mapping[str, str], state: Mapping[str, Any]
) -> None:
    """Give the optimizer new tensors with the state; the old ones come back where it fails."""
    attributes = ("_accumulators", "_already_create_accumulator", "_master_weights")
    attributes += ("_accumulators_holder",)  # what set_state_dict left for later
    old = {name: getattr(optimizer, name) for name in attributes}
    optimizer._accumulators = defaultdict(dict)
    optimizer._already_create_accumulator = set()
    optimizer._master_weights, optimizer._accumulators_holder = {}, {}
    try:
        entries_of = dict(state["state"])
        problems = []
        for parameter, group in _parameters(optimizer):
            name = names[parameter.name]
            entries = entries_of.pop(name, {})
            if entries:
                step = int(entries.get("step", state["step"]))
                arrays = {key: _array(value) for key, value in entries.items() if key != "step"}
                problems += _fill(optimizer, parameter, group, name, arrays, step)
        problems += [f"{name} is no parameter of the optimizer" for name in entries_of]
        require(not problems, f"the state does not fit the optimizer: {'; '.join(problems)}")
    except BaseException:
        for name, value in old.items():
            setattr(optimizer, name, value)
        raise


def _fill(
    optimizer: paddle.optimizer.Optimizer,
    parameter: Any,
    group: dict | None,
    name: str,
    arrays: Mapping[str, np.ndarray],
    step: int,
) -> list[str]:
    """Make the tensors of one parameter and set them; give what does not fit."""
    from paddle.base import framework

    of_one = [parameter] if group is None else {**group, "params": [parameter]}
    optimizer._create_accumulators(framework.default_main_program().global_block(), of_one)
    tensors = _tensors(optimizer, parameter)
    problems = [f"{name} has no {entry}" for entry in tensors if entry not in arrays]
    for entry, array in arrays.items():
        if entry not in tensors:
            problems.append(f"{name} has {entry}, which the optimizer does not keep for it")
            continue
        expected, actual = _described(_array(tensors[entry])), _described(array)
        if expected != actual:
            problems.append(f"{entry} of {name} is {actual}, should be {expected}")
        elif not problems:
            tensors[entry].set_value(np.array(array, order="C"))
    if not problems:
        for tensor, beta in _powers_of(optimizer, parameter, group):
            powers = _beta_powers(beta, step, _array(tensor).dtype.str)
            tensor.set_value(powers[-1:])
    return problems


def _described(array: np.ndarray) -> str:
    dtype = "bfloat16" if array.dtype == np.uint16 else str(array.dtype)
    return f"{dtype} {list(array.shape)}"


def _powers_of(
    optimizer: paddle.optimizer.Optimizer, parameter: Any, group: dict | None
) -> Iterator[tuple[Any, float]]:
    """Return Adam's tensors [1] of powers for one parameter, each with its beta."""
    owner = optimizer._master_weights.get(parameter.name, parameter).name
    for entry, attribute in _BETA_POWERS.items():
        of_entry = optimizer._accumulators.get(_key(optimizer, entry), {})
        if owner in of_entry:
            beta = (group or {}).get(attribute.removeprefix("_"), getattr(optimizer, attribute))
            yield of_entry[owner], float(beta)


def _own_step(
    optimizer: paddle.optimizer.Optimizer, parameter: Any, group: dict | None, step: int
) -> int:
    """Return the steps that one parameter has done, by beta2's power, which underflows last."""
    *_, (tensor, beta) = _powers_of(optimizer, parameter, group)
    power = _array(tensor)[0]
    powers = _beta_powers(beta, step, power.dtype.str)
    if power == powers[-1]:
        return step
    # Halfway to the next power would still be a rounding of this one.
    if power < powers[-1] * (1 + beta) / 2:
        raise OptimizerStateError(f"{parameter.name} has done more than {step} steps")
    return int(np.argmin(np.abs(powers - power)))


@functools.lru_cache(maxsize=16)
def _beta_powers(beta: float, steps: int, dtype: str) -> np.ndarray:
    """Return beta's power after 0, 1, … `steps` steps as Paddle multiplies it, [n] of that dtype.

    Before the first step it is beta itself, and each step multiplies once and rounds: so does this,
    to the same bits. The end is the last power that differs from the one before: 0, or a number so
    small that rounding keeps it (4 units for 0.9 in float32).
    """
    powers = np.full(1, beta, dtype)
    while len(powers) <= steps:
        block = np.full(min(steps - len(powers) + 1, 1 << 16) + 1, beta, dtype)
        block[0] = powers[-1]
        powers = np.concatenate([powers, np.multiply.accumulate(block)[1:]])
        if powers[-1] == powers[-2]:
            return powers[: np.argmax(powers == powers[-1]) + 1]
    return powers
