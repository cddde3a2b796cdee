"""What each step compares, given the reference and what the Paddle side computed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from alignment.compare import TensorResult, compare, scale_of
from alignment.location import AtCall, AtGradient, AtWeight, Location
from alignment.recording.calls import layer_of, match_calls
from alignment.recording.reference import ModelReference
from alignment.recording.trace import Trace
from alignment.recording.value_key import Kind, ValueKey, lookup_value
from alignment.tolerances import (
    FLOAT32_AGAINST_FLOAT32,
    FLOAT32_FLOOR,
    FLOAT32_RATIO,
    FLOAT64_BOUND,
    SENSITIVITY,
)
from alignment.weights.layout import display_names, to_paddle_layout
from alignment.weights.tensors import Source, WeightMap

KINDS = (
    Kind.OUTPUT,
    Kind.MODEL_OUTPUT,
    Kind.LOSS,
    Kind.MODEL_GRAD_OUTPUT,
    Kind.PARAMETER_GRAD,
    Kind.MODEL_GRAD_INPUT,
)
"""What is compared end to end."""


def data_results(
    reference: Mapping[str, np.ndarray], received: Mapping[str, np.ndarray]
) -> list[TensorResult]:
    """Judge that both frameworks hold the same inputs and targets: shape, dtype and every bit."""
    return [compare(name, array, received[name], allowed=0.0) for name, array in reference.items()]


def weights_results(
    reference: Mapping[str, np.ndarray], weight_map: WeightMap, weights: Mapping[str, np.ndarray]
) -> list[TensorResult]:
    """Judge that every tensor of either side has its counterpart, equal to the bit."""
    results = [
        TensorResult.missing(problem.name, None, problem.message, AtWeight(problem.name))
        for problem in weight_map.problems
    ]
    expected = to_paddle_layout(weight_map, reference)
    for paddle_name, name in display_names(weight_map).items():
        ours = weights[paddle_name]
        if paddle_name in expected.problems:
            reason = expected.problems[paddle_name]
            results.append(TensorResult.missing(name, ours, reason, AtWeight(name)))
        elif paddle_name in expected.arrays:
            theirs = expected.arrays[paddle_name]
            results.append(compare(name, theirs, ours, allowed=0.0, location=AtWeight(name)))
    return results


def wrong_layers(results: Iterable[TensorResult]) -> dict[str, str]:
    """Return {torch's layer: its first tensor that differs or has no counterpart}."""
    wrong: dict[str, str] = {}
    for result in results:
        if result.failed:
            wrong.setdefault(result.name.rpartition(".")[0], result.name)
    return wrong


class RunJudge:
    """Judges what the Paddle side computed; made once, used for float64 and for float32.

    Args:
        reference: what torch computed.
        weight_map: which torch parameter is which Paddle parameter.
    """

    def __init__(self, reference: ModelReference, weight_map: WeightMap) -> None:
        self.reference = reference
        self.weight_map = weight_map
        self.kinds = {kind: reference.trace.of_kind(kind) for kind in KINDS}
        self.scales = {kind: scale_of(values.values()) for kind, values in self.kinds.items()}
        self._names = display_names(weight_map)
        self._decides = True

    def judge(self, step: str, trace: Trace, dtype: str, *, decides: bool) -> list[TensorResult]:
        """Return the results of the step forward, loss or backward.

        Args:
            step: its name.
            trace: what the Paddle side computed in `dtype`.
            dtype: "float32" or "float64".
            decides: False shows the errors and lets them pass as declared.
        """
        self._decides = decides
        return {"forward": self._forward, "loss": self._loss, "backward": self._backward}[step](
            trace, dtype
        )

    def _forward(self, trace: Trace, dtype: str) -> list[TensorResult]:
        return self.layers(trace, dtype) + self._outputs(Kind.MODEL_OUTPUT, trace, dtype)

    def layers(self, trace: Trace, dtype: str) -> list[TensorResult]:
        """Return layers called on both sides, in torch's order of calls."""
        results = []
        ours = trace.layers(matched_calls(self.reference, trace))
        for name, array in self.kinds[Kind.OUTPUT].items():
            key = ValueKey(Kind.OUTPUT, name)
            array_of_ours = lookup_value(key, ours)
            if array_of_ours is not None:
                location = AtCall(self.reference.trace.calls.get(name, name))
                results.append(self._compare([key], array, array_of_ours, dtype, location=location))
        return results

    def _loss(self, trace: Trace, dtype: str) -> list[TensorResult]:
        return self._outputs(Kind.LOSS, trace, dtype)

    def _backward(self, trace: Trace, dtype: str) -> list[TensorResult]:
        """Return gradients of outputs, of parameters against the order of calls, of inputs."""
        return [
            *self._outputs(Kind.MODEL_GRAD_OUTPUT, trace, dtype),
            *self._parameter_gradients(trace.of_kind(Kind.PARAMETER_GRAD), dtype),
            *self._outputs(Kind.MODEL_GRAD_INPUT, trace, dtype),
        ]

    def _outputs(self, kind: Kind, trace: Trace, dtype: str) -> list[TensorResult]:
        """Return values whose names must be the same on both sides."""
        theirs, ours = (
            {key: array for key, array in values.items() if key.kind is kind}
            for values in (self.reference.trace.values, trace.values)
        )
        suffix = " (gradient)" if kind.is_gradient else ""
        results = []
        for key in [*theirs, *(key for key in ours if key not in theirs)]:
            shown = key.label + suffix
            if key not in ours:
                results.append(
                    TensorResult.missing(shown, theirs[key], "Paddle gives no such tensor")
                )
            elif key not in theirs:
                results.append(TensorResult.missing(shown, ours[key], "torch gives no such tensor"))
            else:
                results.append(self._compare([key], theirs[key], ours[key], dtype, shown=shown))
        return results

    def _parameter_gradients(
        self, ours: Mapping[str, np.ndarray], dtype: str
    ) -> list[TensorResult]:
        expected = to_paddle_layout(self.weight_map, self.kinds[Kind.PARAMETER_GRAD])
        theirs = expected.arrays
        results = []
        for source in self._in_backward_order():
            name, shown = source.paddle_name, self._names[source.paddle_name]
            location = AtGradient(shown)
            if name in expected.problems:
                results.append(
                    TensorResult.missing(shown, ours.get(name), expected.problems[name], location)
                )
            elif name in theirs and name in ours:
                keys = [ValueKey(Kind.PARAMETER_GRAD, n) for n in source.torch_names]
                results.append(
                    self._compare(
                        keys, theirs[name], ours[name], dtype, shown=shown, location=location
                    )
                )
            elif name in theirs:
                reason = "no gradient in Paddle: frozen, or cut off from the loss"
                results.append(TensorResult.missing(shown, theirs[name], reason, location))
            elif name in ours:
                reason = "no gradient in torch: frozen there, or cut off from the loss"
                results.append(TensorResult.missing(shown, ours[name], reason, location))
        return results

    def _in_backward_order(self) -> list[Source]:
        """Return the parameters, those of the layer called last first: there a fault arises."""
        call_of = self.reference.trace.calls
        calls = {
            layer_of(call_of.get(name, name)): position
            for position, name in enumerate(self.kinds[Kind.OUTPUT])
        }

        def last_call(source: Source) -> int:
            path = source.torch_names[0].rpartition(".")[0]
            while path and path not in calls:
                path = path.rpartition(".")[0]
            return calls.get(path, -1)

        sources = self.weight_map.sources
        order = [(last_call(source), index) for index, source in enumerate(sources)]
        return [sources[index] for _, index in sorted(order, reverse=True)]

    def _compare(
        self,
        keys: Sequence[ValueKey],
        theirs: np.ndarray,
        ours: np.ndarray,
        dtype: str,
        *,
        shown: str = "",
        location: Location | None = None,
    ) -> TensorResult:
        """Compare a value with the one that is made of torch's values under `keys`."""
        first, kind = keys[0], keys[0].kind
        expected = self._dtype_of(first, theirs, dtype)
        rounding = max(self.reference.rounding.get(key, 0.0) for key in keys)
        sensitivity = max(self.reference.sensitivity.get(key, 0.0) for key in keys)
        if dtype == "float32" and math.isinf(rounding):
            return TensorResult.waived(
                shown or first.label, ours, "not finite in torch float32 either"
            )
        return compare(
            shown or first.label,
            theirs,
            ours,
            allowed=self._allowed(kind, rounding, sensitivity, expected),
            dtype=expected,
            scale=self.scales[kind],
            discontinuities=self.reference.discontinuities.get(first),
            decides=self._decides,
            location=location,
        )

    def _dtype_of(self, key: ValueKey, theirs: np.ndarray, dtype: str) -> str:
        if dtype == self.reference.dtype:
            return str(theirs.dtype)
        return self.reference.float32_dtypes.get(key, "float32")

    def _allowed(self, kind: Kind, rounding: float, sensitivity: float, dtype: str) -> float:
        if dtype == "float64":
            return min(1.0, max(FLOAT64_BOUND, SENSITIVITY * sensitivity))
        if not dtype.startswith(("float", "bfloat", "complex")):
            return 0.0  # integers and booleans are equal or not
        if self.reference.dtype == "float32":
            return FLOAT32_AGAINST_FLOAT32
        return FLOAT32_RATIO * max(rounding, self._usual_rounding(kind), FLOAT32_FLOOR)

    def _usual_rounding(self, kind: Kind) -> float:
        """Return the largest error of torch float32 on values of a kind.

        Rounding is a matter of luck on a single tensor: which activation next to zero changes its
        sign differs between two programs that are both right.
        """
        same = Kind.OUTPUT if kind in (Kind.MODEL_OUTPUT, Kind.LOSS) else kind
        return max(
            (
                error
                for key, error in self.reference.rounding.items()
                if key.kind is same and math.isfinite(error)
            ),
            default=0.0,
        )


def matched_calls(reference: ModelReference, trace: Trace) -> dict[str, str]:
    """Return {Paddle's call: torch's}, of the calls that a Paddle run made so far."""
    return match_calls(list(reference.trace.tree.parents), list(trace.tree.parents))


def notes_on_calls(reference: ModelReference, trace: Trace) -> list[str]:
    """Return layers called on one side only or on neither, and outputs that can't be read."""
    theirs, ours = reference.trace, trace
    matched = matched_calls(reference, trace)
    in_torch, in_paddle = theirs.of_kind(Kind.OUTPUT), ours.layers(matched)
    unmatched = [call for call in ours.tree.parents if call not in matched]
    lists = {
        "called in torch only": [
            name
            for name in in_torch
            if lookup_value(ValueKey(Kind.OUTPUT, name), in_paddle) is None
        ],
        "called in Paddle only": unmatched,
        "never called": [
            name
            for name in ours.tree.not_called
            if name in set(theirs.tree.not_called)
            # A container whose parts are called one by one is not worth a word.
            and not any(call.startswith(f"{name}.") for call in in_torch)
        ],
    }
    notes = [f"{what}: {', '.join(names)}" for what, names in lists.items() if names]
    unread = dict.fromkeys([*theirs.unread, *ours.unread])
    return notes + [f"not compared: {reason}" for reason in unread]
