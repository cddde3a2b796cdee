"""What becomes of the optimizer: whether it is carried over, as what, and what is said of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from alignment.weights.checkpoint_files import Envelope
from factseg_convert.architectures import Variant
from factseg_convert.equality import same
from factseg_convert.optimizer_layout import (
    map_of_specs,
    scheduler_to_torch,
    to_paddle,
    to_torch,
    without_counterpart,
)
from factseg_convert.read import PaddleOptimizer, TorchOptimizer, pdopt_beside
from factseg_paddle.files import shown
from factseg_paddle.io import CheckpointError
from factseg_paddle.optimizers.state_format import OptimizerStateError, check_form

# What entries of a torch file that are other than their names say can set off, by name.
_DAMAGE = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


@dataclass(frozen=True)
class OptimizerPlan:
    """What is to be written of the optimizer; None for what the output's framework does not have.

    Attributes:
        envelope: The torch file's, be it the source or the output, with the optimizer's keys where
            there is one that can be carried over.
        notes: Sentences about it.
        paddle: What the `.pdopt` is to hold.
        torch: What `envelope.optimizer` is to hold in the torch file.
        torch_scheduler: What `envelope.scheduler` is to hold there.
    """

    envelope: Envelope
    notes: tuple[str, ...] = ()
    paddle: Mapping[str, Any] | None = None
    torch: Mapping[str, Any] | None = None
    torch_scheduler: Mapping[str, Any] | None = None


def plan_for_paddle(
    optimizer: TorchOptimizer | None,
    envelope: Envelope,
    variant: Variant,
    names: Sequence[str],
    output: Path,
) -> OptimizerPlan:
    """Bring the optimizer of a torch file into Paddle's form; the notes say why where it can't be.

    Args:
        optimizer: The file's; None without one.
        envelope: The file's, as it was read.
        variant: The network.
        names: The file's tensors, in its order.
        output: The `.pdparams` to write.
    """
    if optimizer is None:
        return OptimizerPlan(envelope)
    key, step = optimizer.key, envelope.others.get("global_step")
    step = step if type(step) is int and step >= 0 else None
    try:
        state = _to_paddle_and_back(optimizer, variant, names, step)
    except OptimizerStateError as error:
        return OptimizerPlan(envelope, (f"{key}, beside the weights, is not converted: {error}",))
    except _DAMAGE as error:
        reason = shown(str(error))
        return OptimizerPlan(envelope, (f"{key}, beside the weights, is not converted: {reason}",))
    dropped = tuple(n for n in envelope.dropped if n not in (key, optimizer.scheduler_key))
    envelope = replace(envelope, dropped=dropped, optimizer=key, scheduler=optimizer.scheduler_key)
    notes = [f"{key}, {state['step']} steps of {state['type']}, is in {pdopt_beside(output).name}"]
    notes += [f"Paddle can't do its {what}" for what in without_counterpart(state)]
    return OptimizerPlan(envelope, tuple(notes), paddle=state)


def plan_for_torch(
    optimizer: PaddleOptimizer | None,
    envelope: Envelope,
    variant: Variant,
    names: Sequence[str],
    *,
    pdopt: Path,
    known_sha256: str | None,
) -> OptimizerPlan:
    """Bring the optimizer of a `.pdopt` file into torch's form.

    Args:
        optimizer: The file; None without one.
        envelope: What the output's would be without an optimizer.
        variant: The network.
        names: The output's tensors, in its order.
        pdopt: Where the file lies, or would lie.
        known_sha256: The hash of the `.pdopt` that was written for the envelope; None for none.

    Raises:
        CheckpointError: The state is damaged or not of this network.
    """
    if optimizer is None:
        gone = f"{envelope.optimizer} is not there again, since there is no {pdopt.name}"
        return OptimizerPlan(envelope, (gone,) if envelope.optimizer else ())
    content = optimizer.content
    try:
        check_form(content)
    except OptimizerStateError as error:
        return OptimizerPlan(envelope, (f"{pdopt.name} beside it is not converted: {error}",))
    try:
        state = _to_torch_and_back(content, variant, names)
    except OptimizerStateError as error:
        raise CheckpointError(f"{pdopt} does not fit {variant}: {error}") from error
    except _DAMAGE as error:
        raise CheckpointError(f"{pdopt} is damaged: {shown(str(error))}") from error
    key = envelope.optimizer or "opt"
    envelope = replace(envelope, wrapper=envelope.wrapper or "model", optimizer=key)
    if optimizer.sha256 != known_sha256:
        others = {**envelope.others, "global_step": content["step"]}
        scheduler_key = (envelope.scheduler or "scheduler") if content["scheduler"] else None
        envelope = replace(envelope, others=others, scheduler=scheduler_key)
    scheduler = scheduler_to_torch(content) if envelope.scheduler else None
    notes = _notes_for_torch(pdopt, key, content, state)
    return OptimizerPlan(envelope, notes, torch=state, torch_scheduler=scheduler)


def pdopt_to_write(source: Path, output: Path, optimizer: OptimizerPlan) -> Path | None:
    """Return where to write the optimizer; None without one.

    Raises:
        CheckpointError: An older `.pdopt` lies where the new weights would make it theirs, or the
            `.pdopt` would be the source or the output.
    """
    pdopt = pdopt_beside(output)
    if optimizer.paddle is None:
        if pdopt.exists():
            raise CheckpointError(
                f"{pdopt} is there already and would be taken for the optimizer of the new weights,"
                " which come without one; remove it or give another --output"
            )
        return None
    if pdopt == output or (pdopt.exists() and pdopt.samefile(source)):
        raise CheckpointError(f"{pdopt} is to hold the optimizer; give another --output")
    return pdopt


def _to_paddle_and_back(
    optimizer: TorchOptimizer, variant: Variant, names: Sequence[str], step: int | None
) -> dict[str, Any]:
    """Return Paddle's form, having seen that it would come back to torch bit-equal."""
    parameters = _parameters(variant, names)
    state = to_paddle(
        optimizer.state,
        parameters,
        map_of_specs(variant.specs),
        step=step,
        scheduler=optimizer.scheduler,
    )
    if optimizer.scheduler is None and step is not None:  # so it is in FactSeg's published files
        rate = float(state["groups"][0]["lr"])
        state["scheduler"] = {"last_epoch": step, "last_lr": rate}
    if not same(to_torch(state, parameters, variant.specs), optimizer.state):
        raise OptimizerStateError("it would come back otherwise")
    return state


