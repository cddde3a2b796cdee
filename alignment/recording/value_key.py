"""The key that a value of a run goes by.

What belongs to one call of a layer and what belongs to the model as a whole are kinds of their
own; the former are called as torch's hooks call them. Keys are made, compared and looked up, and
nowhere taken apart; as text they stand in files alone (`to_text`, `layerwise_text`, `from_text`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import NamedTuple, TypeVar

T = TypeVar("T")


class Kind(Enum):
    """The role of a value in a run."""

    INPUT = "input"
    """A tensor among a call's arguments."""
    OUTPUT = "output"
    """A tensor that a call returns."""
    GRAD_OUTPUT = "grad_output"
    """The gradient that reaches it."""
    GRAD_INPUT = "grad_input"
    """The gradient that the layer makes of that for its argument."""

    MODEL_INPUT = "model_input"
    MODEL_OUTPUT = "model_output"
    LOSS = "loss"
    MODEL_GRAD_OUTPUT = "model_grad_output"
    """The loss's gradient with respect to the model's output."""
    MODEL_GRAD_INPUT = "model_grad_input"
    PARAMETER_GRAD = "parameter_grad"
    """A parameter's gradient, summed over all calls."""

    @property
    def is_gradient(self) -> bool:
        """Return whether it is of the way back."""
        return self in _GRADIENTS


_GRADIENTS = frozenset(
    {
        Kind.GRAD_OUTPUT,
        Kind.GRAD_INPUT,
        Kind.MODEL_GRAD_OUTPUT,
        Kind.MODEL_GRAD_INPUT,
        Kind.PARAMETER_GRAD,
    }
)


class ValueKey(NamedTuple):
    """The key of one value.

    Attributes:
        kind: its role.
        name: the call, for arguments (`layer1.0#2`); the call and where in its output the tensor
            is, for outputs (`attention[1]`); a parameter's name.
        index: which of the distinct tensors among the arguments it is; None for other kinds.
    """

    kind: Kind
    name: str
    index: int | None = None

    @property
    def label(self) -> str:
        """Return what a report calls the value: `CALL[0]` for an argument, else its name."""
        return self.name if self.index is None else f"{self.name}[{self.index}]"


LOSS = ValueKey(Kind.LOSS, "loss")


def model_input(index: int) -> ValueKey:
    """Return the key of one of the model's inputs."""
    return ValueKey(Kind.MODEL_INPUT, "inputs", index)


def values_of_kind(values: Mapping[ValueKey, T], kind: Kind) -> dict[str, T]:
    """Return the values of a kind by their labels, in order."""
    return {key.label: value for key, value in values.items() if key.kind is kind}


def lookup_value(key: ValueKey, values: Mapping[ValueKey, T]) -> T | None:
    """Return the value under a key; a lone tensor stands for the first of several and the reverse.

    torch's MultiheadAttention returns its weights too, Paddle's does not unless asked.
    """
    for name in spellings(key.name):
        candidate = key._replace(name=name)
        if candidate in values:
            return values[candidate]
    return None


def spellings(name: str) -> Iterable[str]:
    """Return the names under which an output may be found on the other side, the best first."""
    return name, f"{name}[0]", name.removesuffix("[0]")


# In files --------------------------------------------------------------------------------------

_WORDS = {
    Kind.OUTPUT: "layer",
    Kind.MODEL_OUTPUT: "output",
    Kind.LOSS: "loss",
    Kind.MODEL_GRAD_OUTPUT: "output_gradient",
    Kind.MODEL_GRAD_INPUT: "input_gradient",
    Kind.PARAMETER_GRAD: "gradient",
}
"""The first part of a name in reprod_log's files and in records, see README."""

_LAYERWISE_WORDS = _WORDS | {
    Kind.INPUT: "given",
    Kind.OUTPUT: "gave",
    Kind.GRAD_OUTPUT: "gave_gradient",
    Kind.GRAD_INPUT: "given_gradient",
}
"""The same in the part of a record that holds the layers by themselves."""

_KINDS = {word: kind for words in (_WORDS, _LAYERWISE_WORDS) for kind, word in words.items()}

_INDEXED = frozenset({Kind.INPUT, Kind.GRAD_INPUT, Kind.MODEL_INPUT, Kind.MODEL_GRAD_INPUT})


def to_text(key: ValueKey) -> str:
    """Return a key as reprod_log's files and records have it: `layer/conv1`."""
    return f"{_WORDS[key.kind]}/{key.label}"


def layerwise_text(key: ValueKey) -> str:
    """Return a key as a record has it for the layers by themselves: `given/conv1[0]`."""
    if key.kind is Kind.MODEL_INPUT:
        return key.label
    return f"{_LAYERWISE_WORDS[key.kind]}/{key.label}"


def from_text(text: str) -> ValueKey:
    """Return the key that `to_text` or `layerwise_text` wrote.

    Raises:
        KeyError: an unknown word.
        ValueError: no index where there should be one.
    """
    word, slash, label = text.partition("/")
    kind, label = (_KINDS[word], label) if slash else (Kind.MODEL_INPUT, text)
    if kind not in _INDEXED:
        return ValueKey(kind, label)
    name, _, index = label.removesuffix("]").rpartition("[")
    return ValueKey(kind, name, int(index))
