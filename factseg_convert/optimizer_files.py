"""The optimizer beside the weights: which file it is in, and whether it can be carried over.

In a torch file it is an entry beside the state dict; in Paddle it is a file of its own, `X.pdopt`
beside `X.pdparams`, or `optimizer.pdopt` beside the `model.pdparams` of a checkpoint folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from alignment.weights.checkpoint_files import Checkpoint, Envelope
from alignment.weights.models import array_of_torch
from alignment.weights.torch_files import load_torch_file
from factseg_convert.architectures import Variant
from factseg_convert.optimizer_layout import (
    map_of_specs,
    scheduler_to_torch,
    to_paddle,
    to_torch,
    without_counterpart,
)
from factseg_paddle.files import sha256_of_file, shown
from factseg_paddle.io import CheckpointError, load_plain
from factseg_paddle.optimizers.state_format import OptimizerStateError, check_form

# What entries of a torch file that are other than their names say can set off, by name.
_DAMAGE = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


@dataclass(frozen=True)
class Optimizer:
    """What is carried over: Paddle's form, torch's two entries, and the source's form with them.

    All but `form` and `notes` are None where there is no optimizer, or none that can be converted.
    """

    form: Envelope
    notes: tuple[str, ...] = ()
    state: Mapping[str, Any] | None = None
    opt: Mapping[str, Any] | None = None
    scheduler: Mapping[str, Any] | None = None


def read_optimizer(
    checkpoint: Checkpoint,
    variant: Variant,
    names: Sequence[str],
    form: Envelope,
    output: Path,
    known_sha256: str | None,
) -> Optimizer:
    """The optimizer of a checkpoint, in both frameworks' terms.

    Args:
        checkpoint: The weights, and of torch all that is beside them.
        variant: The network.
        names: The torch names of the output's tensors, in its order.
        form: What the output's form would be without an optimizer.
        output: The file to write.
        known_sha256: The hash of the `.pdopt` that the source's manifest tells of.

    Raises:
        CheckpointError: A `.pdopt` is damaged, or its state is not of this network.
    """
    if checkpoint.side == "torch":
        return _of_torch(checkpoint, variant, output)
    pdopt = pdopt_beside(checkpoint.path)
    try:
        is_its_own = pdopt.exists() and sha256_of_file(pdopt) == known_sha256
        return _of_paddle(pdopt, variant, names, form, is_its_own=is_its_own)
    except OSError as error:
        raise CheckpointError(f"{pdopt} can't be read: {error.strerror or error}") from error


def pdopt_beside(pdparams: Path) -> Path:
    """Where the optimizer of a `.pdparams` file lies, or would lie; there may be none."""
    own = pdparams.with_name(pdparams.stem + ".pdopt")
    is_of_folder = pdparams.name == "model.pdparams" and not own.exists()
    return pdparams.with_name("optimizer.pdopt") if is_of_folder else own


def optimizer_key(checkpoint: Checkpoint) -> str | None:
    """The key under which a torch file has its optimizer's state."""
    if checkpoint.side == "paddle":
        return None
    return next((key for key in ("opt", "optimizer") if key in checkpoint.extras), None)


def pdopt_to_write(source: Path, output: Path, optimizer: Optimizer) -> Path | None:
    """Where to write the optimizer; None without one, and then an older file must not be there."""
    pdopt = pdopt_beside(output)
    if optimizer.state is None:
        if pdopt.exists():
            raise CheckpointError(
                f"{pdopt} is there already and would be taken for the optimizer of the new weights,"
                " which come without one; remove it or give another --output"
            )
        return None
    if pdopt == output or (pdopt.exists() and pdopt.samefile(source)):
        raise CheckpointError(f"{pdopt} is to hold the optimizer; give another --output")
    return pdopt


def verify_optimizer(path: Path, optimizer: Optimizer) -> None:
    """Read the file with the optimizer back and hold it to what was to be written."""
    if optimizer.opt is not None:
        content = load_torch_file(path)
        form = optimizer.form
        written, expected = content[form.optimizer], optimizer.opt
        if form.scheduler:
            written, expected = (written, content[form.scheduler]), (expected, optimizer.scheduler)
    elif optimizer.state is not None:
        written, expected = load_plain(path), optimizer.state
    else:
        return
    if not same(written, expected):
        raise CheckpointError(f"{path} does not hold the optimizer as it was written to it")


def same(one: Any, other: Any) -> bool:
    """Whether two values of checkpoints are alike in structure, types and bits."""
    import torch

    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return one.dtype == other.dtype and same(array_of_torch(one), array_of_torch(other))
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        is_alike = one.dtype == other.dtype and one.shape == other.shape
        return is_alike and one.tobytes() == other.tobytes()
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        # The order of a group's values means nothing; that of the parameters is in their numbers.
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and type(one) is type(other):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and (one == other or (one != one and other != other))


