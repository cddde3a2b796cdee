"""Which torch tensor is which Paddle tensor, decided by layer types and names, never by shapes.

Both sides are described by plain values: `TensorSpec` says what a torch tensor becomes in Paddle
under its layer's type, `PaddleTensor` what Paddle has. `match` joins them without any framework, so
either description can be recorded where the other framework is not installed. The descriptions of
live models are made in `alignment.weights`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from alignment.suggestions import hint, nearest, renamed
from alignment.unmatched import Unmatched

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
        kind: Its layer's, as `alignment.weights` spells it for both frameworks; only suggestions
            look at it.
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
        """The spec that `dataclasses.asdict` and JSON made `record` of."""
        rows = record["rows"] and tuple(record["rows"])
        return cls(**{**record, "torch_shape": tuple(record["torch_shape"]), "rows": rows})

    @property
    def paddle_shape(self) -> tuple[int, ...]:
        """The shape that the tensor has in Paddle."""
        shape = self.torch_shape
        if self.rows:
            shape = (self.rows[1] - self.rows[0], *shape[1:])
        return {"same": shape, "transposed": shape[::-1], "row": (1, *shape)}[self.layout]

    def to_paddle(self, array: np.ndarray) -> np.ndarray:
        """The Paddle tensor (or its gradient) from torch's, in C order; it may share memory."""
        part = array[slice(*self.rows)] if self.rows else array
        if self.layout == "transposed":
            part = part.T
        return np.ascontiguousarray(part).reshape(self.paddle_shape)

    def to_torch(self, array: np.ndarray) -> np.ndarray:
        """The torch tensor from Paddle's; a fused torch tensor can't be made from one part."""
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
        """Torch's weights, or their gradients, under Paddle's names and in Paddle's layout.

        Args:
            arrays: Arrays by torch name, the first one where several share a tensor. A Paddle
                tensor of which no source is given is left out: buffers have no gradients.

        Raises:
            WeightsError: Part of a tensor's sources is missing, or a shape comes out otherwise.
        """
        made = {}
        for source in self.sources:
            given = [arrays[name] for name in source.torch_names if name in arrays]
            if not given:
                continue
            if len(given) < len(source.torch_names):
                absent = [name for name in source.torch_names if name not in arrays]
                raise WeightsError(f"{source.paddle_name} needs {', '.join(absent)} of torch too")
            array = np.asarray(source.function(*given))
            if array.shape != source.paddle_shape:
                raise WeightsError(
                    f"{source.paddle_name} is {list(source.paddle_shape)} in Paddle, but torch's "
                    f"{', '.join(source.torch_names)} gives {list(array.shape)}"
                )
            made[source.paddle_name] = array
        return made


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
    found = [finder.source_of(tensor) for tensor in tensors]
    lost = [t for t, result in zip(tensors, found, strict=True) if result == (None, None)]
    left = finder.left_over()
    unmatched = Unmatched(finder, tensors, lost, left)
    problems = [
        problem or Problem(tensor.name, unmatched.about_paddles(tensor))
        for tensor, (source, problem) in zip(tensors, found, strict=True)
        if problem or not source
    ]
    problems += finder.unknown_converts(tensors)
    problems += [Problem(spec.torch_name, unmatched.about_torchs(spec)) for spec in left]
    return WeightMap(
        tuple(source for source, _ in found if source),
        tuple(problems),
    )


