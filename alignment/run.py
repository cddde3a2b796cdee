"""Run both sides of a pair and compare them."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from alignment.compare import FLOAT64_BOUND, TensorResult, absent, compare, relative_error
from alignment.pair import AlignmentError, Pair
from alignment.records import Reference, hashes, save_reprod_log
from alignment.report import Report, StepResult
from alignment.steps import RunJudge, data_step, notes_on_calls, weights_step
from alignment.tensor_map import WeightMap, match
from alignment.tracing import Trace

CHECK_BOUND = FLOAT64_BOUND
CHECK_BOUND_FLOAT32 = 1e-6

if TYPE_CHECKING:
    from alignment.paddle_side import PaddleSide

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
    tell = progress or (lambda _message: None)
    log = _ReprodLog(out)
    if reference is None:
        reference = run_torch(pair, chosen, device=device, out=out, progress=tell)
    else:
        _refuse_other_record(pair, reference, chosen)
    results = _run_paddle(pair, chosen, reference, device=device, log=log, tell=tell)
    environment = reference.environment | environment_of("paddle") | {"device": device}
    report = Report(pair.name, tuple(results), environment, hashes(pair.named_arrays()))
    if out:
        report.save(Path(out))
    return report


def chosen_steps(pair: Pair, steps: Iterable[str] | None) -> tuple[str, ...]:
    """The steps to run, in order.

    Raises:
        AlignmentError: the pair lacks one of them, or none is named.
    """
    supported = pair.steps()
    wanted = supported if steps is None else tuple(steps)
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
    from alignment.torch_side import TorchSide

    tell, log = progress or (lambda _message: None), _ReprodLog(out)
    side = TorchSide(pair, device)
    reference = Reference(pair.name, pair.mode, specs=side.specs(), weights=side.weights())
    reference.received = side.received()
    reference.environment = environment_of("torch")
    log.write("data", "torch", reference.received)
    if _runs_models(steps):
        backward = "backward" in steps
        tell("torch float64")
        try:
            reference.trace = side.run("float64", backward=backward)
            if backward:
                tell("torch float64, the loss at perturbed outputs")
                reference.jumps = side.gradient_jumps(reference.trace)
        except AlignmentError as error:
            reference.notes.append(f"float64 can't be run, judged in float32 alone: {error}")
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
    for step in steps:
        if step in pair.checks:
            tell(f"{step}: the reference's values")
            reference.checks[step] = _check_values(pair, step, 1)
            log.write(step, "torch", reference.checks[step])
    return reference


def run_paddle_alone(pair: Pair, steps: Sequence[str], out: Path, *, device: str = "cpu") -> None:
    """Run the Paddle side with its own weights and leave its reprod_log files in `out`."""
    from alignment.paddle_side import PaddleSide

    side, log = PaddleSide(pair, device), _ReprodLog(out)
    log.write("data", "paddle", side.received())
    if _runs_models(steps):
        trace = side.forward("float32")
        if "backward" in steps:
            trace.values |= side.backward("float32", {}, {}).values
        log.write_trace(steps, "paddle", trace.values)
    for step in steps:
        if step in pair.checks:
            log.write(step, "paddle", _check_values(pair, step, 2))


def environment_of(framework: str) -> dict[str, str]:
    """Versions that a reader of the report needs."""
    names = {"torch": ("torch",), "paddle": ("paddlepaddle", "paddlepaddle-gpu", "paddleseg")}
    environment = {"python": platform.python_version(), "platform": platform.platform()}
    for name in (*names[framework], "numpy", "reprod_log"):
        try:
            environment[name] = version(name)
        except PackageNotFoundError:
            continue
    return environment


class _ReprodLog:
    """Writes NAME_torch.npy and NAME_paddle.npy for each step, or nothing without a folder."""

    def __init__(self, folder: str | Path | None) -> None:
        self.folder = Path(folder) if folder else None
        if self.folder:
            self.folder.mkdir(parents=True, exist_ok=True)

    def write(self, step: str, side: str, values: Mapping[str, np.ndarray]) -> None:
        if self.folder:
            save_reprod_log(self.folder / f"{step}_{side}.npy", values)

    def write_trace(self, steps: Sequence[str], side: str, values: dict[str, np.ndarray]) -> None:
        kinds = {
            "forward": ("layer/", "output/"),
            "loss": ("loss/",),
            "backward": ("output_gradient/", "gradient/", "input_gradient/"),
        }
        for step, prefixes in kinds.items():
            if step in steps:
                chosen = {key: v for key, v in values.items() if key.startswith(prefixes)}
                self.write(step, side, chosen)


def _run_paddle(
    pair: Pair,
    steps: Sequence[str],
    reference: Reference,
    *,
    device: str,
    log: _ReprodLog,
    tell: Progress,
) -> list[StepResult]:
    from alignment.paddle_side import PaddleSide

    side = PaddleSide(pair, device)
    weight_map = match(
        reference.specs, side.tensors(), rename=pair.rename, convert=pair.convert or None
    )
    if pair.transfer:
        _transfer(weight_map, reference, side)
    results: dict[str, list[TensorResult]] = {step: [] for step in steps}
    notes: dict[str, list[str]] = {step: [] for step in steps}
    received = side.received()
    log.write("data", "paddle", received)
    if _runs_models(steps):
        judge = RunJudge(reference, weight_map)
        judged = _judged_runs(judge, side, steps, log, notes, tell)
        for step in ("forward", "loss", "backward"):
            if step in steps:
                results[step] += judged[step]
    for step in steps:
        if step in pair.checks:
            tell(f"{step}: Paddle's values")
            ours = _check_values(pair, step, 2)
            log.write(step, "paddle", ours)
            results[step] += _judged_checks(reference.checks[step], ours)
    whole = {
        "data": lambda: data_step(reference, received),
        "weights": lambda: weights_step(reference, weight_map, side.weights()),
    }
    return [
        whole[step]()
        if step in whole
        else StepResult(step, tuple(results[step]), tuple(notes[step]))
        for step in steps
    ]


def _judged_runs(
    judge: RunJudge,
    side: PaddleSide,
    steps: Sequence[str],
    log: _ReprodLog,
    notes: dict[str, list[str]],
    tell: Progress,
) -> dict[str, list[TensorResult]]:
    """Run Paddle in both dtypes; each tensor's two results stand together, float64 first."""
    reference = judge.reference
    judged: dict[str, list[list[TensorResult]]] = {s: [] for s in ("forward", "loss", "backward")}
    remarks = list(reference.notes)
    for dtype in ("float64", "float32"):
        if dtype == "float64" and reference.dtype != "float64":
            continue
        tell(f"Paddle {dtype}")
        try:
            trace = side.forward(dtype)
            if "backward" in steps:
                gradients = _gradients(side, reference, dtype)
        except AlignmentError as error:
            if dtype == "float32":
                raise
            remarks.append(f"float64 can't be run, judged in float32 alone: {error}")
            continue
        judged["forward"].append(judge.forward(trace, dtype))
        judged["loss"].append(judge.loss(trace, dtype))
        if "backward" in steps:
            judged["backward"].append(judge.backward(gradients, dtype))
            trace.values |= gradients.values
        if dtype == "float32":
            log.write_trace(steps, "paddle", trace.values)
            notes.get("forward", []).extend(notes_on_calls(reference, trace))
        trace = gradients = None  # hundreds of MB: the next run's values take their place
    for step in judged:
        notes.get(step, []).extend(remarks)
    return {step: _interleaved(results) for step, results in judged.items()}


