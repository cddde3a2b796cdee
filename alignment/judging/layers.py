"""The verdict on each layer by itself, and on the code between two layers.

Values come from a layerwise run (see `alignment.recording.layerwise`), in float32. Allowed is
BY_ITSELF_RATIO times the error of torch float32 on the very same values, or of one float32
rounding.

What fails there, unless it is large everywhere, is looked at in float64 too. A fault is as large in
float64; rounding is not: a long sum that one side adds up in another order, or a rounding that
decides which of two equal maxima is chosen, or on which side of zero a ReLU's input lies. Where
float64 is FLOAT64_RECHECK_RATIO times nearer, or within a rounding of float32, the tensor is
declared.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

import numpy as np

from alignment.compare import (
    TensorResult,
    compare,
    distance,
    largest_value,
    scale_of,
)
from alignment.location import AtCall, AtGradient, AtWeight, Between, Location
from alignment.recording.calls import layer_of
from alignment.recording.layerwise import LayerwiseReference
from alignment.recording.value_key import Kind, ValueKey, lookup_value, spellings
from alignment.tolerances import (
    BY_ITSELF_RATIO,
    FLOAT32_AGAINST_FLOAT32,
    FLOAT64_BOUND,
    ONE_ROUNDING,
)
from alignment.weights.layout import ConvertedArrays, display_names, to_paddle_layout
from alignment.weights.tensors import Source, WeightMap

FLOAT64_RECHECK_RATIO = 10.0
"""How many times nearer float64 must be for a difference in float32 to count as rounding."""

FLOAT32_ALONE = 4.0
"""How many times what is allowed passes as declared where float64 can't be asked."""

DENSE_ROUNDING = 1e-5
"""Largest error (160 roundings) that is believed to be rounding where it is everywhere: half
precision in float32 alone is no rounding of float32."""

DENSE = 0.01
"""Share of a layer's outputs from which on an error is everywhere."""

_SUFFIXES = {
    Kind.INPUT: " (input)",
    Kind.GRAD_OUTPUT: " (output gradient)",
    Kind.GRAD_INPUT: " (input gradient)",
    Kind.MODEL_GRAD_INPUT: " (gradient)",
}
"""What the report adds to a value's name."""


