"""Join torch's tensors with Paddle's by name and layer type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from alignment.weights.finder import Finder
from alignment.weights.tensors import Convert, PaddleTensor, Problem, TensorSpec, WeightMap
from alignment.weights.unmatched import Unmatched


def match(
    specs: Sequence[TensorSpec],
    tensors: Sequence[PaddleTensor],
    *,
    rename: Mapping[str, str] | None = None,
    convert: Convert | None = None,
) -> WeightMap:
    """Join torch's tensors with Paddle's by name and layer type.

    Args:
        specs: The torch model's, from `torch_specs`.
        tensors: The Paddle model's, from `paddle_tensors`.
        rename: Regexes from Paddle names to torch names, applied one after the other. They need
            to treat layer paths only; a result in either framework's spelling is understood.
        convert: Paddle name -> (torch names, function of their arrays), for tensors made otherwise.

    Returns:
        The map; its `problems` name each tensor that is missing, extra, misshapen or claimed twice.
    """
    finder = Finder(specs, rename or {}, convert or {})
    matches = [finder.source_of(tensor) for tensor in tensors]
    lost = [t for t, result in zip(tensors, matches, strict=True) if result == (None, None)]
    left = finder.left_over()
    unmatched = Unmatched(finder, tensors, lost, left)
    problems = [
        problem or Problem(tensor.name, unmatched.describe_paddle_tensor(tensor))
        for tensor, (source, problem) in zip(tensors, matches, strict=True)
        if problem or not source
    ]
    problems += finder.unknown_converts(tensors)
    problems += [Problem(spec.torch_name, unmatched.describe_torch_tensor(spec)) for spec in left]
    return WeightMap(
        tuple(source for source, _ in matches if source),
        tuple(problems),
    )
