"""Save and load the torch side; reading runs no code from a file."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np

from alignment.pair import AlignmentError
from alignment.recording.calls import CallTree
from alignment.recording.layerwise import LayerwiseReference
from alignment.recording.reference import ARRAYS, HEADER, Reference, hashes
from alignment.recording.trace import Trace
from alignment.recording.train_record import TrainRecord
from alignment.recording.train_record_files import load_steps, save_steps
from alignment.weights.tensors import TensorSpec
from factseg_paddle.files import atomic_write_all, sha256_of_file


def save_reference(reference: Reference, folder: Path) -> None:
    """Write the record into `folder`."""
    groups = {
        "weights": reference.weights,
        "received": reference.received,
        "values": reference.trace.values,
        "activations": reference.activations,
        "jumps": reference.discontinuities,
        "alone": reference.alone.values,
        **{f"checks/{step}": values for step, values in reference.checks.items()},
    }
    # Members are numbered: a tensor's name need not be a file's.
    names, arrays, members = [], {}, {}
    for group, values in groups.items():
        for name, array in values.items():
            member = members.setdefault(id(array), f"a{len(members)}")  # an array is written once
            arrays[member] = array
            names.append([group, name, member])
    header = {
        "pair": reference.pair,
        "mode": reference.mode,
        "specs": [asdict(spec) for spec in reference.specs],
        "calls": reference.trace.calls,
        "tree": asdict(reference.trace.tree),
        "unread": reference.trace.unread,
        "dtype": reference.dtype,
        "rounding": reference.rounding,
        "sensitivity": reference.sensitivity,
        "float32_dtypes": reference.float32_dtypes,
        "checks": list(reference.checks),
        "alone": {
            "inputs": reference.alone.inputs,
            "outputs": reference.alone.outputs,
            "origins": reference.alone.origins,
            "tree": asdict(reference.alone.tree),
            "rounding": reference.alone.rounding,
            "dtypes": reference.alone.dtypes,
        },
        "random": reference.random,
        "environment": reference.environment,
        "identity": reference.identity,
        "notes": reference.notes,
        "names": names,
        "sha256": hashes(reference.received),
    }
    folder.mkdir(parents=True, exist_ok=True)
    if reference.train:
        header["train"] = {
            "dtype": reference.train_dtype,
            "count": reference.train_steps,
            "steps": save_steps(folder, reference.train(reference.train_dtype)),
            "notes": reference.train_notes,
            "curves": reference.curves,
            "random": reference.random_training,
        }
    with atomic_write_all(folder / ARRAYS, folder / HEADER) as (array_path, header_path):
        np.savez(array_path, **arrays)
        header["arrays_sha256"] = sha256_of_file(array_path)
        header_path.write_text(json.dumps(header), encoding="utf-8")


def load_reference(folder: Path) -> Reference:
    """Read a record.

    Raises:
        AlignmentError: there is none, or it is damaged.
    """
    header_path, array_path = folder / HEADER, folder / ARRAYS
    for path in (header_path, array_path):
        if not path.is_file():
            raise AlignmentError(
                f"{folder} holds no torch record ({path.name} is missing); make one with --side "
                f"torch --out {folder}"
            )
    try:
        header = json.loads(header_path.read_text(encoding="utf-8"))
        if sha256_of_file(array_path) != header["arrays_sha256"]:
            raise AlignmentError(
                f"{array_path} is not the file that {HEADER} was written with; record again"
            )
        groups: dict[str, dict[str, np.ndarray]] = {}
        with np.load(array_path, allow_pickle=False) as arrays:
            read = {member: arrays[member] for _, _, member in header["names"]}
            for group, name, member in header["names"]:
                groups.setdefault(group, {})[name] = read[member]
        reference = Reference(
            pair=header["pair"],
            mode=header["mode"],
            specs=tuple(TensorSpec.from_record(values) for values in header["specs"]),
            weights=groups.get("weights", {}),
            received=groups.get("received", {}),
            trace=Trace(
                groups.get("values", {}),
                calls=header["calls"],
                tree=CallTree(**header["tree"]),
                unread=header["unread"],
            ),
            dtype=header["dtype"],
            activations=groups.get("activations", {}),
            rounding=header["rounding"],
            sensitivity=header["sensitivity"],
            float32_dtypes=header["float32_dtypes"],
            discontinuities=groups.get("jumps", {}),
            alone=_alone(groups.get("alone", {}), header["alone"]),
            random=header["random"] and tuple(header["random"]),
            checks={step: groups.get(f"checks/{step}", {}) for step in header["checks"]},
            environment=header["environment"],
            identity=header["identity"],
            notes=header["notes"],
        )
        if "train" in header:
            _add_training(reference, folder, header["train"])
        return reference
    except _DAMAGE as error:
        raise AlignmentError(f"the torch record in {folder} is damaged: {error}") from error


# Whatever a header or an archive that is not ours can set off, by name.
_DAMAGE = (
    AttributeError,
    EOFError,
    KeyError,
    OSError,
    TypeError,
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
)


def _add_training(reference: Reference, folder: Path, header: dict) -> None:
    def steps(_dtype: str) -> Iterator[TrainRecord]:
        try:
            yield from load_steps(folder, header["steps"])
        except _DAMAGE as error:
            raise AlignmentError(f"the torch record in {folder} is damaged: {error}") from error

    reference.train = steps
    reference.train_dtype = header["dtype"]
    reference.train_notes = header["notes"]
    reference.curves, reference.train_steps = header["curves"], header["count"]
    reference.random_training = header["random"] and tuple(header["random"])


def _alone(values: dict[str, np.ndarray], header: dict) -> LayerwiseReference:
    return LayerwiseReference(values, **header | {"tree": CallTree(**header["tree"])})
