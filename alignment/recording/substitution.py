"""Put other tensors in the place of those that enter or leave the call of a layer.

A tensor that stands in several places, as in attention over (x, x, x), is one tensor before and
after. A layer may work in place on what it is given, and the code around it may rely on that: what
was changed is written back into the tensor that the call came with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from alignment.recording.nested import flatten, replace_tensors
from alignment.recording.tensor_ops import TensorOps

NamedTensor = tuple[str, Any]


class CallArguments:
    """The tensors among the arguments of a call.

    Args:
        args: positional arguments.
        kwargs: keyword arguments.
        ops: of the framework.

    Attributes:
        tensors: all of them in order, with repetition.
        distinct: without repetition.
    """

    def __init__(self, args: tuple, kwargs: dict, ops: TensorOps) -> None:
        self._structure, self._ops = (args, kwargs), ops
        named = flatten(self._structure, ops.is_tensor, strict=False)
        self.tensors = [tensor for _, tensor in named]
        self.distinct = list({id(tensor): tensor for tensor in self.tensors}.values())

    @property
    def positions(self) -> list[int]:
        """Return for each tensor which of the distinct ones it is."""
        position = {id(tensor): index for index, tensor in enumerate(self.distinct)}
        return [position[id(tensor)] for tensor in self.tensors]

    def with_tensors(self, substitutes: Iterable[Any]) -> tuple[tuple, dict]:
        """Return (args, kwargs) with one substitute for each distinct tensor."""
        by_original = dict(zip(map(id, self.distinct), substitutes, strict=True))
        return replace_tensors(
            self._structure,
            self._ops.is_tensor,
            (by_original[id(tensor)] for tensor in self.tensors),
            strict=False,
        )


@dataclass(frozen=True)
class SubstitutedInputs:
    """What a layer was given in the place of a call's own tensors.

    Attributes:
        originals: the distinct tensors that the call came with.
        substitutes: for each of them what the layer got.
        versions: counts of in-place changes of the substitutes at that moment.
    """

    originals: Sequence[Any]
    substitutes: Sequence[Any]
    versions: Sequence[int]


def substitute_inputs(
    arguments: CallArguments, substitutes: Sequence[Any], ops: TensorOps
) -> tuple[SubstitutedInputs, tuple[tuple, dict]]:
    """Return what `substitute_outputs` needs to know, and the (args, kwargs) for the layer."""
    versions = [ops.version(tensor) for tensor in substitutes]
    substituted = SubstitutedInputs(arguments.distinct, substitutes, versions)
    return substituted, arguments.with_tensors(substitutes)


def substitute_outputs(
    output: Any,
    named: Sequence[NamedTensor],
    substitutes_of: Callable[[Sequence[NamedTensor]], Iterable[Any]],
    ops: TensorOps,
    inputs: SubstitutedInputs | None = None,
) -> Any:
    """Return a call's output with other tensors, and write in-place changes of its inputs back.

    Args:
        output: what the layer returned.
        named: (name, tensor) of all tensors in it, from `flatten`.
        substitutes_of: function of the distinct ones, each under its first name.
        ops: of the framework.
        inputs: from `substitute_inputs`; None where the layer got the call's own tensors.
    """
    distinct: dict[int, NamedTensor] = {}
    for name, tensor in named:
        distinct.setdefault(id(tensor), (name, tensor))
    substitutes = dict(zip(distinct, substitutes_of(list(distinct.values())), strict=True))
    if inputs is not None:
        _write_back(inputs, substitutes, ops)
    return replace_tensors(output, ops.is_tensor, (substitutes[id(tensor)] for _, tensor in named))


def _write_back(inputs: SubstitutedInputs, substitutes: dict[int, Any], ops: TensorOps) -> None:
    for original, substitute, version in zip(
        inputs.originals, inputs.substitutes, inputs.versions, strict=True
    ):
        if ops.version(substitute) == version:
            continue
        ops.write_over(original, substitutes.get(id(substitute), substitute))
        if id(substitute) in substitutes:  # the layer returned the tensor that it had changed
            substitutes[id(substitute)] = original
