"""Is a model random? One side is run twice, from different random states."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from alignment.compare import relative_error
from alignment.location import AtCall, Between, InStep, Location
from alignment.recording.calls import CallWatch
from alignment.recording.dataflow import Dataflow
from alignment.recording.nested import flatten
from alignment.recording.substitution import CallArguments
from alignment.recording.tensor_ops import TensorOps
from alignment.recording.trace import Trace
from alignment.recording.value_key import Kind, ValueKey
from alignment.tolerances import FLOAT32_FLOOR

OTHER_SEED = 0x5DEECE66D
"""Seeds the second run; a number that nobody seeds the first one with."""


class Randomness(NamedTuple):
    """Where and why two runs of a side differ."""

    location: Location
    reason: str


class Repeat:
    """The second run of one side, held against the first.

    Where a layer's output differs for the first time, the layer is called once more with the same
    arguments: if that gives a third value, the layer is random, and else what lies before it.

    Args:
        first: the first run, with its layers and outputs.
        ops: of the framework.

    Attributes:
        call: the first call whose output differs; "" when none does.
        by_itself: whether the layer itself is random.
        in_output: whether the model's output differs, and no layer's.
    """

    def __init__(self, first: Trace, ops: TensorOps) -> None:
        self.call, self.by_itself, self.in_output = "", False, False
        self._first, self._ops = first, ops
        self._arguments: dict[str, Any] = {}
        self._watch: CallWatch | None = None

    @contextlib.contextmanager
    def over(self, watch: CallWatch) -> Iterator[None]:
        """Watch the calls of the run that is made inside."""
        self._watch = watch
        with watch:
            yield

    def begin(self, call: str, _layer: Any, args: tuple, kwargs: dict) -> None:
        """Keep the arguments as they are: a layer may work in place."""
        arguments = CallArguments(args, kwargs, self._ops)
        self._arguments[call] = arguments.with_tensors(map(self._ops.clone, arguments.distinct))

    def end(self, call: str, layer: Any, output: Any) -> None:
        """Compare the output of a call."""
        args, kwargs = self._arguments.pop(call)
        if self.call or not self._differs(output, call, self._first.values, Kind.OUTPUT):
            return
        self.call = call
        second = {
            ValueKey(Kind.OUTPUT, name): self._ops.to_array(tensor)
            for name, tensor in self._tensors(output, call)
        }
        self._watch.paused = True
        try:
            self.by_itself = self._differs(layer(*args, **kwargs), call, second, Kind.OUTPUT)
        finally:
            self._watch.paused = False

    def finish(self, output: Any) -> None:
        """Compare the model's output."""
        first = self._first.values
        if not self.call:
            self.in_output = self._differs(output, "output", first, Kind.MODEL_OUTPUT)

    def randomness(self, side: str, dataflow: Dataflow) -> Randomness | None:
        """Return the randomness of a side, "torch" or "Paddle"; None where there is none.

        Args:
            side: its name.
            dataflow: of the reference; empty where no values were followed.
        """
        if not self.call and not self.in_output:
            return None
        reason = (
            f"{side} gives another value each time that it runs: dropout, or a random operation"
        )
        return Randomness(self._location(dataflow), reason)

    def _location(self, dataflow: Dataflow) -> Location:
        if self.in_output:
            return InStep("forward", "output")
        if self.by_itself:
            return AtCall(self.call)
        if not dataflow.outputs:  # the step train by itself
            order = list(self._first.tree.parents)
            before = order[: order.index(self.call)]
            last = self._first.tree.finest(before)[-1:] or ["inputs[0]"]
            return Between(last[0], self.call)
        layers = dataflow.tree.finest(dataflow.outputs)
        source = dataflow.last_source(ValueKey(Kind.INPUT, self.call, 0), layers)
        return Between(source, self.call)

    def _differs(
        self, output: Any, call: str, first: Mapping[ValueKey, np.ndarray], kind: Kind
    ) -> bool:
        for name, tensor in self._tensors(output, call):
            earlier = first.get(ValueKey(kind, name))
            if earlier is None:
                continue
            array = self._ops.to_array(tensor)
            if array.shape != earlier.shape:
                return True
            equal = np.array_equal(array, earlier, equal_nan=array.dtype.kind in "fc")
            if not equal and relative_error(earlier, array) > FLOAT32_FLOOR:
                return True
        return False

    def _tensors(self, output: Any, name: str) -> list[tuple[str, Any]]:
        return list(flatten(output, self._ops.is_tensor, name, strict=False))
