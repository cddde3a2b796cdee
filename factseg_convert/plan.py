"""Second stage of a conversion: decide what is written where, or refuse; nothing is written yet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alignment.weights.checkpoint_files import PREFIX, Checkpoint, Envelope, Side
from alignment.weights.tensors import TensorSpec
from factseg_convert.architectures import Variant, check_fit, identify
from factseg_convert.manifest import Manifest, manifest_path
from factseg_convert.optimizer_plan import (
    OptimizerPlan,
    pdopt_to_write,
    plan_for_paddle,
    plan_for_torch,
)
from factseg_convert.read import Source, TorchOptimizer, pdopt_beside
from factseg_paddle.files import shown


@dataclass(frozen=True)
class PlannedTensor:
    """One tensor as the output has it; a counter, which Paddle lacks, goes to the manifest."""

    spec: TensorSpec
    array: np.ndarray

    def name(self, side: Side) -> str | None:
        """Return its name in a framework, without prefix; None where that lacks it."""
        return self.spec.torch_name if side == "torch" else self.spec.paddle_name


@dataclass(frozen=True)
class Plan:
    """All that is to be written.

    Attributes:
        source: What was read.
        output: The file to write; an older one is replaced.
        to: The framework that it is for.
        variant: The network.
        tensors: In the output's order and layout.
        envelope: What is to stand around the output's tensors.
        source_envelope: The source's, as the manifest keeps it for the way back.
        optimizer: What is to be written of the optimizer.
        pdopt: The `.pdopt` to write with the output; None without one.
        notes: Sentences about what does not come over as it was.
    """

    source: Source
    output: Path
    to: Side
    variant: Variant
    tensors: tuple[PlannedTensor, ...]
    envelope: Envelope
    source_envelope: Envelope
    optimizer: OptimizerPlan
    pdopt: Path | None
    notes: tuple[str, ...]


def plan_conversion(source: Source, output: Path, *, arch: str = "auto") -> Plan:
    """Decide what becomes of each tensor and of the optimizer, in the other framework.

    Args:
        source: What was read.
        output: The file to write.
        arch: See `factseg_convert.architectures.identify`.

    Raises:
        CheckpointError: The source is of no known network, a tensor or the optimizer does not fit
            it, or a `.pdopt` is in the way.
    """
    checkpoint = source.checkpoint
    variant = identify(checkpoint, arch)
    check_fit(variant, checkpoint, guessed=arch == "auto")
    origin = source.manifest
    if isinstance(origin, Manifest) and not _names_fit(origin, variant, checkpoint):
        origin = f"{manifest_path(source.path).name} names other tensors"
    envelope = origin.form if isinstance(origin, Manifest) else Envelope()
    tensors = _planned_tensors(checkpoint, variant, origin)
    pdopt, source_envelope = None, checkpoint.form
    if checkpoint.side == "torch":
        optimizer = plan_for_paddle(
            source.optimizer, checkpoint.form, variant, list(checkpoint.state), output
        )
        pdopt, source_envelope = pdopt_to_write(source.path, output, optimizer), optimizer.envelope
    else:
        optimizer = plan_for_torch(
            source.optimizer,
            envelope,
            variant,
            [tensor.spec.torch_name for tensor in tensors],
            pdopt=pdopt_beside(source.path),
            known_sha256=origin.optimizer_sha256 if isinstance(origin, Manifest) else None,
        )
        envelope = optimizer.envelope
    return Plan(
        source=source,
        output=output,
        to="paddle" if checkpoint.side == "torch" else "torch",
        variant=variant,
        tensors=tensors,
        envelope=envelope,
        source_envelope=source_envelope,
        optimizer=optimizer,
        pdopt=pdopt,
        notes=(
            *_counter_notes(checkpoint, variant, origin),
            *_envelope_notes(source, source_envelope),
            *optimizer.notes,
        ),
    )


def _planned_tensors(
    checkpoint: Checkpoint, variant: Variant, origin: Manifest | str
) -> tuple[PlannedTensor, ...]:
    """Return them in the order of the file that the source once was, or else of the source."""
    specs = {spec.torch_name: spec for spec in variant.specs}
    counts: dict[str, int | None] = {}
    if isinstance(origin, Manifest):
        counts = {r.torch.removeprefix(PREFIX): r.value for r in origin.tensors}
    state = checkpoint.state
    if checkpoint.side == "torch":
        names = [name for name in counts or state if name in state]
        return tuple(PlannedTensor(specs[n], _paddle_array(specs[n], state)) for n in names)
    return tuple(
        PlannedTensor(specs[n], _torch_array(specs[n], state, counts)) for n in counts or specs
    )


def _paddle_array(spec: TensorSpec, state: Mapping[str, np.ndarray]) -> np.ndarray:
    array = state[spec.torch_name]
    return spec.to_paddle(array) if spec.paddle_name else array


def _torch_array(
    spec: TensorSpec, state: Mapping[str, np.ndarray], counts: Mapping[str, int | None]
) -> np.ndarray:
    if spec.paddle_name:
        return spec.to_torch(state[spec.paddle_name])
    return np.array(counts.get(spec.torch_name) or 0, np.int64)


def _names_fit(manifest: Manifest, variant: Variant, checkpoint: Checkpoint) -> bool:
    """Return whether the manifest has the file's tensors, each under both names, prefix and all."""
    here, there = checkpoint.form.prefix, manifest.form.prefix
    torch_prefix, paddle_prefix = (here, there) if checkpoint.side == "torch" else (there, here)
    expected = {
        (torch_prefix + spec.torch_name, spec.paddle_name and paddle_prefix + spec.paddle_name)
        for spec in variant.specs
    }
    names = [(record.torch, record.paddle) for record in manifest.tensors]
    weights = {pair for pair in expected if pair[1]}
    return len(set(names)) == len(names) and set(names) in (weights, expected)


# Notes ---------------------------------------------------------------------------------------


def _envelope_notes(source: Source, envelope: Envelope) -> list[str]:
    notes = []
    if envelope.others:
        notes.append(f"{_listed(envelope.others)}, beside the weights, is kept in the manifest")
    # Why an optimizer is dropped is among its own notes.
    optimizer_key = source.optimizer.key if isinstance(source.optimizer, TorchOptimizer) else None
    dropped = [name for name in envelope.dropped if name != optimizer_key]
    if dropped:
        notes.append(f"{_listed(dropped)}, beside the weights, is not converted: weights only")
    return notes


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(shown, names))


def _counter_notes(checkpoint: Checkpoint, variant: Variant, origin: Manifest | str) -> list[str]:
    counters = [spec.torch_name for spec in variant.specs if not spec.paddle_name]
    if not counters:
        return []  # a network without BatchNorm
    if checkpoint.side == "torch":
        if counters[0] not in checkpoint.state:
            return []
        return [f"its {len(counters)} num_batches_tracked lie in the manifest"]
    if isinstance(origin, str):
        return [f"num_batches_tracked is 0 in all {len(counters)} layers, since {origin}"]
    if any(record.paddle is None for record in origin.tensors):
        return [f"num_batches_tracked and the form are those of {shown(origin.source)}"]
    return [f"without num_batches_tracked, in the form of {shown(origin.source)}"]
