"""Curves and pictures of a run for VisualDL: `visualdl --logdir FOLDER`.

VisualDL shows one record file of a folder, the one whose name is the last, so a new file for each
start of a run would hide the earlier part. Here a run has one file. It is cut back on resume, as
`train.log` is, and appended, which VisualDL's own writer can't do: it opens with "wb". That writer
also hands records to a thread that prints errors and goes on; here a full disk is an error.

The file's form (visualdl 2.5: `writer/record_writer.py`): for each record its length as 8 bytes,
little-endian, and a protocol buffer `Record`, whose value's `id` is the step.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from factseg_paddle.files import atomic_write

if TYPE_CHECKING:
    from visualdl.proto.record_pb2 import Record

FILE = "vdlrecords.1.log"  # VisualDL looks for "vdlrecords" in the name

_LENGTH = struct.Struct("<Q")


class VisualRecorder:
    """Writes records of a run; visualdl is imported here, not with this module.

    Args:
        folder: where the file is; it is made where it is not there.
        iteration: iterations that are done, 0 for a new run: later records are dropped.

    Raises:
        ImportError: visualdl is not installed; the message says how to do without.
        ValueError: the file that is there is damaged.
        OSError: the file can't be read or written, or visualdl can't make its `~/.visualdl`.
    """

    def __init__(self, folder: str | Path, iteration: int = 0) -> None:
        _visualdl()
        self.path = Path(folder) / FILE
        self.path.parent.mkdir(parents=True, exist_ok=True)
        is_new = not self.path.exists()
        if not is_new:
            _cut_back(self.path, iteration)
        self._file = self.path.open("ab", buffering=0)
        if is_new:
            from visualdl.component.base_component import meta_data

            self._append(meta_data(display_name="", walltime=_now()))

    def __enter__(self) -> VisualRecorder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def scalars(self, iteration: int, values: Mapping[str, float]) -> None:
        """Add a point to each curve, such as {"train/loss": 0.3, "eval/mIoU": 0.6}.

        Raises:
            OSError: the file can't be written.
        """
        from visualdl.component.base_component import scalar

        for tag, value in values.items():
            self._append(scalar(tag, value, iteration, walltime=_now()))

    def image(self, tag: str, iteration: int, rgb: np.ndarray) -> None:
        """Add a picture.

        Args:
            tag: what it shows, such as "val/P0003".
            iteration: when.
            rgb: [H, W, 3] uint8.

        Raises:
            ValueError: it is of another shape or dtype.
            OSError: the file can't be written.
        """
        if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
            raise ValueError(
                f"a picture is [H, W, 3] uint8, {tag} is {list(rgb.shape)} {rgb.dtype}"
            )
        from visualdl.component.base_component import image

        self._append(image(tag, rgb, iteration, walltime=_now()))

    def close(self) -> None:
        """Close the file; a second time does nothing."""
        self._file.close()

    def _append(self, record: Record) -> None:
        content = record.SerializeToString()
        rest = memoryview(_LENGTH.pack(len(content)) + content)
        while rest:
            rest = rest[self._file.write(rest) :]


def _visualdl() -> None:
    try:
        import visualdl  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"VisualDL can't be used ({error}): pip install visualdl, or leave out --use_vdl"
        ) from error


def _now() -> int:
    return round(time.time() * 1000)


def _cut_back(path: Path, iteration: int) -> None:
    """Drop records of later iterations, and a last one that was cut in the middle."""
    from google.protobuf.message import DecodeError
    from visualdl.proto.record_pb2 import Record

    kept = []
    content = memoryview(path.read_bytes())
    place = 0
    while place + _LENGTH.size <= len(content):
        end = place + _LENGTH.size + _LENGTH.unpack_from(content, place)[0]
        if end > len(content):
            break
        try:
            record = Record.FromString(bytes(content[place + _LENGTH.size : end]))
            step = record.values[0].id
        except (DecodeError, IndexError) as error:
            message = f"{path} is damaged at byte {place}; move it away, or leave out --use_vdl"
            raise ValueError(message) from error
        if step <= iteration:
            kept.append(content[place:end])
        place = end
    if sum(map(len, kept)) < len(content):
        with atomic_write(path) as temporary, temporary.open("wb") as file:
            file.writelines(kept)
