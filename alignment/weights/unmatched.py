"""What to say about tensors that have no counterpart, on either side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from alignment.weights.suggestions import Known, hint_for, rename_entries, renamed, shown_entries

if TYPE_CHECKING:
    from alignment.weights.finder import Finder
    from alignment.weights.tensors import PaddleTensor, TensorSpec


class Unmatched:
    """Sentences about what `match` could not join; each names the likeliest counterpart.

    Args:
        finder: what looked for them.
        tensors: all of Paddle's tensors.
        lost: those of which the name leads nowhere.
        left: torch's tensors that no Paddle tensor asked for.
    """

    def __init__(
        self,
        finder: Finder,
        tensors: Sequence[PaddleTensor],
        lost: Sequence[PaddleTensor],
        left: Sequence[TensorSpec],
    ) -> None:
        self._finder, self._tensors, self._lost = finder, tensors, lost
        self._ours = {
            t.name: Known(
                renamed(t.name, finder.rename), t.shape, t.kind, f"{t.name} {list(t.shape)}"
            )
            for t in lost
        }
        self._theirs = {
            spec: Known(spec.paddle_name, spec.paddle_shape, spec.kind, _form(spec))
            for spec in left
        }

    def describe_paddle_tensor(self, tensor: PaddleTensor) -> str:
        """Say that a Paddle tensor has no counterpart; of the first one also the cure for all."""
        names = [*self._finder.by_paddle_name, *self._finder.by_torch_name]
        known = self._ours[tensor.name]
        close = hint_for(known, self._theirs.values(), names)
        cure = self._cure() if tensor is self._lost[0] else ""
        return f"Paddle's {known.shown} has no counterpart in torch{close}{cure}"

    def describe_torch_tensor(self, spec: TensorSpec) -> str:
        """Say that a torch tensor has no counterpart."""
        names = [name for tensor in self._tensors for name in (tensor.name, *tensor.aliases)]
        close = hint_for(self._theirs[spec], self._ours.values(), names)
        return f"torch's {_name(spec)} has no counterpart in Paddle{close}"

    def _cure(self) -> str:
        """Return entries of `rename` that would join several of them and do no harm elsewhere."""
        finder = self._finder
        entries = rename_entries([*self._ours.values()], [*self._theirs.values()])
        if entries.keys() & finder.rename.keys():
            return ""
        again = finder.with_rename(entries)
        specs = [(t, finder.spec_of(t), again.spec_of(t)) for t in self._tensors]
        harmed = any(old and new is not old for _, old, new in specs)
        taken = [(new.torch_name, new.rows) for _, _, new in specs if new]
        gained = [t for t, old, new in specs if new and not old and new.paddle_shape == t.shape]
        if harmed or len(taken) != len(set(taken)) or len(gained) < 2:
            return ""
        what = "more entries of rename," if finder.rename else "rename ="
        return (
            f"; {what} {shown_entries(entries)}, would match {len(gained)} of the "
            f"{len(self._lost)} tensors of Paddle that have none"
        )


def _name(spec: TensorSpec) -> str:
    rows = f" rows {spec.rows[0]} to {spec.rows[1]}" if spec.rows else ""
    return f"{spec.torch_name} {list(spec.torch_shape)}{rows}"


def _form(spec: TensorSpec) -> str:
    """Return the tensor as it would become Paddle's."""
    return _name(spec) + (" transposed" if spec.layout == "transposed" else "")