class LayerJudge:
    """Judges the values of a layerwise run of Paddle as they come.

    Args:
        reference: torch's layers by themselves.
        dtype: the dtype of the reference: "float64", or "float32" where torch can't run in that.
        weight_map: which torch parameter is which Paddle parameter.
        layers: torch's calls that the run stops at, in torch's order.
        wrong_weights: {layer: its first tensor that differs}: there the weights are at fault.
    """

    def __init__(
        self,
        reference: LayerwiseReference,
        dtype: str,
        weight_map: WeightMap,
        layers: Iterable[str],
        wrong_weights: Mapping[str, str],
    ) -> None:
        self._reference, self._dataflow = reference, reference.dataflow
        self._rounding = reference.rounding
        self._dtype = dtype
        self._weight_map = weight_map
        self._layers = list(layers)
        self._wrong_weights = wrong_weights
        self._results: dict[ValueKey, TensorResult] = {}
        self._gradients: dict[str, np.ndarray | None] = {}
        self._shares: dict[ValueKey, float] = {}
        self._to_recheck: set[ValueKey] = set()
        self._scales: dict[Kind, float] = {}

    def observe(self, key: ValueKey, array: np.ndarray | None) -> None:
        """Judge a value of the float32 run."""
        if key.kind is Kind.PARAMETER_GRAD:
            self._gradients[key.name] = array
            return
        reference = lookup_value(key, self._reference.values)
        result = self._judged(
            key, reference, array, lookup_value(key, self._rounding.errors) or 0.0
        )
        earlier = self._results.get(key)
        if result is not None and (earlier is None or not earlier.failed):
            self._results[key] = result

    def finish(self, mismatched_calls: Iterable[str], *, backward: bool) -> bool:
        """End the float32 run; tell whether float64 is asked about anything.

        Args:
            mismatched_calls: torch's calls that the run did not stop at after all.
            backward: whether it went back.
        """
        self._layers = [call for call in self._layers if call not in set(mismatched_calls)]
        if backward:
            for call in self._layers:
                for key in self._dataflow.keys_of_call(call, Kind.GRAD_OUTPUT):
                    if key in self._reference.values and lookup_value(key, self._results) is None:
                        self.observe(key, None)  # no gradient came by: it was cut off
        for source, result in self._parameters():
            self._results[ValueKey(Kind.PARAMETER_GRAD, source.paddle_name)] = result
        self._to_recheck = {
            key
            for key, result in self._results.items()
            if result.failed
            and result.error is not None
            and (result.error <= DENSE_ROUNDING or self._shares.get(key, 0.0) <= DENSE)
        }
        return bool(self._to_recheck)

    def recheck_in_float64(self, key: ValueKey, array: np.ndarray | None) -> None:
        """Declare what failed in float32 where the same value in float64 agrees."""
        if key not in self._to_recheck or array is None:
            return
        kind = key.kind
        if kind is Kind.PARAMETER_GRAD:
            reference = self._expected_gradients.arrays[key.name]
        else:
            reference = lookup_value(key, self._reference.values)
        in_float32 = self._results[key]
        allowed = min(FLOAT64_BOUND, max(in_float32.error / FLOAT64_RECHECK_RATIO, ONE_ROUNDING))
        if kind not in self._scales:
            self._scales[kind] = scale_of(self._reference.of_kind(kind).values())
        dtype, scale = str(array.dtype), self._scales[kind]
        result = compare(key.label, reference, array, allowed=allowed, dtype=dtype, scale=scale)
        if result:
            reason = f"rounding of float32: float64 agrees to {result.error:.1e}"
            self._results[key] = replace(in_float32, status="declared", reason=reason)

    def without_float64(self) -> None:
        """Declare, where float64 can't be asked, what may be rounding by its size."""
        for key in self._to_recheck:
            result = self._results[key]
            if result.error <= FLOAT32_ALONE * result.allowed:
                reason = "small enough to be rounding; Paddle can't run in float64, which decides"
                self._results[key] = replace(result, status="declared", reason=reason)

    def forward(self) -> list[TensorResult]:
        """Return the results of the step forward, in torch's order of calls."""
        keys = [
            key
            for call in self._layers
            for key in self._dataflow.keys_of_call(call, Kind.INPUT, Kind.OUTPUT)
        ]
        return self._found([*keys, *self._keys_of_kind(Kind.MODEL_OUTPUT)])

    def backward(self) -> list[TensorResult]:
        """Return the results of the step backward, against the order of calls."""
        of_layer: dict[str, list[ValueKey]] = {}
        for source in self._weight_map.sources:
            key = ValueKey(Kind.PARAMETER_GRAD, source.paddle_name)
            of_layer.setdefault(self._owner(source), []).append(key)
        keys: dict[ValueKey, None] = {}
        for call in reversed(self._layers):
            of_call = self._dataflow.keys_of_call(call, Kind.GRAD_OUTPUT, Kind.GRAD_INPUT)
            keys |= dict.fromkeys(of_call)
            keys |= dict.fromkeys(of_layer.pop(layer_of(call), ()))
        for rest in of_layer.values():
            keys |= dict.fromkeys(rest)
        return self._found([*keys, *self._keys_of_kind(Kind.MODEL_GRAD_INPUT)])

    def _judged(
        self, key: ValueKey, reference: np.ndarray | None, array: np.ndarray | None, rounding: float
    ) -> TensorResult | None:
        result = self._unlocated(key, reference, array, rounding)
        if result is None or not result.failed:
            return result
        return replace(result, location=self._location(key, reference, array))

    def _unlocated(
        self, key: ValueKey, reference: np.ndarray | None, array: np.ndarray | None, rounding: float
    ) -> TensorResult | None:
        shown = key.label + _SUFFIXES.get(key.kind, "")
        if array is None or reference is None:
            return self._one_sided(key.kind, shown, reference, array)
        if math.isinf(rounding) and array.shape == reference.shape:
            overflows = not np.isfinite(reference).all()
            if overflows or (np.isfinite(array).all() and not reference.any()):
                why = "not finite in torch float32 either" if overflows else "0 but for rounding"
                return replace(TensorResult.waived(shown, array, why), comparison="by_itself")
        allowed = self._allowed(reference, rounding)
        if key.kind is Kind.INPUT and {reference.dtype.kind, array.dtype.kind} <= set("iu"):
            dtype = str(array.dtype)  # an index may be int32 here and int64 there
        else:
            dtype = self._rounding.dtypes.get(key, str(reference.dtype))
        result = compare(
            shown,
            reference,
            array,
            allowed=allowed,
            dtype=dtype,
            comparison="by_itself",
        )
        # One element that jumps moves all gradients behind it, so of gradients no share is asked.
        if result.failed and result.error is not None and not key.kind.is_gradient:
            limit = allowed * largest_value(reference)
            self._shares[key] = float(np.mean(distance(reference, array) > limit))
        return result

    def _one_sided(
        self,
        kind: Kind,
        shown: str,
        reference: np.ndarray | None,
        array: np.ndarray | None,
    ) -> TensorResult | None:
        """Return the failure where one side has no value; a gradient of zeros counts as none."""
        present = reference if array is None else array
        if present is None or not kind.is_gradient or not present.any():
            return None  # outputs of one side alone are for the end-to-end comparison
        side = "Paddle" if array is None else "torch"
        reason = f"no gradient in {side}: frozen, or cut off from the loss"
        return replace(TensorResult.missing(shown, present, reason), comparison="by_itself")

    @functools.cached_property
    def _expected_gradients(self) -> ConvertedArrays:
        """Return torch's gradients in Paddle's form."""
        return to_paddle_layout(self._weight_map, self._reference.of_kind(Kind.PARAMETER_GRAD))

    def _parameters(self) -> Iterator[tuple[Source, TensorResult]]:
        expected = self._expected_gradients
        names = display_names(self._weight_map)
        for source in self._weight_map.sources:
            name = source.paddle_name
            if name in expected.problems or name not in self._gradients:
                continue
            rounding = max(self._rounding_of(torch_name) for torch_name in source.torch_names)
            reference = expected.arrays.get(name)
            key = ValueKey(Kind.PARAMETER_GRAD, names[name])
            result = self._judged(key, reference, self._gradients[name], rounding)
            if result is not None:
                yield source, result

    def _rounding_of(self, parameter: str) -> float:
        owner = parameter.rpartition(".")[0]
        calls = [call for call in self._layers if f"{owner}.".startswith(f"{layer_of(call)}.")]
        as_a_whole = [self._rounding.of_containers.get((call, parameter)) for call in calls]
        summed = self._rounding.errors.get(ValueKey(Kind.PARAMETER_GRAD, parameter))
        return max((error for error in (summed, *as_a_whole) if error is not None), default=0.0)

    def _owner(self, source: Source) -> str:
        """Return the layer among those stopped at that a parameter belongs to; "" for none."""
        layers = {layer_of(call) for call in self._layers}
        path = source.torch_names[0]
        while path and path not in layers:
            path = path.rpartition(".")[0]
        return path

    def _allowed(self, reference: np.ndarray, rounding: float) -> float:
        if reference.dtype.kind not in "fc":
            return 0.0
        if self._dtype == "float32":
            return FLOAT32_AGAINST_FLOAT32
        return BY_ITSELF_RATIO * max(rounding, ONE_ROUNDING)

    def _keys_of_kind(self, kind: Kind) -> list[ValueKey]:
        return [key for key in self._reference.values if key.kind is kind]

    def _found(self, keys: Iterable[ValueKey]) -> list[TensorResult]:
        results = (lookup_value(key, self._results) for key in keys)
        return [result for result in results if result is not None]

    # Locations ---------------------------------------------------------------------------------

    def _location(
        self, key: ValueKey, reference: np.ndarray | None, array: np.ndarray | None
    ) -> Location | None:
        """Return what is at fault where this value is wrong; None for the value itself."""
        if key.kind is Kind.PARAMETER_GRAD:
            return AtGradient(key.name)
        if key.kind in (Kind.MODEL_OUTPUT, Kind.MODEL_GRAD_INPUT):
            return None
        call = self._call_of(key)
        if key.kind is Kind.INPUT:
            return Between(self._dataflow.last_source(key, self._layers), call)
        if key.kind is Kind.GRAD_OUTPUT:
            return Between(call, self._behind(call, reference, array))
        wrong = self._wrong_weights.get(layer_of(call))
        return AtWeight(wrong) if wrong else AtCall(call)

    def _call_of(self, key: ValueKey) -> str:
        if key.kind in (Kind.INPUT, Kind.GRAD_INPUT):
            return key.name
        names = set(spellings(key.name))
        return next(call for call in self._layers if names & set(self._dataflow.outputs[call]))

    def _behind(self, call: str, reference: np.ndarray | None, array: np.ndarray | None) -> str:
        """Return the first layer that an output goes to, or the one whose gradient is missing."""
        goes_to = {}
        boundaries = self._dataflow.boundaries(self._layers)
        for other in self._layers:
            for key in self._dataflow.keys_of_call(other, Kind.INPUT):
                if call in self._dataflow.sources(key, boundaries):
                    goes_to[other] = self._reference.values.get(key._replace(kind=Kind.GRAD_INPUT))
        for key in self._keys_of_kind(Kind.MODEL_OUTPUT):
            if call in self._dataflow.sources(key, boundaries):
                gradient = self._reference.values.get(key._replace(kind=Kind.MODEL_GRAD_OUTPUT))
                goes_to.setdefault(key.label, gradient)
        if reference is not None and array is not None and array.shape == reference.shape:
            lacking = reference.astype(np.float64) - array
            alike = {other: _likeness(lacking, gradient) for other, gradient in goes_to.items()}
            best = max(alike, key=alike.__getitem__, default=None)
            if best is not None and alike[best] > 0.999:
                return best
        return next(iter(goes_to), "output")


def _likeness(first: np.ndarray, second: np.ndarray | None) -> float:
    """Return |cosine| of two arrays; 0 where they can't be compared."""
    if second is None or first.shape != second.shape:
        return 0.0
    sizes = float(np.linalg.norm(first)) * float(np.linalg.norm(second))
    return abs(float(np.vdot(first, second))) / sizes if sizes else 0.0
