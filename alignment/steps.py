"""What each step compares, given the reference and what the Paddle side computed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from alignment.compare import (
    FLOAT32_FLOOR,
    FLOAT32_RATIO,
    FLOAT64_BOUND,
    TensorResult,
    absent,
    compare,
    largest_value,
)
from alignment.records import Reference
from alignment.report import StepResult
from alignment.tensor_map import Source, WeightMap
from alignment.tracing import Trace

FLOAT32_AGAINST_FLOAT32 = 1e-4
"""Bound where torch can't run in float64, so that its own rounding is not known."""


def data_step(reference: Reference, received: Mapping[str, np.ndarray]) -> StepResult:
    """Both frameworks hold the same inputs and targets: shape, dtype and every bit."""
    results = [
        compare(name, array, received[name], allowed=0.0)
        for name, array in reference.received.items()
    ]
    return StepResult("data", tuple(results))


def weights_step(
    reference: Reference, weight_map: WeightMap, weights: Mapping[str, np.ndarray]
) -> StepResult:
    """Every tensor of either side has its counterpart, equal to the bit."""
    results = [
        absent(problem.name, None, problem.message, f"weights:{problem.name}")
        for problem in weight_map.problems
    ]
    misfits = {problem.name for problem in weight_map.problems}
    for source in weight_map.sources:
        name = shown_name(source)
        if name in misfits:
            continue
        expected = weight_map.to_paddle(_only(reference.weights, source))[source.paddle_name]
        results.append(compare(name, expected, weights[source.paddle_name], allowed=0.0))
    return StepResult("weights", tuple(results))


