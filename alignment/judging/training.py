"""The train step: what torch did in one step, and the verdict on Paddle's step from the same state.

Training on small batches is chaotic: a free run parts from itself after a rounding. So before each
step Paddle receives torch's parameters, buffers and optimizer state, and every step is judged by
itself, in float64 and in training mode:

- the loss end to end, gradients and buffers at torch's activations (see `PaddleSide.backward`),
  within FLOAT64_BOUND or what SENSITIVITY allows;
- clipping and optimizer by themselves: Paddle's clip torch's gradients and its optimizer applies
  them. What a step adds to a parameter is compared, not the parameter, which hardly moves.

Torch's state is rounded to float32 before each step, and its gradients before they are clipped: so
that a record of a step is half as large, and Paddle has exactly the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from alignment.compare import TensorResult, compare, scale_of
from alignment.recording.train_record import PaddleStep, TrainRecord, TrainState
from alignment.tolerances import (
    FLOAT32_AGAINST_FLOAT32,
    FLOAT64_BOUND,
    OPTIMIZER_BOUND,
    SENSITIVITY,
)
from alignment.weights.layout import display_names, to_paddle_layout
from alignment.weights.tensors import Source, WeightMap

TORCH_CLIP_EPSILON = 1e-6
"""torch divides by the norm plus this when it clips, Paddle by the norm: at small norms that is
more than OPTIMIZER_BOUND, and twice as much in Adam's second moment."""