class Finder:
    """Finds each Paddle tensor's source and remembers which torch tensors are accounted for."""

    def __init__(
        self, specs: Sequence[TensorSpec], rename: Mapping[str, str], convert: Convert
    ) -> None:
        self.specs = specs
        self.rename = rename
        self.convert = convert
        self.by_paddle_name = {spec.paddle_name: spec for spec in specs if spec.paddle_name}
        # A renamed name may be in torch's spelling; rows of a fused tensor have no name there.
        self.by_torch_name = {spec.torch_name: spec for spec in specs if not spec.rows}
        self.first_names = {spec.torch_name: spec.first_name for spec in specs}
        self.claimed: dict[tuple[str, tuple[int, int] | None], str] = {}
        self.used: set[tuple[str, tuple[int, int] | None]] = set()

    def with_rename(self, entries: Mapping[str, str]) -> Finder:
        """One that renames further."""
        return Finder(self.specs, {**self.rename, **entries}, self.convert)

    def spec_of(self, tensor: PaddleTensor) -> TensorSpec | None:
        """The torch tensor that the name leads to."""
        names = [renamed(name, self.rename) for name in (tensor.name, *tensor.aliases)]
        specs = (self.by_paddle_name.get(name) or self.by_torch_name.get(name) for name in names)
        return next((spec for spec in specs if spec), None)

    def source_of(self, tensor: PaddleTensor) -> tuple[Source | None, Problem | None]:
        """The source, or what is wrong, or both; neither where the name leads nowhere."""
        names = (tensor.name, *tensor.aliases)
        for name in names:
            if name in self.convert:
                return self._converted(name, tensor)
        spec = self.spec_of(tensor)
        if spec is None:
            return None, None
        if spec.layout == "transposed" and not tensor.is_linear_weight:
            # Not a Linear on Paddle's side: its layout is its own, so nothing is transposed.
            spec = replace(spec, layout="same")
        shown = spec.paddle_name if spec.rows else spec.torch_name
        source = Source(tensor.name, tensor.shape, (spec.first_name,), spec.to_paddle, shown)
        return source, self._claim(spec, tensor) or _misfit(spec, tensor)

    def unknown_converts(self, tensors: Sequence[PaddleTensor]) -> list[Problem]:
        """Problems of names in `convert` that are no tensor of Paddle's."""
        known = [name for tensor in tensors for name in (tensor.name, *tensor.aliases)]
        return [
            Problem(name, f"convert names {name}, which Paddle lacks{hint(nearest(name, known))}")
            for name in self.convert
            if name not in known
        ]

    def left_over(self) -> list[TensorSpec]:
        """What no Paddle tensor asked for; of names that share a tensor the first."""
        left = {}
        for spec in self.specs:
            key = (spec.first_name, spec.rows)
            if spec.paddle_name is not None and key not in self.used:
                left.setdefault(key, spec)
        return list(left.values())

    def _claim(self, spec: TensorSpec, tensor: PaddleTensor) -> Problem | None:
        # By torch_name, not first_name: Paddle may hold apart what torch shares.
        earlier = self.claimed.setdefault((spec.torch_name, spec.rows), tensor.name)
        self.used.add((spec.first_name, spec.rows))
        if earlier != tensor.name:
            return Problem(
                tensor.name,
                f"Paddle's {earlier} and {tensor.name} both ask for torch's {spec.torch_name}",
            )
        return None

    def _converted(self, name: str, tensor: PaddleTensor) -> tuple[Source | None, Problem | None]:
        names, function = self.convert[name]
        names = (names,) if isinstance(names, str) else tuple(names)
        for torch_name in names:
            if torch_name not in self.first_names:
                close = hint(nearest(torch_name, self.first_names))
                message = f"convert makes {name} of {torch_name}, which torch lacks{close}"
                return None, Problem(name, message)
        firsts = tuple(self.first_names[torch_name] for torch_name in names)
        for spec in self.specs:
            if spec.first_name in firsts:
                self.used.add((spec.first_name, spec.rows))
        return Source(tensor.name, tensor.shape, firsts, function, tensor.name), None


def _misfit(spec: TensorSpec, tensor: PaddleTensor) -> Problem | None:
    if spec.paddle_shape == tensor.shape:
        return None
    advice = "; if its layout differs, give `convert`" if len(tensor.shape) > 1 else ""
    return Problem(
        spec.torch_name,
        f"Paddle's {tensor.name} is {list(tensor.shape)}, torch's {spec.torch_name} makes it "
        f"{list(spec.paddle_shape)}{advice}",
    )
