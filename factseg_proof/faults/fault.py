"""What a planted fault is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from alignment.pair import Pair

Plant = Callable[[Pair, int], Pair]
"""Function of a FactSeg pair and its seed that gives the faulty pair."""


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        name: a short name, unique.
        kind: structure, weights, loss, backward, training, data, numeric or equivalent.
        description: one line.
        step: the step that must flag it; "" for an equivalent one.
        place: what `first_divergence` must be.
        plant: see `Plant`.
    """

    name: str
    kind: str
    description: str
    step: str
    place: str
    plant: Plant

    def shows_in(self, steps: Sequence[str]) -> list[str]:
        """Return the steps among `steps` that it can have an effect on, and `data`."""
        if self.kind == "data":
            return [step for step in steps if step in ("data", "preprocess", "metric")]
        trains = self.kind in ("training", "equivalent")
        return [step for step in steps if step != "train" or trains]
