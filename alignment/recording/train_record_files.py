"""Torch's training steps in a record's folder: one file a step, so that none has to be held."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alignment.pair import AlignmentError
from alignment.recording.train_record import TrainRecord
from factseg_paddle.files import atomic_write, sha256_of_file

_NUMBERS = ("step", "rate", "loss", "norm", "clipped_norm", "samples", "sensitivity", "calls")
_ARRAYS = ("gradients", "updates", "buffers", "biased", "activations")


def save_steps(folder: Path, records: Iterable[TrainRecord]) -> list[dict[str, Any]]:
    """Write each step as it comes; give what the record's header has to say about them."""
    headers = []
    for record in records:
        groups = {kind: getattr(record, kind) for kind in _ARRAYS}
        groups |= {f"slots/{name}": own for name, own in record.slots.items()}
        names = [(group, name) for group, values in groups.items() for name in values]
        path = folder / f"record_torch_train_{record.step:02}.npz"
        with atomic_write(path) as temporary:
            np.savez(temporary, **{f"a{i}": groups[g][n] for i, (g, n) in enumerate(names)})
            sha256 = sha256_of_file(temporary)
        numbers = {key: getattr(record, key) for key in _NUMBERS}
        headers.append(numbers | {"file": path.name, "sha256": sha256, "names": names})
    return headers


def load_steps(folder: Path, headers: Sequence[dict[str, Any]]) -> Iterator[TrainRecord]:
    """Read the steps one by one.

    Raises:
        AlignmentError: a file is missing or is not the one that the header was written with.
    """
    for header in headers:
        path = folder / Path(header["file"]).name
        if not path.is_file() or sha256_of_file(path) != header["sha256"]:
            raise AlignmentError(f"{path} is missing or was changed; record again")
        record = TrainRecord(**{key: header[key] for key in _NUMBERS})
        with np.load(path, allow_pickle=False) as arrays:
            for index, (group, name) in enumerate(header["names"]):
                kind, _, parameter = group.partition("/")
                values = (
                    record.slots.setdefault(parameter, {})
                    if kind == "slots"
                    else getattr(record, kind)
                )
                values[name] = arrays[f"a{index}"]
        yield record
