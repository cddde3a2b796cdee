"""Run the torch side and record all that a comparison with it needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from alignment.compare import largest_value, relative_error, scale_of
from alignment.judging import checks
from alignment.judging.end_to_end import KINDS
from alignment.pair import AlignmentError, Pair
from alignment.recording.reference import Reference
from alignment.recording.reprod_log import ReprodLog
from alignment.recording.trace import Trace
from alignment.recording.value_key import LOSS, Kind, ValueKey
from alignment.steps.environment import environment_of, give_back_free_memory
from alignment.steps.train import run_torch_train

if TYPE_CHECKING:
    from alignment.torch_side.runner import TorchSide


Progress = Callable[[str], None]


def run_torch(
    pair: Pair,
    steps: Sequence[str],
    *,
    device: str = "cpu",
    out: str | Path | None = None,
    progress: Progress | None = None,
) -> Reference:
    """Run the torch side: all that a comparison with it needs.

    Args:
        pair: the pair; its Paddle model is not touched.
        steps: names of steps.
        device: "cpu" or "gpu".
        out: folder for torch's reprod_log files.
        progress: told what is about to run.

    Raises:
        AlignmentError: the torch side could not be run.
    """
    tell, log = freeing_memory(progress), ReprodLog(out)
    side = _torch_side(pair, device)
    reference = Reference(pair.name, pair.mode, specs=side.specs(), weights=side.weights())
    reference.received = side.received()
    reference.environment = environment_of("torch")
    log.write("data", "torch", reference.received)
    if runs_models(steps):
        backward = "backward" in steps
        tell("torch float64")
        try:
            reference.trace = side.run("float64", backward=backward)
        except AlignmentError as error:
            reference.notes.append(f"judged in float32 alone, since {error}")
        if reference.trace.of_kind(Kind.MODEL_GRAD_OUTPUT):
            tell("torch float64, the loss at perturbed outputs")
            reference.discontinuities = side.gradient_discontinuities(reference.trace)
        tell("torch float32")
        trace = side.run("float32", backward=backward)
        log.write_trace(steps, "torch", trace.values)
        reference.float32_dtypes = {key: str(value.dtype) for key, value in trace.values.items()}
        if not reference.trace.values:
            reference.trace, reference.dtype = trace, "float32"
        else:
            reference.rounding = _rounding(reference, trace)
        reference.trace.output = None
        if backward:
            reference.activations = {
                key: array
                for key, array in trace.values.items()
                if key.kind in (Kind.OUTPUT, Kind.MODEL_OUTPUT)
            }
        _look_closer(reference, side, trace, backward=backward, tell=tell)
    if "train" in steps:
        run_torch_train(reference, side, log, tell)
    for step in steps:
        if step in pair.checks:
            tell(f"{step}: the reference's values")
            reference.checks[step] = checks.reference_values(pair, step)
            log.write(step, "torch", reference.checks[step])
    return reference


def _look_closer(
    reference: Reference, side: TorchSide, trace: Trace, *, backward: bool, tell: Progress
) -> None:
    """Is torch random, and what is each layer given by itself?"""
    tell("torch a second time")
    repeat = side.repeat(trace)
    gradients = reference.trace.of_kind(Kind.MODEL_GRAD_OUTPUT) if backward else {}
    tell("torch layer by layer")
    try:
        reference.alone = side.alone(reference.dtype, gradients)
    except AlignmentError as error:
        reference.notes.append(f"layers are not judged by themselves, since {error}")
    if reference.dtype == "float64" and reference.mode == "train":
        tell("torch float64, perturbed")
        reference.sensitivity = side.sensitivity(reference.trace)
    reference.random = repeat.found("torch", reference.alone)


def _rounding(reference: Reference, trace: Trace) -> dict[ValueKey, float]:
    """Return how far torch's float32 run is from its float64 run."""
    scales = {kind: scale_of(reference.trace.of_kind(kind).values()) for kind in KINDS}
    errors = {}
    for key, exact in reference.trace.values.items():
        if key in trace.values:
            errors[key] = relative_error(
                exact,
                trace.values[key],
                scale=scales[key.kind],
                discontinuities=reference.discontinuities.get(key),
            )
    loss = largest_value(reference.trace.values.get(LOSS, 0.0))
    terms = reference.trace.loss_terms
    if loss and np.isfinite(terms):
        # torch's own sum may be exact by luck where large terms cancel.
        errors[LOSS] = max(errors[LOSS], 2.0**-24 * terms / loss)
    return errors


def freeing_memory(progress: Progress | None) -> Progress:
    """Told what is about to run: gives free memory back first, which keeps the peak down."""

    def tell(message: str) -> None:
        give_back_free_memory()
        if progress:
            progress(message)

    return tell


def _torch_side(pair: Pair, device: str) -> TorchSide:
    try:
        from alignment.torch_side.runner import TorchSide
    except ImportError as error:
        raise AlignmentError(
            f"torch can't be imported ({error}); --torch-records compares with a record of it"
        ) from error
    return TorchSide(pair, device)


def runs_models(steps: Sequence[str]) -> bool:
    """Return whether one of the steps runs the models themselves."""
    return any(step in ("forward", "loss", "backward") for step in steps)
