"""The Paddle side end to end in float64 and float32, then layer by layer, each judged at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from alignment.compare import TensorResult
from alignment.judging.end_to_end import RunJudge, matched_calls, notes_on_calls
from alignment.judging.layers import LayerJudge
from alignment.location import AtWeight
from alignment.pair import AlignmentError
from alignment.recording.layerwise import LayerwiseReference
from alignment.recording.reference import ModelReference
from alignment.recording.reprod_log import ReprodLog
from alignment.recording.trace import Trace
from alignment.recording.value_key import LOSS, Kind, ValueKey
from alignment.steps.progress import Progress
from alignment.weights.layout import to_torch_layout
from alignment.weights.tensors import TensorSpec, WeightMap

if TYPE_CHECKING:
    from alignment.paddle_side.runner import PaddleSide

MODEL_STEPS = ("forward", "loss", "backward")


class PaddleRuns:
    """Runs the Paddle side in both dtypes and judges it.

    Args:
        side: the Paddle side with its weights.
        reference: what torch computed.
        specs: what each torch tensor becomes in Paddle.
        weight_map: which torch tensor is which Paddle tensor.
        steps: the chosen steps.
        mode: "eval" or "train".
        log: takes the float32 values.
        progress: called with what is about to run.
        wrong_weights: {layer: its first tensor that differs}.

    Attributes:
        notes: remarks by step, complete after `judged`.
    """

    def __init__(
        self,
        side: PaddleSide,
        reference: ModelReference,
        specs: Sequence[TensorSpec],
        weight_map: WeightMap,
        steps: Sequence[str],
        *,
        mode: str,
        log: ReprodLog,
        progress: Progress,
        wrong_weights: Mapping[str, str],
    ) -> None:
        self._side, self._reference, self._mode = side, reference, mode
        self._specs, self._weight_map = specs, weight_map
        self._chosen, self._log, self._progress = steps, log, progress
        self._judge = RunJudge(reference, weight_map)
        self._wrong_weights = wrong_weights
        self._steps = [step for step in MODEL_STEPS if step in steps]
        self._results: dict[str, list[TensorResult]] = {step: [] for step in self._steps}
        self.notes: dict[str, list[str]] = {step: list(reference.notes) for step in self._steps}

    def judged(self) -> dict[str, list[TensorResult]]:
        """Return the results of each chosen step.

        First what is judged by itself, which names the fault, then what is judged end to end; there
        a tensor's two results stand together, float64 first.

        Raises:
            AlignmentError: Paddle can't run it, and nothing that was found explains why.
        """
        in_float64: list[str] = []
        if self._reference.dtype == "float64":
            trace, in_float64, error = self._run("float64")
            for step in in_float64:
                self._results[step] += self._judge.judge(step, trace, "float64", decides=True)
            for step in self._steps:
                if step not in in_float64:
                    self.notes[step].append(f"judged in float32 alone, since {error}")
            del trace  # hundreds of MB: the next run's values take their place
        trace, in_float32, error = self._run("float32")
        for step in in_float32:
            decides = self._mode == "eval" or step not in in_float64
            self._results[step] += self._judge.judge(step, trace, "float32", decides=decides)
        if error and "forward" in self._steps and "forward" not in in_float32:
            # The layers that returned before the model raised.
            self._results["forward"] += self._judge.layers(trace, "float32")
        if error:
            self._explain(error, next(step for step in self._steps if step not in in_float32))
        self._write(trace)
        if "forward" in in_float32:
            self.notes["forward"] += notes_on_calls(self._reference, trace)
        results = {step: _interleaved(results) for step, results in self._results.items()}
        random = self._random(trace, ran=not error)
        for step, by_themselves in self._by_themselves(trace).items():
            results[step] = by_themselves + results[step]
        results[self._steps[0]] = random + results[self._steps[0]]
        return results

    def _random(self, trace: Trace, *, ran: bool) -> list[TensorResult]:
        """Return the failure of a side that gives another value each time."""
        random = [self._reference.random]
        if ran:
            self._progress("Paddle a second time")
            repeat = self._side.repeat(trace)
            random.append(repeat.randomness("Paddle", self._reference.dataflow))
        return [
            TensorResult.missing(str(r.location), None, r.reason, r.location) for r in random if r
        ]

    def _by_themselves(self, trace: Trace) -> dict[str, list[TensorResult]]:
        """Return the results of the layers by themselves, for the steps forward and backward."""
        layerwise, backward = self._reference.layerwise, "backward" in self._steps
        if layerwise is None:
            return {}
        matched = matched_calls(self._reference, trace)
        layers = {call: matched[call] for call in trace.tree.finest(matched)}
        layers = {call: name for call, name in layers.items() if name in layerwise.dataflow.inputs}
        in_order = [
            call for call in layerwise.dataflow.tree.parents if call in set(layers.values())
        ]
        judge = LayerJudge(
            layerwise, self._reference.dtype, self._weight_map, in_order, self._wrong_weights
        )
        notes = self.notes[self._steps[0]]
        self._progress("Paddle layer by layer")
        try:
            mismatched_calls = self._side.layerwise(
                layerwise, layers, judge.observe, dtype="float32", backward=backward
            )
            needs_recheck = judge.finish(
                [layers[call] for call in mismatched_calls], backward=backward
            )
            if needs_recheck and self._reference.dtype == "float64":
                self._recheck(judge, layerwise, layers, backward=backward)
            notes += [
                f"called with other arguments than in torch: {', '.join(mismatched_calls)}"
            ] * bool(mismatched_calls)
        except AlignmentError as error:
            notes.append(f"not all layers are judged by themselves, since {error}")
        judged = {"forward": judge.forward(), "backward": judge.backward() if backward else []}
        return {step: results for step, results in judged.items() if step in self._steps}

    def _recheck(
        self,
        judge: LayerJudge,
        layerwise: LayerwiseReference,
        layers: Mapping[str, str],
        *,
        backward: bool,
    ) -> None:
        self._progress("Paddle layer by layer in float64")
        try:
            self._side.layerwise(
                layerwise,
                layers,
                judge.recheck_in_float64,
                dtype="float64",
                backward=backward,
            )
        except AlignmentError:  # it can't run in float64, which the end-to-end run has noted
            judge.without_float64()

    def _run(self, dtype: str) -> tuple[Trace, list[str], AlignmentError | None]:
        """Return what Paddle computes, the chosen steps it got through, and what stopped it."""
        self._progress(f"Paddle {dtype}")
        trace, done = Trace(), []
        try:
            output = self._side.forward(dtype, trace)
            done.append("forward")
            if {"loss", "backward"} & set(self._steps):
                trace.values[LOSS] = self._side.loss(dtype, output)
                done.append("loss")
            del output
            if "backward" in self._steps:
                trace.values |= self._gradients(dtype, trace).values
                done.append("backward")
        except AlignmentError as error:
            return trace, [step for step in done if step in self._steps], error
        return trace, [step for step in done if step in self._steps], None

    def _gradients(self, dtype: str, trace: Trace) -> Trace:
        reference = self._reference
        same = dtype == reference.dtype
        activations = reference.trace.values if same else reference.activations
        return self._side.backward(
            dtype,
            activations,
            reference.trace.of_kind(Kind.MODEL_GRAD_OUTPUT),
            matched_calls(reference, trace),
        )

    def _explain(self, error: AlignmentError, step: str) -> None:
        """Raise where nothing was wrong before; else what raised has failed."""
        problems = self._weight_map.problems
        diverged = any(not result for results in self._results.values() for result in results)
        if not problems and not diverged:
            raise error
        location = AtWeight(problems[0].name) if problems else None
        reason = f"{problems[0]}; then {error}" if problems else str(error)
        self._results[step].append(TensorResult.missing("the Paddle side", None, reason, location))

    def _write(self, trace: Trace) -> None:
        kind = Kind.PARAMETER_GRAD
        others = {key: array for key, array in trace.values.items() if key.kind is not kind}
        ours = to_torch_layout(trace.of_kind(kind), self._weight_map, self._specs)
        renamed = {ValueKey(kind, name): array for name, array in ours.items()}
        self._log.write_trace(self._chosen, "paddle", others | renamed)


def _interleaved(results: Sequence[TensorResult]) -> list[TensorResult]:
    by_name: dict[str, list[TensorResult]] = {}
    for result in results:
        by_name.setdefault(result.name, []).append(result)
    return [result for group in by_name.values() for result in group]
