"""Run both sides of a pair and compare them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from alignment.pair import AlignmentError, Pair
from alignment.recording.reference import Reference, hashes
from alignment.recording.reprod_log import ReprodLog
from alignment.recording.value_key import Kind
from alignment.report.report import Report
from alignment.steps.environment import environment_of, random_states_kept
from alignment.steps.paddle_comparison import PaddleComparison
from alignment.steps.progress import Progress, freeing_memory
from alignment.steps.torch_reference import run_torch, runs_models


def align(
    pair: Pair,
    steps: Iterable[str] | None = None,
    *,
    device: str = "cpu",
    out: str | Path | None = None,
    reference: Reference | None = None,
    progress: Progress | None = None,
) -> Report:
    """Compare the two models of a pair.

    Modes, buffers, random states and, but for the transfer, weights stay as they were.

    Args:
        pair: the two models and their inputs.
        steps: names of steps; None for all that the pair supports.
        device: "cpu" or "gpu", for both sides.
        out: folder for report.json, junit.xml, report.html and the reprod_log files.
        reference: the torch side, recorded elsewhere; None runs it here.
        progress: called with what is about to run.

    Returns:
        The report; it is true when everything agrees.

    Raises:
        AlignmentError: the comparison could not be run.
    """
    chosen = chosen_steps(pair, steps)
    progress = freeing_memory(progress)
    log = ReprodLog(out)
    with random_states_kept():
        if reference is None:
            reference = run_torch(pair, chosen, device=device, out=out, progress=progress)
        else:
            _refuse_other_record(pair, reference, chosen)
        environment = {**reference.environment, **environment_of("paddle"), "device": device}
        run = PaddleComparison(pair, chosen, reference, device=device, log=log, progress=progress)
        del reference  # the comparison lets go of its parts when they are judged
        results = run.results()
    inputs = hashes(pair.named_arrays())
    report = Report(pair.name, tuple(results), environment, inputs, curves=run.curves)
    if out:
        progress("the report")
        report.save(Path(out))
    return report


def chosen_steps(pair: Pair, steps: Iterable[str] | None) -> tuple[str, ...]:
    """Return the steps to run, in order.

    Raises:
        AlignmentError: the pair lacks one of them, or none is named.
    """
    supported = pair.steps()
    wanted = supported if steps is None else (steps,) if isinstance(steps, str) else tuple(steps)
    for step in wanted:
        if step not in supported:
            raise AlignmentError(
                f"the pair {pair.name} has no step {step!r}; it has {', '.join(supported)}"
            )
    if not wanted:
        raise AlignmentError("no step is named")
    return tuple(step for step in supported if step in wanted)


def _refuse_other_record(pair: Pair, reference: Reference, steps: Sequence[str]) -> None:
    if reference.pair != pair.name or reference.mode != pair.mode:
        raise AlignmentError(
            f"the torch record is of {reference.pair} in {reference.mode} mode, this is "
            f"{pair.name} in {pair.mode} mode; record again"
        )
    if hashes(reference.received) != hashes(pair.named_arrays()):
        raise AlignmentError(
            "the torch record was made with other inputs or targets; record again with the same "
            "seed, image and crop"
        )
    missing = [step for step in steps if step in pair.checks and step not in reference.checks]
    if runs_models(steps) and not reference.model:
        missing.append("forward")
    elif "backward" in steps and not reference.model.trace.of_kind(Kind.MODEL_GRAD_OUTPUT):
        missing.append("backward")
    if "train" in steps and not reference.training:
        missing.append("train")
    elif "train" in steps and reference.training.count != pair.train_steps:
        raise AlignmentError(
            f"the torch record has {reference.training.count} training steps, this is "
            f"{pair.train_steps}; record again, or give --train-steps {reference.training.count}"
        )
    if missing:
        raise AlignmentError(
            f"the torch record lacks the step {missing[0]}; record again with --steps "
            f"{' '.join(steps)}"
        )
