"""The step train: both sides step by step, and their free runs for the eye."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from alignment.compare import TensorResult, absent
from alignment.judging.training import TrainJudge
from alignment.pair import AlignmentError
from alignment.recording.reference import Reference
from alignment.recording.reprod_log import ReprodLog
from alignment.recording.trace import Trace
from alignment.recording.train_record import TrainState, rounded
from alignment.weights.tensors import WeightMap

if TYPE_CHECKING:
    from alignment.paddle_side.runner import PaddleSide
    from alignment.torch_side.runner import TorchSide

MOVED_RUNS = 3
"""Free runs of torch from weights moved by one rounding: the band of what rounding does."""

Progress = Callable[[str], None]


def run_torch_train(reference: Reference, side: TorchSide, log: ReprodLog, tell: Progress) -> None:
    """Give the reference torch's steps, which are run when asked for, and its free runs."""
    reference.train, reference.train_dtype = side.train, _dtype_of(reference, side)
    reference.train_steps = side.pair.train_steps
    tell("torch trains freely")
    runs = [side.free_run()]
    for seed in range(MOVED_RUNS):
        tell(f"torch trains freely, moved by one rounding ({seed + 1} of {MOVED_RUNS})")
        runs.append(side.free_run(np.random.default_rng(seed)))
    lowest, highest = np.min(runs, axis=0).tolist(), np.max(runs, axis=0).tolist()
    reference.curves = {"torch": runs[0], "lowest": lowest, "highest": highest}
    first = side.run("float32", backward=False, mode="train")
    log.write("train", "torch", _losses(runs[0]))
    reference.random_training = side.repeat(first, "train").found("torch", reference.alone)


def run_paddle_train(
    reference: Reference,
    side: PaddleSide,
    weight_map: WeightMap,
    log: ReprodLog,
    tell: Progress,
) -> tuple[list[TensorResult], list[str], dict[str, list[float]]]:
    """Return the results of the step, its notes, and the curves of the free runs."""
    notes = list(reference.train_notes)
    results = _randomness(reference, side, tell)
    dtype = reference.train_dtype
    try:
        results += _judged(reference, side, weight_map, dtype, tell)
    except AlignmentError as error:
        if dtype == "float32":
            raise
        notes.append(f"Paddle trained in float32, since {error}")
        results += _judged(reference, side, weight_map, "float32", tell)
    tell("Paddle trains freely")
    with side.training("float32", weight_map) as trainer:
        ours = list(trainer.losses(side.pair.train_steps))
    log.write("train", "paddle", _losses(ours))
    return results, notes, dict(reference.curves) | {"paddle": ours}


def _dtype_of(reference: Reference, side: TorchSide) -> str:
    """Return the dtype to train in: float64 where torch can."""
    try:
        side.run("float64", backward=False, mode="train")
    except AlignmentError as error:
        reference.train_notes.append(f"trained in float32, since {error}")
        return "float32"
    return "float64"


def _judged(
    reference: Reference, side: PaddleSide, weight_map: WeightMap, dtype: str, tell: Progress
) -> list[TensorResult]:
    decides = dtype == reference.train_dtype == "float64"
    judge, results = TrainJudge(weight_map, dtype, decides=decides), []
    state = TrainState({name: rounded(array) for name, array in reference.weights.items()})
    with side.training(dtype, weight_map) as trainer:
        for record in reference.train(reference.train_dtype):
            tell(f"train step {record.step + 1} of {side.pair.train_steps}")
            ours = trainer.step(record, state)
            results += judge.judge(record, ours, state)
            if ours.refused:
                break
            state.advance(record)
            del record, ours  # hundreds of MB, and the next ones are made before they are replaced
    return results


def _randomness(reference: Reference, side: PaddleSide, tell: Progress) -> list[TensorResult]:
    tell("Paddle a second time")
    first = Trace()
    side.forward("float32", first, "train")
    found = side.repeat(first, "train").found("Paddle", reference.alone)
    both = filter(None, [reference.random_training, found])
    return [absent(str(r.location), None, r.reason, r.location) for r in both]


def free_losses(side: PaddleSide) -> dict[str, np.ndarray]:
    """Return the losses of a free run of Paddle alone, for its reprod_log file."""
    with side.training("float32", None) as trainer:
        return _losses(list(trainer.losses(side.pair.train_steps)))


def _losses(losses: Sequence[float]) -> dict[str, np.ndarray]:
    named = {f"step {step}: loss of a free run": loss for step, loss in enumerate(losses)}
    return {name: np.asarray(loss, np.float32) for name, loss in named.items()}