class RunJudge:
    """Judges a run of the Paddle side; made once, used for float64 and for float32.

    Args:
        reference: the torch side.
        weight_map: which torch parameter is which Paddle parameter.
        mode: in "train", float32 decides nothing.
    """

    def __init__(self, reference: Reference, weight_map: WeightMap) -> None:
        self.reference = reference
        self.weight_map = weight_map
        self.kinds = {
            kind: reference.trace.of_kind(kind)
            for kind in ("layer", "output", "loss", "output_gradient", "input_gradient", "gradient")
        }
        self.scales = {
            kind: max(map(largest_value, values.values()), default=0.0)
            for kind, values in self.kinds.items()
        }

    def forward(self, trace: Trace, dtype: str) -> list[TensorResult]:
        """Layers called on both sides, in torch's order of calls, then the outputs."""
        results = []
        ours = trace.of_kind("layer")
        for name, array in self.kinds["layer"].items():
            if name in ours:
                results.append(self._compare("layer", name, array, ours[name], dtype, place=name))
        return results + self._outputs("output", trace, dtype)

    def loss(self, trace: Trace, dtype: str) -> list[TensorResult]:
        """The loss."""
        return self._outputs("loss", trace, dtype)

    def backward(self, trace: Trace, dtype: str) -> list[TensorResult]:
        """Gradients of the outputs, of the parameters from the last to the first, of the inputs."""
        return [
            *self._outputs("output_gradient", trace, dtype, suffix=" (gradient)"),
            *self._parameter_gradients(trace.of_kind("gradient"), dtype),
            *self._outputs("input_gradient", trace, dtype, suffix=" (gradient)"),
        ]

    def _outputs(self, kind: str, trace: Trace, dtype: str, suffix: str = "") -> list[TensorResult]:
        """Values whose names must be the same on both sides."""
        theirs, ours = self.kinds[kind], trace.of_kind(kind)
        results = []
        for name in theirs.keys() | ours.keys() if theirs.keys() ^ ours.keys() else theirs:
            shown = name + suffix
            if name not in ours:
                results.append(absent(shown, theirs[name], "Paddle gives no such tensor"))
            elif name not in theirs:
                results.append(absent(shown, ours[name], "torch gives no such tensor"))
            else:
                results.append(
                    self._compare(kind, name, theirs[name], ours[name], dtype, shown=shown)
                )
        return results

    def _parameter_gradients(
        self, ours: Mapping[str, np.ndarray], dtype: str
    ) -> list[TensorResult]:
        theirs = self.weight_map.to_paddle(self.kinds["gradient"])
        results = []
        for source in reversed(self.weight_map.sources):
            name, shown = source.paddle_name, shown_name(source)
            place = f"grad:{shown}"
            if name in theirs and name in ours:
                key = source.torch_names
                results.append(
                    self._compare(
                        "gradient", key, theirs[name], ours[name], dtype, shown=shown, place=place
                    )
                )
            elif name in theirs:
                reason = "no gradient in Paddle: frozen, or cut off from the loss"
                results.append(absent(shown, theirs[name], reason, place))
            elif name in ours:
                reason = "no gradient in torch: frozen there, or cut off from the loss"
                results.append(absent(shown, ours[name], reason, place))
        return results

    def _compare(
        self,
        kind: str,
        key: str | tuple[str, ...],
        theirs: np.ndarray,
        ours: np.ndarray,
        dtype: str,
        *,
        shown: str = "",
        place: str = "",
    ) -> TensorResult:
        keys = (key,) if isinstance(key, str) else key
        expected = self._dtype_of(kind, keys, theirs, dtype)
        return compare(
            shown or keys[0],
            theirs,
            ours,
            allowed=self._allowed(kind, keys, expected),
            dtype=expected,
            scale=self.scales[kind],
            jumps=self.reference.jumps.get(keys[0]) if kind == "output_gradient" else None,
            decides=dtype == "float64" or self.reference.mode == "eval",
            place=place,
        )

    def _dtype_of(self, kind: str, keys: tuple[str, ...], theirs: np.ndarray, dtype: str) -> str:
        if dtype == self.reference.dtype:
            return str(theirs.dtype)
        return self.reference.float32_dtypes.get(f"{kind}/{keys[0]}", "float32")

    def _allowed(self, kind: str, keys: tuple[str, ...], dtype: str) -> float:
        if dtype == "float64":
            return FLOAT64_BOUND
        if not dtype.startswith(("float", "bfloat", "complex")):
            return 0.0  # integers and booleans are equal or not
        if self.reference.dtype == "float32":
            return FLOAT32_AGAINST_FLOAT32
        own = max(self.reference.rounding.get(f"{kind}/{key}", 0.0) for key in keys)
        return FLOAT32_RATIO * max(own, self._usual_rounding(kind), FLOAT32_FLOOR)

    def _usual_rounding(self, kind: str) -> float:
        """The largest error of torch float32 on values of a kind.

        Rounding is a matter of luck on a single tensor: which activation next to zero changes its
        sign differs between two programs that are both right.
        """
        same = "layer" if kind in ("output", "loss") else kind
        return max(
            (e for key, e in self.reference.rounding.items() if key.startswith(f"{same}/")),
            default=0.0,
        )


def notes_on_calls(reference: Reference, trace: Trace) -> list[str]:
    """Layers called on one side only, and layers called on neither."""
    theirs, ours = reference.trace.of_kind("layer"), trace.of_kind("layer")
    notes = [f"called in torch only: {name}" for name in theirs if name not in ours]
    notes += [f"called in Paddle only: {name}" for name in ours if name not in theirs]
    never = [name for name in trace.not_called if name in set(reference.trace.not_called)]
    if never:
        notes.append(f"never called: {', '.join(never)}")
    return notes


def shown_name(source: Source) -> str:
    """A Paddle tensor's name in the report: torch's, or its own where torch has none for it."""
    name = source.torch_names[0]
    same = len(source.torch_names) == 1 and name.rpartition(".")[0] == _path(source.paddle_name)
    return name if same or len(source.torch_names) == 1 else source.paddle_name


def _path(name: str) -> str:
    return name.rpartition(".")[0]


def _only(arrays: Mapping[str, np.ndarray], source: Source) -> dict[str, np.ndarray]:
    return {name: arrays[name] for name in source.torch_names}