def _of_torch(checkpoint: Checkpoint, variant: Variant, output: Path) -> Optimizer:
    """The optimizer of a torch file; where it can't be converted, the notes say why."""
    form, extras = checkpoint.form, checkpoint.extras
    key = optimizer_key(checkpoint)
    if key is None:
        return Optimizer(form)
    scheduler_key = next((key for key in ("scheduler", "lr_scheduler") if key in extras), None)
    scheduler = extras[scheduler_key] if scheduler_key else None
    parameters = _parameters(variant, checkpoint.state)
    step = form.others.get("global_step")
    step = step if type(step) is int and step >= 0 else None
    weights = map_of_specs(variant.specs)
    try:
        state = to_paddle(extras[key], parameters, weights, step=step, scheduler=scheduler)
        if scheduler is None and step is not None:  # so it is in FactSeg's published files
            rate = float(state["groups"][0]["lr"])
            state["scheduler"] = {"last_epoch": step, "last_lr": rate}
        if not same(to_torch(state, parameters, variant.specs), extras[key]):
            raise OptimizerStateError("it would come back otherwise")
    except OptimizerStateError as error:
        return Optimizer(form, (f"{key}, beside the weights, is not converted: {error}",))
    except _DAMAGE as error:
        reason = shown(str(error))
        return Optimizer(form, (f"{key}, beside the weights, is not converted: {reason}",))
    dropped = tuple(name for name in form.dropped if name not in (key, scheduler_key))
    form = replace(form, dropped=dropped, optimizer=key, scheduler=scheduler_key)
    notes = [f"{key}, {state['step']} steps of {state['type']}, is in {pdopt_beside(output).name}"]
    notes += [f"Paddle can't do its {what}" for what in without_counterpart(state)]
    return Optimizer(form, tuple(notes), state)


def _of_paddle(
    pdopt: Path, variant: Variant, names: Sequence[str], form: Envelope, *, is_its_own: bool
) -> Optimizer:
    """The optimizer of a `.pdopt` file for a torch file of the given form.

    Args:
        pdopt: The file; there may be none.
        variant: The network.
        names: The output's tensors, in its order.
        form: What the output's form would be without an optimizer.
        is_its_own: Whether the file is the one that the form's manifest tells of.

    Raises:
        CheckpointError: The file is damaged, or its state is not of this network.
        OSError: It can't be opened.
    """
    if not pdopt.exists():
        gone = f"{form.optimizer} is not there again, since there is no {pdopt.name}"
        return Optimizer(form, (gone,) if form.optimizer else ())
    content = load_plain(pdopt)
    try:
        check_form(content)
    except OptimizerStateError as error:
        return Optimizer(form, (f"{pdopt.name} beside it is not converted: {error}",))
    parameters = _parameters(variant, names)
    try:
        opt = to_torch(content, parameters, variant.specs)
        back = to_paddle(opt, parameters, map_of_specs(variant.specs), step=content["step"])
        if not same(back["state"], content["state"]):
            raise OptimizerStateError("it would come back otherwise")
    except OptimizerStateError as error:
        raise CheckpointError(f"{pdopt} does not fit {variant}: {error}") from error
    except _DAMAGE as error:
        raise CheckpointError(f"{pdopt} is damaged: {shown(str(error))}") from error
    form = replace(form, wrapper=form.wrapper or "model", optimizer=form.optimizer or "opt")
    if not is_its_own:
        others = {**form.others, "global_step": content["step"]}
        key = (form.scheduler or "scheduler") if content["scheduler"] else None
        form = replace(form, others=others, scheduler=key)
    scheduler = scheduler_to_torch(content) if form.scheduler else None
    notes = [f"{pdopt.name}, {content['step']} steps of {content['type']}, is its {form.optimizer}"]
    notes += [f"torch can't do its {what}" for what in without_counterpart(content)]
    if "groups" not in content:
        values = {k: v for k, v in opt["param_groups"][0].items() if k in ("lr", "momentum")}
        shown_values = ", ".join(f"{key} {value}" for key, value in values.items())
        notes.append(f"it has no hyperparameters: {shown_values} and the rest are defaults")
    return Optimizer(form, tuple(notes), content, opt, scheduler)


def _parameters(variant: Variant, names: Sequence[str] | Mapping[str, Any]) -> dict[str, Any]:
    """The parameters' shapes in the order of a state dict, which is the model's own."""
    return {name: variant.parameters[name] for name in names if name in variant.parameters}
