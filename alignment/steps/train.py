"""The step train: both sides step by step, and their free runs for the eye."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from alignment.compare import TensorResult
from alignment.judging.training import TrainJudge
from alignment.pair import AlignmentError
from alignment.recording.dataflow import Dataflow
from alignment.recording.reference import TrainingReference
from alignment.recording.reprod_log import ReprodLog
from alignment.recording.trace import Trace
from alignment.recording.train_record import TrainState, rounded
from alignment.steps.progress import Progress
from alignment.weights.tensors import WeightMap

if TYPE_CHECKING:
    from alignment.paddle_side.runner import PaddleSide
    from alignment.torch_side.runner import TorchSide

PERTURBED_RUNS = 3
"""Free runs of torch from weights moved by one rounding: the band of what rounding does."""


def run_torch_train(
    side: TorchSide, dataflow: Dataflow, log: ReprodLog, progress: Progress
) -> TrainingReference:
    """Return torch's steps, which are run when asked for, and its free runs.

    Args:
        side: the torch side.
        dataflow: of torch's model, which says where a random value comes from.
        log: takes the losses of the free run.
        progress: called with what is about to run.
    """
    dtype, notes = "float64", []
    try:
        side.run("float64", backward=False, mode="train")
    except AlignmentError as error:
        dtype = "float32"
        notes.append(f"trained in float32, since {error}")
    progress("torch trains freely")
    runs = [side.free_run()]
    for seed in range(PERTURBED_RUNS):
        progress(f"torch trains freely, moved by one rounding ({seed + 1} of {PERTURBED_RUNS})")
        runs.append(side.free_run(np.random.default_rng(seed)))
    log.write("train", "torch", _losses(runs[0]))
    first = side.run("float32", backward=False, mode="train").trace
    return TrainingReference(
        side.train,
        dtype,
        side.pair.train_steps,
        curves={
            "torch": runs[0],
            "lowest": np.min(runs, axis=0).tolist(),
            "highest": np.max(runs, axis=0).tolist(),
        },
        random=side.repeat(first, "train").randomness("torch", dataflow),
        notes=tuple(notes),
    )


class PaddleTraining:
    """The Paddle side of the step train.

    Args:
        side: the Paddle side with its weights.
        reference: the torch side.
        dataflow: of torch's model, which says where a random value comes from.
        weight_map: which torch tensor is which Paddle tensor.
        log: takes the losses of the free run.
        progress: called with what is about to run.

    Attributes:
        notes: remarks for the report, complete after `judged`.
        curves: losses of both sides' free runs, complete after `judged`.
    """

    def __init__(
        self,
        side: PaddleSide,
        reference: TrainingReference,
        dataflow: Dataflow,
        weight_map: WeightMap,
        *,
        log: ReprodLog,
        progress: Progress,
    ) -> None:
        self._side, self._reference, self._dataflow = side, reference, dataflow
        self._weight_map, self._log, self._progress = weight_map, log, progress
        self.notes = list(reference.notes)
        self.curves: dict[str, Sequence[float]] = {}

    def judged(self, weights: Mapping[str, np.ndarray]) -> list[TensorResult]:
        """Return the results of all steps, which begin with torch's `weights`."""
        results = self._randomness()
        before = TrainState({name: rounded(array) for name, array in weights.items()})
        dtype = self._reference.dtype
        try:
            results += self._steps(dtype, before)
        except AlignmentError as error:
            if dtype == "float32":
                raise
            self.notes.append(f"Paddle trained in float32, since {error}")
            results += self._steps("float32", before)
        self._progress("Paddle trains freely")
        with self._side.training("float32", self._weight_map) as trainer:
            losses = list(trainer.losses(self._reference.count))
        self._log.write("train", "paddle", _losses(losses))
        self.curves = {**self._reference.curves, "paddle": losses}
        return results

    def _steps(self, dtype: str, before: TrainState) -> list[TensorResult]:
        from alignment.paddle_side.training import StateRefusedError

        reference = self._reference
        decides = dtype == reference.dtype == "float64"
        judge, results = TrainJudge(self._weight_map, dtype, decides=decides), []
        with self._side.training(dtype, self._weight_map) as trainer:
            for step in reference.steps(reference.dtype):
                record = step.record
                self._progress(f"train step {record.step + 1} of {reference.count}")
                try:
                    trainer.restore(record.step, before)
                except StateRefusedError as error:
                    return [*results, judge.refused(record, str(error))]
                forward = trainer.forward(step)
                del step  # Paddle has its own copies now, and backward needs the memory
                ours = trainer.step(record, forward)
                results += judge.judge(record, ours, before)
                before = before.next_state(record)
                # Hundreds of MB, and the next ones are made before they are replaced.
                del record, forward, ours
        return results

    def _randomness(self) -> list[TensorResult]:
        self._progress("Paddle a second time")
        first = Trace()
        self._side.forward("float32", first, "train")
        paddle = self._side.repeat(first, "train").randomness("Paddle", self._dataflow)
        both = filter(None, [self._reference.random, paddle])
        return [TensorResult.missing(str(r.location), None, r.reason, r.location) for r in both]


def free_losses(side: PaddleSide) -> dict[str, np.ndarray]:
    """Return the losses of a free run of Paddle alone, for its reprod_log file."""
    with side.training("float32", None) as trainer:
        return _losses(list(trainer.losses(side.pair.train_steps)))


def _losses(losses: Sequence[float]) -> dict[str, np.ndarray]:
    named = {f"step {step}: loss of a free run": loss for step, loss in enumerate(losses)}
    return {name: np.asarray(loss, np.float32) for name, loss in named.items()}
