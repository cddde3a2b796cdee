"""First stage of a conversion: read the checkpoint and all that lies beside it.

Nothing later opens a source again. In a torch file the optimizer is an entry beside the state dict;
in Paddle it is a file of its own, `X.pdopt` beside `X.pdparams`, or `optimizer.pdopt` beside the
`model.pdparams` of a checkpoint folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignment.weights.checkpoint_files import Checkpoint, Side, read_checkpoint
from factseg_convert.manifest import Manifest, read_manifest
from factseg_paddle.files import sha256_of_file
from factseg_paddle.io import CheckpointError, load_plain

_OPTIMIZER_KEYS = ("opt", "optimizer")
_SCHEDULER_KEYS = ("scheduler", "lr_scheduler")


@dataclass(frozen=True)
class TorchOptimizer:
    """The optimizer's entry of a torch file, and the scheduler's; `scheduler` is None without one.

    Attributes:
        key, scheduler_key: Where the two stand in the file.
        state: `optimizer.state_dict()`, or whatever the file has under that name.
        scheduler: `scheduler.state_dict()`.
    """

    key: str
    state: Mapping[str, Any]
    scheduler_key: str | None
    scheduler: Mapping[str, Any] | None


@dataclass(frozen=True)
class PaddleOptimizer:
    """A `.pdopt` file: its content and the SHA-256 of its bytes."""

    path: Path
    content: object
    sha256: str


@dataclass(frozen=True)
class Source:
    """What a conversion starts from; nothing of it is judged yet.

    Attributes:
        checkpoint: The tensors, and what stands around them in their file.
        sha256: Of that file.
        manifest: What the file was converted from, or why that is not known.
        optimizer: The optimizer's state; None without one.
    """

    checkpoint: Checkpoint
    sha256: str
    manifest: Manifest | str
    optimizer: TorchOptimizer | PaddleOptimizer | None

    @property
    def path(self) -> Path:
        """Return the path of the file with the tensors."""
        return self.checkpoint.path


def checkpoint_file(source: Path, to: Side) -> Path:
    """Return the file to convert: the source itself, or the weights of a Paddle folder."""
    inside = source / "model.pdparams"
    return inside if to == "torch" and source.is_dir() and inside.is_file() else source


def read_source(path: Path, side: Side) -> Source:
    """Read a checkpoint file, its manifest and its optimizer.

    Args:
        path: The file, as `checkpoint_file` gives it.
        side: The framework that it is of.

    Raises:
        CheckpointError: A file can't be read, is damaged, or holds no state dict.
    """
    try:
        checkpoint, sha256 = read_checkpoint(path, side), sha256_of_file(path)
    except OSError as error:
        raise CheckpointError(f"{path} can't be read: {error.strerror or error}") from error
    optimizer = _torch_optimizer(checkpoint) if side == "torch" else _paddle_optimizer(path)
    return Source(checkpoint, sha256, read_manifest(path, sha256), optimizer)


def pdopt_beside(pdparams: Path) -> Path:
    """Return where the optimizer of a `.pdparams` file lies, or would lie; there may be none."""
    same_stem = pdparams.with_name(pdparams.stem + ".pdopt")
    is_of_folder = pdparams.name == "model.pdparams" and not same_stem.exists()
    return pdparams.with_name("optimizer.pdopt") if is_of_folder else same_stem


def _torch_optimizer(checkpoint: Checkpoint) -> TorchOptimizer | None:
    extras = checkpoint.extras
    key = next((key for key in _OPTIMIZER_KEYS if key in extras), None)
    if key is None:
        return None
    scheduler_key = next((key for key in _SCHEDULER_KEYS if key in extras), None)
    scheduler = extras[scheduler_key] if scheduler_key else None
    return TorchOptimizer(key, extras[key], scheduler_key, scheduler)


def _paddle_optimizer(pdparams: Path) -> PaddleOptimizer | None:
    path = pdopt_beside(pdparams)
    try:
        if not path.exists():
            return None
        return PaddleOptimizer(path, load_plain(path), sha256_of_file(path))
    except OSError as error:
        raise CheckpointError(f"{path} can't be read: {error.strerror or error}") from error
