"""Run both sides of a pair and compare them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from alignment import checks
from alignment.compare import TensorResult, absent, largest_value, relative_error, scale_of
from alignment.environment import environment_of, give_back_free_memory, random_states_kept
from alignment.paddle_runs import PaddleRuns
from alignment.pair import AlignmentError, Pair
from alignment.records import Reference, ReprodLog, hashes
from alignment.report import Report, StepResult
from alignment.steps import KINDS, data_results, weights_results, wrong_layers
from alignment.tensor_map import match
from alignment.tracing import Trace
from alignment.train_step import free_losses, run_paddle_train, run_torch_train
from alignment.transfer import carry_over

if TYPE_CHECKING:
    from alignment.paddle_side import PaddleSide
    from alignment.torch_side import TorchSide

Progress = Callable[[str], None]


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
        progress: told what is about to run.

    Returns:
        The report; it is true when everything agrees.

    Raises:
        AlignmentError: the comparison could not be run.
    """
    chosen = chosen_steps(pair, steps)
    tell = _phases(progress)
    log = ReprodLog(out)
    with random_states_kept():
        own = reference is None
        if reference is None:
            reference = run_torch(pair, chosen, device=device, out=out, progress=tell)
        else:
            _refuse_other_record(pair, reference, chosen)
        run = _PaddleRun(pair, chosen, reference, device=device, log=log, tell=tell)
        results = run.results(release=own)
    environment = reference.environment | environment_of("paddle") | {"device": device}
    inputs = hashes(pair.named_arrays())
    report = Report(pair.name, tuple(results), environment, inputs, curves=run.curves)
    if out:
        tell("the report")
        report.save(Path(out))
    return report


def chosen_steps(pair: Pair, steps: Iterable[str] | None) -> tuple[str, ...]:
    """The steps to run, in order.

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
    tell, log = _phases(progress), ReprodLog(out)
    side = _torch_side(pair, device)
    reference = Reference(pair.name, pair.mode, specs=side.specs(), weights=side.weights())
    reference.received = side.received()
    reference.environment = environment_of("torch")
    log.write("data", "torch", reference.received)
    if _runs_models(steps):
        backward = "backward" in steps
        tell("torch float64")
        try:
            reference.trace = side.run("float64", backward=backward)
        except AlignmentError as error:
            reference.notes.append(f"judged in float32 alone, since {error}")
        if reference.trace.of_kind("output_gradient"):
            tell("torch float64, the loss at perturbed outputs")
            reference.jumps = side.gradient_jumps(reference.trace)
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
            activations = ("layer/", "output/")
            reference.activations = {
                key: array for key, array in trace.values.items() if key.startswith(activations)
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


def run_paddle_alone(pair: Pair, steps: Sequence[str], out: Path, *, device: str = "cpu") -> None:
    """Run the Paddle side with its own weights and leave its reprod_log files in `out`."""
    side, log = _paddle_side(pair, device), ReprodLog(out)
    log.write("data", "paddle", side.received())
    if _runs_models(steps):
        trace = Trace()
        side.forward("float32", trace)
        if pair.paddle_loss:
            trace.values["loss/loss"] = side.loss("float32", trace.output)
        if "backward" in steps:
            trace.values |= side.backward("float32", {}, {}, {}).values
        log.write_trace(steps, "paddle", trace.values)
    if "train" in steps:
        log.write("train", "paddle", free_losses(side))
    for step in steps:
        if step in pair.checks:
            log.write(step, "paddle", checks.our_values(pair, step)[0])


class _PaddleRun:
    """The Paddle side of one comparison, judged step by step."""

    def __init__(
        self,
        pair: Pair,
        steps: Sequence[str],
        reference: Reference,
        *,
        device: str,
        log: ReprodLog,
        tell: Progress,
    ) -> None:
        self.curves: dict[str, list[float]] = {}
        self._pair, self._steps, self._reference = pair, steps, reference
        self._log, self._tell = log, tell
        self._side = _paddle_side(pair, device)
        self._map = match(
            reference.specs, self._side.tensors(), rename=pair.rename, convert=pair.convert or None
        )
        if pair.transfer:
            carry_over(self._map, reference.weights, self._side)
        self._results: dict[str, list[TensorResult]] = {step: [] for step in steps}
        self._notes: dict[str, list[str]] = {step: [] for step in steps}

    def results(self, *, release: bool) -> list[StepResult]:
        """Run and judge all steps; `release` lets go of torch's values once they are judged."""
        received = self._side.received()
        self._log.write("data", "paddle", received)
        if "data" in self._steps:
            self._results["data"] += data_results(self._reference, received)
        weights = weights_results(self._reference, self._map, self._side.weights())
        if "weights" in self._steps:
            self._results["weights"] += weights
        if _runs_models(self._steps):
            self._run_models(wrong_layers(weights))
        for step in self._steps:
            if step in self._pair.checks:
                self._run_checks(step)
        if release:
            self._reference.release()
        if "train" in self._steps:
            self._run_train()
        return [
            StepResult(step, tuple(self._results[step]), tuple(self._notes[step]))
            for step in self._steps
        ]

    def _run_models(self, wrong_weights: Mapping[str, str]) -> None:
        runs = PaddleRuns(
            self._side,
            self._reference,
            self._map,
            self._steps,
            log=self._log,
            tell=self._tell,
            wrong_weights=wrong_weights,
        )
        for step, judged in runs.judged().items():
            self._results[step] += judged
            self._notes[step] += runs.notes[step]

    def _run_checks(self, step: str) -> None:
        self._tell(f"{step}: Paddle's values")
        ours, raised = checks.our_values(self._pair, step)
        self._log.write(step, "paddle", ours)
        self._results[step] += checks.judged(self._reference.checks[step], ours, raised)

    def _run_train(self) -> None:
        try:
            judged, notes, self.curves = run_paddle_train(
                self._reference, self._side, self._map, self._log, self._tell
            )
        except AlignmentError as error:
            if all(result for results in self._results.values() for result in results):
                raise
            # Something was wrong before, and most likely this is why it raised.
            judged, notes = [absent("the Paddle side", None, str(error))], []
        if "weights" not in self._steps:
            self._results["train"] += [
                absent(problem.name, None, problem.message, f"weights:{problem.name}")
                for problem in self._map.problems
            ]
        self._results["train"] += judged
        self._notes["train"] += notes


