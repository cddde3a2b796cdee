"""Run the torch side and record all that a comparison with it needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from alignment.compare import largest_value, relative_error, scale_of
from alignment.judging import checks
from alignment.judging.end_to_end import KINDS
from alignment.pair import AlignmentError, Pair
from alignment.recording.dataflow import Dataflow
from alignment.recording.layerwise import LayerwiseReference
from alignment.recording.reference import ModelReference, Reference
from alignment.recording.reprod_log import ReprodLog
from alignment.recording.trace import Trace
from alignment.recording.value_key import LOSS, Kind, ValueKey
from alignment.steps.environment import environment_of
from alignment.steps.progress import Progress, freeing_memory
from alignment.steps.train import run_torch_train

if TYPE_CHECKING:
    from alignment.torch_side.runner import TorchSide


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
        progress: called with what is about to run.

    Raises:
        AlignmentError: the torch side could not be run.
    """
    progress, log = freeing_memory(progress), ReprodLog(out)
    side = _torch_side(pair, device)
    # First, since a state that can't be read ends it here and not after minutes of runs.
    specs, weights, received = side.specs(), side.weights(), side.received()
    log.write("data", "torch", received)
    model = _model_reference(side, steps, log, progress) if runs_models(steps) else None
    training = None
    if "train" in steps:
        training = run_torch_train(side, model.dataflow if model else Dataflow(), log, progress)
    return Reference(
        pair.name,
        pair.mode,
        specs=specs,
        weights=weights,
        received=received,
        model=model,
        training=training,
        checks=_checks(pair, steps, log, progress),
        environment=environment_of("torch"),
    )


def _checks(
    pair: Pair, steps: Sequence[str], log: ReprodLog, progress: Progress
) -> dict[str, dict[str, np.ndarray]]:
    values = {}
    for step in steps:
        if step in pair.checks:
            progress(f"{step}: the reference's values")
            values[step] = checks.reference_values(pair, step)
            log.write(step, "torch", values[step])
    return values


def _model_reference(
    side: TorchSide, steps: Sequence[str], log: ReprodLog, progress: Progress
) -> ModelReference:
    """Run torch's model in both dtypes, a second time, and layer by layer."""
    backward, notes = "backward" in steps, []
    exact, discontinuities = _exact_run(side, notes, progress, backward=backward)
    progress("torch float32")
    trace = side.run("float32", backward=backward).trace
    log.write_trace(steps, "torch", trace.values)
    progress("torch a second time")
    repeat = side.repeat(trace)
    judged_by, dtype = (exact, "float64") if exact else (trace, "float32")
    gradients = judged_by.of_kind(Kind.MODEL_GRAD_OUTPUT) if backward else {}
    layerwise = _layerwise(side, dtype, gradients, notes, progress)
    sensitivity = {}
    if exact and side.pair.mode == "train":
        progress("torch float64, perturbed")
        sensitivity = side.sensitivity(exact)
    at_outputs = {
        key: array
        for key, array in trace.values.items()
        if key.kind in (Kind.OUTPUT, Kind.MODEL_OUTPUT)
    }
    return ModelReference(
        judged_by,
        dtype,
        activations=at_outputs if backward else {},
        rounding=_rounding(exact, trace, discontinuities) if exact else {},
        sensitivity=sensitivity,
        float32_dtypes={key: str(value.dtype) for key, value in trace.values.items()},
        discontinuities=discontinuities,
        layerwise=layerwise,
        random=repeat.randomness("torch", layerwise.dataflow if layerwise else Dataflow()),
        notes=tuple(notes),
    )


def _exact_run(
    side: TorchSide, notes: list[str], progress: Progress, *, backward: bool
) -> tuple[Trace | None, dict[ValueKey, np.ndarray]]:
    """Return the run in float64, None where torch can't, and where its loss's gradient jumps."""
    progress("torch float64")
    try:
        exact = side.run("float64", backward=backward)
    except AlignmentError as error:
        notes.append(f"judged in float32 alone, since {error}")
        return None, {}
    if not exact.trace.of_kind(Kind.MODEL_GRAD_OUTPUT):
        return exact.trace, {}
    progress("torch float64, the loss at perturbed outputs")
    return exact.trace, side.gradient_discontinuities(exact)


def _layerwise(
    side: TorchSide,
    dtype: str,
    gradients: Mapping[str, np.ndarray],
    notes: list[str],
    progress: Progress,
) -> LayerwiseReference | None:
    progress("torch layer by layer")
    try:
        return side.layerwise(dtype, gradients)
    except AlignmentError as error:
        notes.append(f"layers are not judged by themselves, since {error}")
        return None


def _rounding(
    exact: Trace, trace: Trace, discontinuities: Mapping[ValueKey, np.ndarray]
) -> dict[ValueKey, float]:
    """Return how far torch's float32 run is from its float64 run."""
    scales = {kind: scale_of(exact.of_kind(kind).values()) for kind in KINDS}
    errors = {}
    for key, value in exact.values.items():
        if key in trace.values:
            errors[key] = relative_error(
                value,
                trace.values[key],
                scale=scales[key.kind],
                discontinuities=discontinuities.get(key),
            )
    loss = largest_value(exact.values.get(LOSS, 0.0))
    if loss and np.isfinite(exact.loss_terms):
        # torch's own sum may be exact by luck where large terms cancel.
        errors[LOSS] = max(errors[LOSS], 2.0**-24 * exact.loss_terms / loss)
    return errors


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