class TrainJudge:
    """Judges Paddle's steps one by one.

    Args:
        weight_map: which torch tensor is which Paddle tensor.
        dtype: Paddle's dtype.
        decides: whether loss, gradients and buffers decide; in float32 they are shown and pass as
            declared, since BatchNorm over a small batch amplifies rounding.
    """

    def __init__(self, weight_map: WeightMap, dtype: str, *, decides: bool) -> None:
        self._map, self._dtype, self._decides = weight_map, dtype, decides
        self._names = display_names(weight_map)
        self._optimizer_bound = OPTIMIZER_BOUND if dtype == "float64" else FLOAT32_AGAINST_FLOAT32

    def judge(
        self, record: TrainRecord, ours: PaddleStep, before: TrainState
    ) -> list[TensorResult]:
        """Return the results of one step, in the order in which it is computed."""
        self._step, self._sensitivity = f"step {record.step}", record.sensitivity
        by_itself = self._optimizer_bound
        if 0 < record.clipped_norm < record.norm:
            by_itself += 2 * TORCH_CLIP_EPSILON / record.norm
        return [
            self._number(
                "learning rate", record.rate, ours.rate, self._optimizer_bound, "by_itself"
            ),
            self._number("loss", record.loss, ours.loss, self._bound(self._sensitivity.loss)),
            *self._arrays("gradient", record.gradients, ours.gradients),
            self._number(
                "gradient norm", record.norm, ours.norm, self._bound(self._sensitivity.norm)
            ),
            self._number(
                "clipped gradient norm",
                record.clipped_norm,
                ours.clipped_norm,
                by_itself,
                comparison="by_itself",
            ),
            *self._arrays(
                "update",
                record.updates,
                ours.updates,
                by_itself,
                comparison="by_itself",
            ),
            *self._slots(record, ours, by_itself),
            *self._buffers(record, ours, before),
        ]

    def refused(self, record: TrainRecord, reason: str) -> TensorResult:
        """Return the failure of a step that could not begin, since torch's state was refused."""
        return TensorResult.missing(f"step {record.step}: optimizer state", None, reason)

    def _bound(self, sensitivity: float) -> float:
        """Return what is allowed end to end to a value that is as sensitive as this."""
        return min(1.0, max(FLOAT64_BOUND, SENSITIVITY * sensitivity))

    def _number(
        self,
        what: str,
        theirs: float,
        ours: float,
        bound: float,
        comparison: str = "end_to_end",
    ) -> TensorResult:
        return compare(
            f"{self._step}: {what}",
            np.asarray(theirs, self._dtype),
            np.asarray(ours, self._dtype),
            allowed=bound,
            comparison=comparison,
            decides=self._decides or comparison == "by_itself",
        )

    def _arrays(
        self,
        what: str,
        theirs: Mapping[str, np.ndarray],
        ours: Mapping[str, np.ndarray],
        bound: float | None = None,
        comparison: str = "end_to_end",
    ) -> Iterator[TensorResult]:
        expected = to_paddle_layout(self._map, theirs).arrays
        scale = scale_of(expected.values())
        for source in self._map.sources:
            name = source.paddle_name
            shown = f"{self._step}: {self._names[name]} ({what})"
            if name in expected and name in ours:
                yield compare(
                    shown,
                    expected[name].astype(self._dtype),
                    ours[name].astype(self._dtype),
                    allowed=bound or self._bound(_largest(self._sensitivity.gradients, source)),
                    scale=scale,
                    comparison=comparison,
                    decides=self._decides or comparison == "by_itself",
                )
            elif name in expected or name in ours:
                side = "Paddle" if name in expected else "torch"
                present = expected.get(name, ours.get(name))
                why = ": frozen, or cut off" if what == "gradient" else ""
                yield TensorResult.missing(shown, present, f"{side} has no {what}{why}")

    def _slots(self, record: TrainRecord, ours: PaddleStep, bound: float) -> Iterator[TensorResult]:
        entries = dict.fromkeys(
            entry
            for state in (record.slots, ours.slots)
            for slots in state.values()
            for entry in slots
        )
        for entry in entries:
            theirs = {n: slots[entry] for n, slots in record.slots.items() if entry in slots}
            actual = {n: slots[entry] for n, slots in ours.slots.items() if entry in slots}
            yield from self._arrays(entry, theirs, actual, bound, "by_itself")

    def _buffers(
        self, record: TrainRecord, ours: PaddleStep, before: TrainState
    ) -> Iterator[TensorResult]:
        theirs, biased = (
            to_paddle_layout(self._map, record.buffers),
            to_paddle_layout(self._map, record.biased),
        )
        earlier = to_paddle_layout(self._map, before.weights).arrays
        for source in self._map.sources:
            name = source.paddle_name
            if name not in theirs.arrays:
                continue
            shown = f"{self._step}: {self._names[name]}"
            if name not in ours.buffers:
                yield TensorResult.missing(
                    shown, theirs.arrays[name], "a parameter in Paddle, a buffer in torch"
                )
                continue
            expected, actual, old = theirs.arrays[name], ours.buffers[name], earlier[name]
            if expected.dtype.kind != "f":
                yield compare(shown, expected, actual, allowed=0.0)
                continue
            bound = self._bound(_largest(self._sensitivity.buffers, source))
            result = self._change(shown, expected, actual, old, bound)
            if name in biased.arrays:
                corrected = self._change(shown, biased.arrays[name], actual, old, bound)
                if not corrected.failed and (corrected.error or 0.0) < (result.error or 0.0):
                    n = record.samples[source.torch_names[0]]
                    reason = (
                        "Paddle's running variance is biased: it is right once torch's factor "
                        f"n / (n - 1) is left out, n = {n} (error {corrected.error:.1e})"
                    )
                    result = replace(corrected, status="declared", reason=reason)
            yield result

    def _change(
        self, shown: str, expected: np.ndarray, actual: np.ndarray, old: np.ndarray, bound: float
    ) -> TensorResult:
        """Compare what the step added to a buffer: a tenth of what the batch says."""
        if actual.shape != expected.shape:
            return compare(shown, expected, actual, allowed=bound, dtype=self._dtype)
        old = old.astype(np.float64)
        change = (actual - old).astype(self._dtype)
        expected = (expected - old).astype(self._dtype)
        return compare(shown, expected, change, allowed=bound, decides=self._decides)


def _largest(sensitivities: Mapping[str, float], source: Source) -> float:
    """Return the largest sensitivity of the torch tensors that a Paddle tensor is made of."""
    return max(sensitivities.get(name, 0.0) for name in source.torch_names)
