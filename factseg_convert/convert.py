"""Checkpoints from one framework to the other, every tensor accounted for, bit-equal both ways.

A conversion has four stages, each in a file of its own, and data go one way through them: `read`
the source, `plan` what becomes of each tensor or refuse, `write` the other framework's files and
the manifest, `verify` by reading back that they are the source, before any of them gets its name.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from alignment.weights.checkpoint_files import Side
from factseg_convert.architectures import Variant
from factseg_convert.manifest import manifest_path
from factseg_convert.plan import plan_conversion
from factseg_convert.read import checkpoint_file, read_source
from factseg_convert.verify import verify
from factseg_convert.write import written
from factseg_paddle.io import CheckpointError


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
    plan = plan_conversion(read_source(source, _OTHER[to]), output, arch=arch)
    replaced = output.exists()
    try:
        with written(plan) as files:
            verify(files)
    except OSError as error:
        raise CheckpointError(f"{output} was not written: {error.strerror or error}") from error
    count = len(plan.source.checkpoint.state)
    return Conversion(source, output, plan.variant, count, plan.notes, replaced)


_OTHER: dict[Side, Side] = {"torch": "paddle", "paddle": "torch"}


def _check_paths(source: Path, output: Path) -> None:
    if source.is_dir():
        raise CheckpointError(
            f"{source} is a folder; give a checkpoint file, or a folder with model.pdparams"
        )
    if not source.is_file():
        raise CheckpointError(f"{source} does not exist")
    if output.exists() and output.samefile(source):
        raise CheckpointError(f"the output {output} is the input; give another --output")