def _look_closer(
    reference: Reference, side: TorchSide, trace: Trace, *, backward: bool, tell: Progress
) -> None:
    """Is torch random, and what is each layer given by itself?"""
    tell("torch a second time")
    repeat = side.repeat(trace)
    gradients = reference.trace.of_kind("output_gradient") if backward else {}
    tell("torch layer by layer")
    try:
        reference.alone = side.alone(reference.dtype, gradients)
    except AlignmentError as error:
        reference.notes.append(f"layers are not judged by themselves, since {error}")
    if reference.dtype == "float64" and reference.mode == "train":
        tell("torch float64, disturbed")
        reference.sensitivity = side.sensitivity(reference.trace)
    reference.random = repeat.found("torch", reference.alone)


def _rounding(reference: Reference, trace: Trace) -> dict[str, float]:
    """How far torch's float32 run is from its float64 run."""
    scales = {kind: scale_of(reference.trace.of_kind(kind).values()) for kind in KINDS}
    errors = {}
    for key, exact in reference.trace.values.items():
        if key in trace.values:
            kind, _, name = key.partition("/")
            jumps = reference.jumps.get(name) if kind == "output_gradient" else None
            errors[key] = relative_error(exact, trace.values[key], scale=scales[kind], jumps=jumps)
    loss = largest_value(reference.trace.values.get("loss/loss", 0.0))
    terms = reference.trace.loss_terms
    if loss and np.isfinite(terms):
        # torch's own sum may be exact by luck where large terms cancel.
        errors["loss/loss"] = max(errors["loss/loss"], 2.0**-24 * terms / loss)
    return errors


def _phases(progress: Progress | None) -> Progress:
    """Told what is about to run: gives free memory back first, which keeps the peak down."""

    def tell(message: str) -> None:
        give_back_free_memory()
        if progress:
            progress(message)

    return tell


def _torch_side(pair: Pair, device: str) -> TorchSide:
    try:
        from alignment.torch_side import TorchSide
    except ImportError as error:
        raise AlignmentError(
            f"torch can't be imported ({error}); --torch-records compares with a record of it"
        ) from error
    return TorchSide(pair, device)


def _paddle_side(pair: Pair, device: str) -> PaddleSide:
    try:
        from alignment.paddle_side import PaddleSide
    except ImportError as error:
        raise AlignmentError(
            f"paddle can't be imported ({error}); --side torch records what torch computes"
        ) from error
    return PaddleSide(pair, device)


def _runs_models(steps: Sequence[str]) -> bool:
    return any(step in ("forward", "loss", "backward") for step in steps)


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
    if _runs_models(steps) and not reference.trace.values:
        missing.append("forward")
    if "backward" in steps and not reference.trace.of_kind("output_gradient"):
        missing.append("backward")
    if "train" in steps and not reference.train:
        missing.append("train")
    elif "train" in steps and reference.train_steps != pair.train_steps:
        raise AlignmentError(
            f"the torch record has {reference.train_steps} training steps, this is "
            f"{pair.train_steps}; record again, or give --train-steps {reference.train_steps}"
        )
    if missing:
        raise AlignmentError(
            f"the torch record lacks the step {missing[0]}; record again with --steps "
            f"{' '.join(steps)}"
        )
