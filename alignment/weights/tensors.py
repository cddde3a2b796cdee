"""Which torch tensor is which Paddle tensor, decided by layer types and names, never by shapes.

Both sides are described by plain values: `TensorSpec` says what a torch tensor becomes in Paddle
under its layer's type, `PaddleTensor` what Paddle has. `match` joins them without any framework, so
either description can be recorded where the other framework is not installed. The descriptions of
live models are made in `alignment.weights.models`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Convert = Mapping[str, tuple[Sequence[str], Callable[..., np.ndarray]]]


class WeightsError(ValueError):
    """Weights that don't fit: names that are missing, extra or misshapen, all of them listed."""


@dataclass(frozen=True)
class TensorSpec:
    """One torch tensor, or some rows of it, and what its layer type makes of it in Paddle.

    Attributes:
        torch_name: Name in torch's state dict.
        torch_shape: Shape of the whole torch tensor.
        paddle_name: Name under the same layer path in Paddle; None where Paddle has no such tensor.
        layout: "same", "transposed" ([out, in] to [in, out]) or "row" ([n] to [1, n]).
        rows: First and last-plus-one row of a fused torch tensor; None for all of it.
        first_name: The first name of this tensor; another one only where several share it.
        kind: Its layer's, as `alignment.weights.models` spells it for both frameworks; only
            suggestions look at it.
    """

    torch_name: str
    torch_shape: tuple[int, ...]
    paddle_name: str | None
    layout: str = "same"
    rows: tuple[int, int] | None = None
    first_name: str = ""
    kind: str = ""

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> TensorSpec:
        """Return the spec that `dataclasses.asdict` and JSON made `record` of."""
        rows = record["rows"] and tuple(record["rows"])
        return cls(**{**record, "torch_shape": tuple(record["torch_shape"]), "rows": rows})

    @property
    def paddle_shape(self) -> tuple[int, ...]:
        """Return the shape that the tensor has in Paddle."""
        shape = self.torch_shape
        if self.rows:
            shape = (self.rows[1] - self.rows[0], *shape[1:])
        return {"same": shape, "transposed": shape[::-1], "row": (1, *shape)}[self.layout]

    def to_paddle(self, array: np.ndarray) -> np.ndarray:
        """Return Paddle's tensor (or its gradient) from torch's, in C order; may share memory."""
        part = array[slice(*self.rows)] if self.rows else array
        if self.layout == "transposed":
            part = part.T
        return np.ascontiguousarray(part).reshape(self.paddle_shape)

    def to_torch(self, array: np.ndarray) -> np.ndarray:
        """Return torch's tensor from Paddle's; a fused one can't be made from one part."""
        if self.rows:
            raise ValueError(f"{self.torch_name} is made of several tensors, not of one")
        part = array.T if self.layout == "transposed" else array
        return np.array(part, order="C").reshape(self.torch_shape)


@dataclass(frozen=True)
class PaddleTensor:
    """One tensor of a Paddle layer: its first name, its other names, whether a Linear owns it.

    `kind` is the layer's, as in `TensorSpec`.
    """

    name: str
    shape: tuple[int, ...]
    aliases: tuple[str, ...] = ()
    is_linear_weight: bool = False
    kind: str = ""


@dataclass(frozen=True)
class Source:
    """Where one Paddle tensor comes from: the torch names and the function of their arrays.

    `shown` is what a report calls it where one torch tensor makes several of Paddle's, or several
    make it.
    """

    paddle_name: str
    paddle_shape: tuple[int, ...]
    torch_names: tuple[str, ...]
    function: Callable[..., np.ndarray]
    shown: str


@dataclass(frozen=True)
class Problem:
    """A tensor that does not fit: its name (torch's where torch has it) and a sentence."""

    name: str
    message: str

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True)
class WeightMap:
    """The sources of all Paddle tensors, and what does not fit; true when everything does."""

    sources: tuple[Source, ...]
    problems: tuple[Problem, ...]

    def __bool__(self) -> bool:
        return bool(self.sources) and not self.problems

    def __str__(self) -> str:
        if self:
            return f"{len(self.sources)} tensors fit"
        return "; ".join(map(str, self.problems)) or "there are no tensors to compare"

    def to_paddle(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return torch's weights, or their gradients, under Paddle's names and in Paddle's layout.

        Args:
            arrays: Arrays by torch name, the first one where several share a tensor. A Paddle
                tensor of which no source is given is left out: buffers have no gradients.

        Raises:
            WeightsError: Part of a tensor's sources is missing, or a shape comes out otherwise.
        """
        converted = {}
        for source in self.sources:
            sources_arrays = [arrays[name] for name in source.torch_names if name in arrays]
            if not sources_arrays:
                continue
            if len(sources_arrays) < len(source.torch_names):
                absent = [name for name in source.torch_names if name not in arrays]
                raise WeightsError(f"{source.paddle_name} needs {', '.join(absent)} of torch too")
            array = np.asarray(source.function(*sources_arrays))
            if array.shape != source.paddle_shape:
                raise WeightsError(
                    f"{source.paddle_name} is {list(source.paddle_shape)} in Paddle, but torch's "
                    f"{', '.join(source.torch_names)} gives {list(array.shape)}"
                )
            converted[source.paddle_name] = array
        return converted
