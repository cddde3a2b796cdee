"""Run the Paddle side and judge it step by step against the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from alignment.compare import TensorResult
from alignment.judging import checks
from alignment.judging.end_to_end import data_results, weights_results, wrong_layers
from alignment.location import AtWeight
from alignment.pair import AlignmentError, Pair
from alignment.recording.dataflow import Dataflow
from alignment.recording.reference import ModelReference, Reference, TrainingReference
from alignment.recording.reprod_log import ReprodLog
from alignment.recording.trace import Trace
from alignment.recording.value_key import LOSS
from alignment.report.results import StepResult
from alignment.steps.models import PaddleRuns
from alignment.steps.progress import Progress
from alignment.steps.torch_reference import runs_models
from alignment.steps.train import PaddleTraining, free_losses
from alignment.weights.layout import transferred_state
from alignment.weights.matching import match

if TYPE_CHECKING:
    from alignment.paddle_side.runner import PaddleSide


def run_paddle_alone(pair: Pair, steps: Sequence[str], out: Path, *, device: str = "cpu") -> None:
    """Run the Paddle side with its own weights and leave its reprod_log files in `out`."""
    side, log = _paddle_side(pair, device), ReprodLog(out)
    log.write("data", "paddle", side.received())
    if runs_models(steps):
        trace = Trace()
        output = side.forward("float32", trace)
        if pair.paddle_loss:
            trace.values[LOSS] = side.loss("float32", output)
        if "backward" in steps:
            trace.values |= side.backward("float32", {}, {}, {}).values
        log.write_trace(steps, "paddle", trace.values)
    if "train" in steps:
        log.write("train", "paddle", free_losses(side))
    for step in steps:
        if step in pair.checks:
            log.write(step, "paddle", checks.our_values(pair, step)[0])


class PaddleComparison:
    """The Paddle side of one comparison, judged step by step.

    It lets go of what torch's model computed once that is judged, before training: hundreds of MB
    where nobody else holds the reference.
    """

    def __init__(
        self,
        pair: Pair,
        steps: Sequence[str],
        reference: Reference,
        *,
        device: str,
        log: ReprodLog,
        progress: Progress,
    ) -> None:
        self.curves: dict[str, Sequence[float]] = {}
        self._pair, self._steps = pair, steps
        self._received, self._weights = reference.received, reference.weights
        self._specs, self._checks = reference.specs, reference.checks
        self._model, self._training = reference.model, reference.training
        self._log, self._progress = log, progress
        self._side = _paddle_side(pair, device)
        self._map = match(
            reference.specs, self._side.tensors(), rename=pair.rename, convert=pair.convert or None
        )
        if pair.transfer:
            state = transferred_state(self._map, reference.weights, self._side.weights())
            self._side.load(state)
        self._results: dict[str, list[TensorResult]] = {step: [] for step in steps}
        self._notes: dict[str, list[str]] = {step: [] for step in steps}

    def results(self) -> list[StepResult]:
        """Run and judge all steps."""
        received = self._side.received()
        self._log.write("data", "paddle", received)
        if "data" in self._steps:
            self._results["data"] += data_results(self._received, received)
        weights = weights_results(self._weights, self._map, self._side.weights())
        if "weights" in self._steps:
            self._results["weights"] += weights
        if runs_models(self._steps):
            self._run_models(self._model, wrong_layers(weights))
        for step in self._steps:
            if step in self._pair.checks:
                self._run_checks(step)
        dataflow = self._model.dataflow if self._model else Dataflow()
        self._model = None
        if "train" in self._steps:
            self._run_train(self._training, dataflow)
        return [
            StepResult(step, tuple(self._results[step]), tuple(self._notes[step]))
            for step in self._steps
        ]

    def _run_models(self, reference: ModelReference, wrong_weights: Mapping[str, str]) -> None:
        runs = PaddleRuns(
            self._side,
            reference,
            self._specs,
            self._map,
            self._steps,
            mode=self._pair.mode,
            log=self._log,
            progress=self._progress,
            wrong_weights=wrong_weights,
        )
        for step, judged in runs.judged().items():
            self._results[step] += judged
            self._notes[step] += runs.notes[step]

    def _run_checks(self, step: str) -> None:
        self._progress(f"{step}: Paddle's values")
        ours, raised = checks.our_values(self._pair, step)
        self._log.write(step, "paddle", ours)
        self._results[step] += checks.judged(self._checks[step], ours, raised)

    def _run_train(self, reference: TrainingReference, dataflow: Dataflow) -> None:
        training = PaddleTraining(
            self._side, reference, dataflow, self._map, log=self._log, progress=self._progress
        )
        try:
            judged = training.judged(self._weights)
            self._notes["train"] += training.notes
            self.curves = training.curves
        except AlignmentError as error:
            if all(result for results in self._results.values() for result in results):
                raise
            # Something was wrong before, and most likely this is why it raised.
            judged = [TensorResult.missing("the Paddle side", None, str(error))]
        if "weights" not in self._steps:
            self._results["train"] += [
                TensorResult.missing(problem.name, None, problem.message, AtWeight(problem.name))
                for problem in self._map.problems
            ]
        self._results["train"] += judged


def _paddle_side(pair: Pair, device: str) -> PaddleSide:
    try:
        from alignment.paddle_side.runner import PaddleSide
    except ImportError as error:
        raise AlignmentError(
            f"paddle can't be imported ({error}); --side torch records what torch computes"
        ) from error
    return PaddleSide(pair, device)
