"""Find the torch tensor that a Paddle tensor comes from, and keep account of both sides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from alignment.weights.suggestions import hint, nearest, renamed
from alignment.weights.tensors import Convert, PaddleTensor, Problem, Source, TensorSpec


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
        """Return one that renames further."""
        return Finder(self.specs, {**self.rename, **entries}, self.convert)

    def spec_of(self, tensor: PaddleTensor) -> TensorSpec | None:
        """Return the torch tensor that the name leads to."""
        names = [renamed(name, self.rename) for name in (tensor.name, *tensor.aliases)]
        specs = (self.by_paddle_name.get(name) or self.by_torch_name.get(name) for name in names)
        return next((spec for spec in specs if spec), None)

    def source_of(self, tensor: PaddleTensor) -> tuple[Source | None, Problem | None]:
        """Return the source, or what is wrong, or both; neither where the name leads nowhere."""
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
        """Return problems of names in `convert` that are no tensor of Paddle's."""
        known = [name for tensor in tensors for name in (tensor.name, *tensor.aliases)]
        return [
            Problem(name, f"convert names {name}, which Paddle lacks{hint(nearest(name, known))}")
            for name in self.convert
            if name not in known
        ]

    def left_over(self) -> list[TensorSpec]:
        """Return what no Paddle tensor asked for; of names that share a tensor the first."""
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