def _to_torch_and_back(
    content: Mapping[str, Any], variant: Variant, names: Sequence[str]
) -> dict[str, Any]:
    """Return torch's form, having seen that its arrays would come back to Paddle bit-equal."""
    parameters = _parameters(variant, names)
    state = to_torch(content, parameters, variant.specs)
    back = to_paddle(state, parameters, map_of_specs(variant.specs), step=content["step"])
    if not same(back["state"], content["state"]):
        raise OptimizerStateError("it would come back otherwise")
    return state


def _notes_for_torch(
    pdopt: Path, key: str, content: Mapping[str, Any], state: Mapping[str, Any]
) -> tuple[str, ...]:
    notes = [f"{pdopt.name}, {content['step']} steps of {content['type']}, is its {key}"]
    notes += [f"torch can't do its {what}" for what in without_counterpart(content)]
    if "groups" not in content:
        values = {k: v for k, v in state["param_groups"][0].items() if k in ("lr", "momentum")}
        shown_values = ", ".join(f"{name} {value}" for name, value in values.items())
        notes.append(f"it has no hyperparameters: {shown_values} and the rest are defaults")
    return tuple(notes)


def _parameters(variant: Variant, names: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Return the parameters' shapes in the order of a state dict, which is the model's own."""
    shapes = variant.parameters
    return {name: shapes[name] for name in names if name in shapes}
