"""Torch's tensors in Paddle's form: the weights that are carried over, gradients, names to show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from alignment.weights.tensors import TensorSpec, WeightMap


@dataclass(frozen=True)
class ConvertedArrays:
    """Arrays in Paddle's form by Paddle name, and why others could not be made."""

    arrays: dict[str, np.ndarray]
    problems: dict[str, str]


def to_paddle_layout(weight_map: WeightMap, arrays: Mapping[str, np.ndarray]) -> ConvertedArrays:
    """Bring torch's weights, or their gradients, into Paddle's form.

    Args:
        weight_map: which torch tensors make which Paddle tensor.
        arrays: by torch name; a Paddle tensor of which no source is given is left out.
    """
    misfits = {problem.name for problem in weight_map.problems}
    converted = ConvertedArrays({}, {})
    for source in weight_map.sources:
        if misfits & {*source.torch_names, source.paddle_name}:
            continue
        try:
            converted.arrays.update(WeightMap((source,), ()).to_paddle(arrays))
        except Exception as error:  # a user's `convert` may raise anything; the reason is reported
            converted.problems[source.paddle_name] = f"can't be made of torch's: {error}"
    return converted


def transferred_state(
    weight_map: WeightMap, weights: Mapping[str, np.ndarray], state: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Return Paddle's state with torch's weights where they fit; the weights step names the rest.

    Args:
        weight_map: which torch tensors make which Paddle tensor.
        weights: torch's, by torch name.
        state: the Paddle model's tensors as they are, by Paddle name.
    """
    transferred = {
        name: array
        for name, array in to_paddle_layout(weight_map, weights).arrays.items()
        if (array.shape, array.dtype) == (state[name].shape, state[name].dtype)
    }
    return {**state, **transferred}


def display_names(weight_map: WeightMap) -> dict[str, str]:
    """Return each Paddle tensor's name in the report: torch's, or its own where torch has none.

    A part of a fused tensor goes by its name in Paddle, under torch's layer.
    """
    uses = Counter(name for source in weight_map.sources for name in source.torch_names)
    return {
        source.paddle_name: source.torch_names[0]
        if len(source.torch_names) == 1 and uses[source.torch_names[0]] == 1
        else source.shown
        for source in weight_map.sources
    }


def to_torch_layout(
    gradients: Mapping[str, np.ndarray], weight_map: WeightMap, specs: Sequence[TensorSpec]
) -> dict[str, np.ndarray]:
    """Return gradients by Paddle name under torch's names and in its layout, where it has them."""
    whole = {spec.first_name: spec for spec in specs if not spec.rows}
    names = display_names(weight_map)
    converted = {}
    for name, array in gradients.items():
        spec = whole.get(names.get(name, name))
        fits = spec is not None and spec.paddle_shape == array.shape
        converted[names.get(name, name)] = spec.to_torch(array) if fits else array
    return converted