def _gradients(side: PaddleSide, reference: Reference, dtype: str) -> Trace:
    same = dtype == reference.dtype
    activations = reference.trace.values if same else reference.activations
    return side.backward(dtype, activations, reference.trace.of_kind("output_gradient"))


def _interleaved(lists: Sequence[list[TensorResult]]) -> list[TensorResult]:
    by_name: dict[str, list[TensorResult]] = {}
    for results in lists:
        for result in results:
            by_name.setdefault(result.name, []).append(result)
    return [result for results in by_name.values() for result in results]


def _transfer(weight_map: WeightMap, reference: Reference, side: PaddleSide) -> None:
    """Carry over what fits; what does not fails the weights step."""
    misfits = {problem.name for problem in weight_map.problems}
    fitting = tuple(source for source in weight_map.sources if not misfits & {*source.torch_names})
    moved = WeightMap(fitting, ()).to_paddle(reference.weights)
    side.load(side.weights() | moved)


def _rounding(reference: Reference, trace: Trace) -> dict[str, float]:
    errors = {}
    for key, exact in reference.trace.values.items():
        if key in trace.values:
            kind, _, name = key.partition("/")
            jumps = reference.jumps.get(name) if kind == "output_gradient" else None
            errors[key] = relative_error(exact, trace.values[key], jumps)
    return errors


def _check_values(pair: Pair, step: str, position: int) -> dict[str, np.ndarray]:
    """One side's values of a step's checks: position 1 is the reference's, 2 is ours."""
    values: dict[str, np.ndarray] = {}
    for check in pair.checks[step]():
        name, value = check[0], check[position]
        if name in values:
            raise AlignmentError(f"the check {name!r} of step {step} stands twice")
        try:
            values[name] = np.asarray(value() if callable(value) else value)
        except Exception as error:  # a user's check may raise anything; the cause stays attached
            raise AlignmentError(f"the check {name!r} of step {step} raised: {error}") from error
    return values


def _judged_checks(
    theirs: Mapping[str, np.ndarray], ours: Mapping[str, np.ndarray]
) -> list[TensorResult]:
    results = []
    for name, array in theirs.items():
        if name not in ours:
            results.append(absent(name, array, "ours gives no such value"))
            continue
        bound = {"float64": CHECK_BOUND, "float32": CHECK_BOUND_FLOAT32}
        allowed = bound.get(str(array.dtype), 0.0)
        results.append(compare(name, array, ours[name], allowed=allowed, comparison="by_itself"))
    extra = [name for name in ours if name not in theirs]
    return results + [absent(n, ours[n], "the reference gives no such value") for n in extra]


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
    if missing:
        raise AlignmentError(
            f"the torch record lacks the step {missing[0]}; record again with --steps "
            f"{' '.join(steps)}"
        )
