"""An optimizer's hyperparameters in torch's words, by groups of parameters that share them.

Paddle's `.pdopt` needs none of this, since a Paddle optimizer keeps its own hyperparameters when a
state is loaded. torch's `load_state_dict` takes them from the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import paddle


def options_of(
    optimizer: paddle.optimizer.Optimizer,
    parameters: Iterable[tuple[Any, dict | None]],
    names: Mapping[str, str],
) -> list[dict[str, Any]]:
    """Return groups of parameters with equal hyperparameters, in the order of their first ones.

    Args:
        optimizer: Momentum, SGD, Adam or AdamW.
        parameters: Each parameter with its group of the optimizer, None where there are none.
        names: Structured names by automatic names.

    Returns:
        For each group `parameters`, the structured names, and `lr`, `weight_decay`, and either
        `momentum` and `nesterov` or `betas`, `eps` and `amsgrad`; `l1_decay` where there is one.
    """
    groups: list[dict[str, Any]] = []
    for parameter, group in parameters:
        name = names[parameter.name]
        # Paddle counts BatchNorm's running statistics among the parameters.
        if parameter.stop_gradient and name.endswith(("_mean", "_variance")):
            continue
        options = _options(optimizer, parameter, group or {})
        for known in groups:
            if {key: known[key] for key in known if key != "parameters"} == options:
                known["parameters"].append(name)
                break
        else:
            groups.append({**options, "parameters": [name]})
    return groups


def _options(
    optimizer: paddle.optimizer.Optimizer, parameter: Any, group: Mapping[str, Any]
) -> dict[str, Any]:
    def own(name: str) -> Any:
        return group.get(name, getattr(optimizer, f"_{name}"))

    options: dict[str, Any] = {
        "lr": float(optimizer.get_lr() * parameter.optimize_attr["learning_rate"])
    }
    if optimizer.type == "momentum":
        options |= {"momentum": float(own("momentum")), "nesterov": bool(own("use_nesterov"))}
    elif optimizer.type in ("adam", "adamw"):
        betas = (float(own("beta1")), float(own("beta2")))
        options |= {"betas": betas, "eps": float(own("epsilon")), "amsgrad": optimizer._amsgrad}
    if optimizer.type == "adamw":
        if optimizer._lr_ratio is not None:
            options["lr"] *= optimizer._lr_ratio(parameter)
        decays = optimizer._apply_decay_param_fun
        is_decayed = decays is None or decays(parameter.name)
        return {**options, "weight_decay": float(own("weight_decay")) if is_decayed else 0.0}
    # A parameter's own regulariser comes before the optimizer's; groups set it as its own.
    regularizer = parameter.regularizer or optimizer.regularization
    if regularizer is None and optimizer.type == "momentum":
        return {**options, "weight_decay": float(own("regularization_coeff"))}
    coefficient = 0.0 if regularizer is None else float(regularizer._coeff)
    if type(regularizer).__name__ == "L1Decay":
        return {**options, "weight_decay": 0.0, "l1_decay": coefficient}
    return {**options, "weight_decay": coefficient}
