"""Which calls of layers a run made, and which values each value was made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from alignment.recording.calls import CallTree
from alignment.recording.value_key import Kind, ValueKey, model_input


@dataclass(frozen=True)
class Dataflow:
    """The way of the values through the reference's layers.

    Attributes:
        inputs: {call: for each tensor among its arguments, which of the distinct ones it is}:
            [0, 0, 0] for attention over (x, x, x).
        outputs: {call: names of its outputs}.
        origins: {input or output of a call, or output of the model: the values that it was made
            of, and the model's inputs}, the nearest ones only.
        tree: the calls.
    """

    inputs: Mapping[str, Sequence[int]] = field(default_factory=dict)
    outputs: Mapping[str, Sequence[str]] = field(default_factory=dict)
    origins: Mapping[ValueKey, Sequence[ValueKey]] = field(default_factory=dict)
    tree: CallTree = field(default_factory=CallTree)

    def keys_of_call(self, call: str, *kinds: Kind) -> list[ValueKey]:
        """Return the keys of a call's arguments, or of its outputs, or of their gradients."""
        keys: list[ValueKey] = []
        for kind in kinds:
            if kind in (Kind.INPUT, Kind.GRAD_INPUT):
                keys += [ValueKey(kind, call, i) for i in sorted(set(self.inputs[call]))]
            else:
                keys += [ValueKey(kind, name) for name in self.outputs[call]]
        return keys

    def boundaries(self, layers: Iterable[str]) -> dict[ValueKey, str]:
        """Return {output: its call} of the calls in `layers`, for `sources`."""
        return {output: call for call in layers for output in self.keys_of_call(call, Kind.OUTPUT)}

    def sources(self, key: ValueKey, boundaries: Mapping[ValueKey, str]) -> list[str]:
        """Return the calls of `boundaries`, and the model's inputs, that a value was made of."""
        sources: dict[str, None] = {}
        seen, waiting = set(), list(self.origins.get(key, ()))
        while waiting:
            origin = waiting.pop()
            if origin in seen:
                continue
            seen.add(origin)
            if origin in boundaries:
                sources[boundaries[origin]] = None
            elif origin in self.origins:
                waiting += self.origins[origin]
            else:
                sources[origin.label] = None
        return list(sources)

    def last_source(self, key: ValueKey, layers: Sequence[str]) -> str:
        """Return the last of `layers` that a value was made of, or the model's input."""
        order = {call: position for position, call in enumerate(layers)}
        sources = self.sources(key, self.boundaries(layers))
        return max(sources, key=lambda source: order.get(source, -1), default=model_input(0).label)
