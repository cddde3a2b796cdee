"""Checkpoints from one framework to the other, every tensor accounted for, bit-equal both ways.

A conversion reads a file, finds the network it belongs to, refuses it when a tensor is missing,
extra or misshapen, writes the other framework's file and its manifest, and reads the result back
to see that it is the source, bit by bit, before either file gets its name.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alignment.weights.checkpoint_files import (
    PREFIX,
    Checkpoint,
    Envelope,
    Side,
    dtype_name,
    read_checkpoint,
)
from alignment.weights.models import torch_of_array
from alignment.weights.tensors import TensorSpec
from alignment.weights.torch_files import write_torch_file
from factseg_convert.architectures import Variant, check_fit, identify
from factseg_convert.manifest import (
    Manifest,
    TensorRecord,
    manifest_path,
    read_manifest,
    write_manifest,
)
from factseg_convert.optimizer_files import (
    Optimizer,
    optimizer_key,
    pdopt_to_write,
    read_optimizer,
    verify_optimizer,
)
from factseg_paddle.files import atomic_write_all, sha256_of_array, sha256_of_file, shown
from factseg_paddle.io import CheckpointError, write_pdparams


@dataclass(frozen=True)
class Conversion:
    """What was converted; `notes` are sentences about what did not come over as it was.

    `replaced` tells whether there was an older output.
    """

    source: Path
    output: Path
    variant: Variant
    tensors: int
    notes: tuple[str, ...]
    replaced: bool

    def __str__(self) -> str:
        did = "replaced" if self.replaced else "wrote"
        lines = [
            f"{self.source}: {self.variant}, {self.tensors} tensors",
            *(f"  {note}" for note in self.notes),
            f"  {did} {self.output} and {manifest_path(self.output).name}; "
            "read back, every tensor is bit-equal to its source",
        ]
        return "\n".join(lines)


def convert(source: Path, output: Path, to: Side, *, arch: str = "auto") -> Conversion:
    """Convert one file and write `output` and its manifest, both or neither.

    The optimizer goes along: a torch file's becomes a `.pdopt` beside the output, written together
    with the two, and a `.pdopt` beside a Paddle file goes into the torch file.

    Args:
        source: A FactSeg or ResNet checkpoint of the other framework; of Paddle also a folder with
            `model.pdparams` and `optimizer.pdopt`.
        output: The file to write; its folder must exist. An older file is replaced.
        to: The framework to convert to.
        arch: See `factseg_convert.architectures.identify`.

    Raises:
        CheckpointError: The source can't be converted, or the output not be written; the message
            is one sentence.
    """
    source = checkpoint_file(source, to)
    _check_paths(source, output)
    checkpoint, source_sha256 = _read(source, "torch" if to == "paddle" else "paddle")
    variant = identify(checkpoint, arch)
    check_fit(variant, checkpoint, guessed=arch == "auto")
    origin = read_manifest(source, source_sha256)
    if isinstance(origin, Manifest) and not _names_fit(origin, variant, checkpoint):
        origin = f"{manifest_path(source).name} names other tensors"
    form = origin.form if isinstance(origin, Manifest) else Envelope()
    items = _items(checkpoint, variant, origin)
    names = [item.spec.torch_name for item in items]
    known = origin.optimizer_sha256 if isinstance(origin, Manifest) else None
    optimizer = read_optimizer(checkpoint, variant, names, form, output, known)
    if to == "torch":
        form = optimizer.form
    replaced = output.exists()
    pdopt = pdopt_to_write(source, output, optimizer) if to == "paddle" else None
    paths = [manifest_path(output), *([pdopt] if pdopt else []), output]
    try:
        with atomic_write_all(*paths) as (manifest_file, *pdopt_files, output_file):
            _write(output_file, to, items, form, optimizer)
            _verify(output_file, to, items, checkpoint)
            for pdopt_file in pdopt_files:
                write_pdparams(pdopt_file, optimizer.state)
            verify_optimizer(pdopt_files[0] if pdopt_files else output_file, optimizer)
            manifest = Manifest(
                source=source.name,
                source_sha256=source_sha256,
                output=output.name,
                output_sha256=sha256_of_file(output_file),
                model=str(variant),
                form=optimizer.form if to == "paddle" else checkpoint.form,
                tensors=_records(items, to, checkpoint.form, form),
                optimizer=pdopt and pdopt.name,
                optimizer_sha256=sha256_of_file(pdopt_files[0]) if pdopt_files else None,
            )
            write_manifest(manifest_file, manifest)
    except OSError as error:
        raise CheckpointError(f"{output} was not written: {error.strerror or error}") from error
    notes = _notes(checkpoint, variant, origin, optimizer)
    return Conversion(source, output, variant, len(checkpoint.state), notes, replaced)


def checkpoint_file(source: Path, to: Side) -> Path:
    """The file to convert: the source itself, or the weights of a Paddle checkpoint folder."""
    inside = source / "model.pdparams"
    return inside if to == "torch" and source.is_dir() and inside.is_file() else source


@dataclass(frozen=True)
class _Item:
    """One tensor as the output has it; a counter, which Paddle lacks, goes to the manifest."""

    spec: TensorSpec
    array: np.ndarray

    def name(self, side: Side) -> str | None:
        return self.spec.torch_name if side == "torch" else self.spec.paddle_name


def _items(checkpoint: Checkpoint, variant: Variant, origin: Manifest | str) -> list[_Item]:
    """The output's tensors, in the order of the file that it once was, or else of the source."""
    specs = {spec.torch_name: spec for spec in variant.specs}
    counts: dict[str, int | None] = {}
    if isinstance(origin, Manifest):
        counts = {_bare(record.torch): record.value for record in origin.tensors}
    state = checkpoint.state
    if checkpoint.side == "torch":
        names = [name for name in counts or state if name in state]
        return [
            _Item(specs[n], specs[n].to_paddle(state[n]) if specs[n].paddle_name else state[n])
            for n in names
        ]
    items = []
    for name in counts or specs:
        paddle_name = specs[name].paddle_name
        count = np.array(counts.get(name) or 0, np.int64)
        items.append(
            _Item(specs[name], specs[name].to_torch(state[paddle_name]) if paddle_name else count)
        )
    return items


def _check_paths(source: Path, output: Path) -> None:
    if source.is_dir():
        raise CheckpointError(
            f"{source} is a folder; give a checkpoint file, or a folder with model.pdparams"
        )
    if not source.is_file():
        raise CheckpointError(f"{source} does not exist")
    if output.exists() and output.samefile(source):
        raise CheckpointError(f"the output {output} is the input; give another --output")


def _read(path: Path, side: Side) -> tuple[Checkpoint, str]:
    try:
        return read_checkpoint(path, side), sha256_of_file(path)
    except OSError as error:
        raise CheckpointError(f"{path} can't be read: {error.strerror or error}") from error


def _names_fit(manifest: Manifest, variant: Variant, checkpoint: Checkpoint) -> bool:
    """Whether the manifest has the file's tensors, each under both of its names, prefix and all."""
    here, there = checkpoint.form.prefix, manifest.form.prefix
    torch_prefix, paddle_prefix = (here, there) if checkpoint.side == "torch" else (there, here)
    expected = {
        (torch_prefix + spec.torch_name, spec.paddle_name and paddle_prefix + spec.paddle_name)
        for spec in variant.specs
    }
    names = [(record.torch, record.paddle) for record in manifest.tensors]
    weights = {pair for pair in expected if pair[1]}
    return len(set(names)) == len(names) and set(names) in (weights, expected)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(shown, names))


def _bare(name: str) -> str:
    return name.removeprefix(PREFIX)


def _write(
    path: Path, to: Side, items: Sequence[_Item], form: Envelope, optimizer: Optimizer
) -> None:
    named = [(item.name(to), item.array) for item in items]
    state = {form.prefix + name: array for name, array in named if name}
    if to == "paddle":
        write_pdparams(path, {form.wrapper: state, **form.others} if form.wrapper else state)
        return
    tensors = OrderedDict((name, torch_of_array(array)) for name, array in state.items())
    content = {form.wrapper: tensors}
    if optimizer.opt is not None:
        content[form.optimizer] = optimizer.opt
    content |= {key: value for key, value in form.others.items() if key not in content}
    if optimizer.scheduler is not None:
        content[form.scheduler] = optimizer.scheduler
    write_torch_file(path, content if form.wrapper else tensors)


def _verify(path: Path, to: Side, items: Sequence[_Item], checkpoint: Checkpoint) -> None:
    """Read the file back and hold it, bit by bit, to the source."""
    written = read_checkpoint(path, to).state
    expected = [item.name(to) for item in items if item.name(to)]
    if list(written) != expected:
        raise CheckpointError(f"{path} does not hold the names that were written to it")
    for item in items:
        here, there = item.name(checkpoint.side), item.name(to)
        if here and there:
            back = item.spec.to_torch if to == "paddle" else item.spec.to_paddle
            array, source = back(written[there]), checkpoint.state[here]
            if array.dtype != source.dtype or array.tobytes() != source.tobytes():
                raise CheckpointError(f"{path} does not hold {there} as it was written to it")


def _records(
    items: Sequence[_Item], to: Side, source: Envelope, output: Envelope
) -> tuple[TensorRecord, ...]:
    torch_prefix, paddle_prefix = (
        (source.prefix, output.prefix) if to == "paddle" else (output.prefix, source.prefix)
    )
    return tuple(
        TensorRecord(
            torch=torch_prefix + item.spec.torch_name,
            paddle=item.spec.paddle_name and paddle_prefix + item.spec.paddle_name,
            shape=item.array.shape,
            dtype=dtype_name(item.array),
            sha256=sha256_of_array(item.array),
            value=None if item.spec.paddle_name else int(item.array),
        )
        for item in items
    )


def _notes(
    checkpoint: Checkpoint, variant: Variant, origin: Manifest | str, optimizer: Optimizer
) -> tuple[str, ...]:
    notes = _counter_notes(checkpoint, variant, origin)
    form = optimizer.form if checkpoint.side == "torch" else checkpoint.form
    if form.others:
        notes.append(f"{_listed(form.others)}, beside the weights, is kept in the manifest")
    dropped = [name for name in form.dropped if name != optimizer_key(checkpoint)]
    if dropped:
        notes.append(f"{_listed(dropped)}, beside the weights, is not converted: weights only")
    return (*notes, *optimizer.notes)


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
