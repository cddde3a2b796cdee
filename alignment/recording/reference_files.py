"""Save and load the torch side; reading runs no code from a file."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from alignment.location import AtCall, Between, InStep
from alignment.pair import AlignmentError
from alignment.recording.calls import CallTree
from alignment.recording.determinism import Randomness
from alignment.recording.layerwise import LayerwiseReference
from alignment.recording.reference import ARRAYS, HEADER, Reference, hashes
from alignment.recording.trace import Trace
from alignment.recording.train_record import TrainRecord
from alignment.recording.train_record_files import load_steps, save_steps
from alignment.recording.value_key import Kind, ValueKey, from_text, layerwise_text, to_text
from alignment.weights.tensors import TensorSpec
from factseg_paddle.files import atomic_write_all, sha256_of_file


def save_reference(reference: Reference, folder: Path) -> None:
    """Write the record into `folder`."""
    groups = {
        "weights": reference.weights,
        "received": reference.received,
        "values": _by_text(reference.trace.values),
        "activations": _by_text(reference.activations),
        "jumps": {key.label: array for key, array in reference.discontinuities.items()},
        "alone": _by_text(reference.alone.values, layerwise_text),
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
        "rounding": _by_text(reference.rounding),
        "sensitivity": _by_text(reference.sensitivity),
        "float32_dtypes": _by_text(reference.float32_dtypes),
        "checks": list(reference.checks),
        "alone": _layerwise_header(reference.alone),
        "random": _as_record(reference.random),
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
            "random": _as_record(reference.random_training),
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
                _by_key(groups.get("values", {})),
                calls=header["calls"],
                tree=CallTree(**header["tree"]),
                unread=header["unread"],
            ),
            dtype=header["dtype"],
            activations=_by_key(groups.get("activations", {})),
            rounding=_by_key(header["rounding"]),
            sensitivity=_by_key(header["sensitivity"]),
            float32_dtypes=_by_key(header["float32_dtypes"]),
            discontinuities={
                ValueKey(Kind.MODEL_GRAD_OUTPUT, name): array
                for name, array in groups.get("jumps", {}).items()
            },
            alone=_layerwise(groups.get("alone", {}), header["alone"]),
            random=_randomness(header["random"]),
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
    reference.random_training = _randomness(header["random"])


def _by_text(
    values: Mapping[ValueKey, Any], text: Callable[[ValueKey], str] = to_text
) -> dict[str, Any]:
    return {text(key): value for key, value in values.items()}


def _by_key(values: Mapping[str, Any]) -> dict[ValueKey, Any]:
    return {from_text(text): value for text, value in values.items()}


def _as_record(randomness: Randomness | None) -> list[str] | None:
    return None if randomness is None else [str(randomness.location), randomness.reason]


def _randomness(recorded: Sequence[str] | None) -> Randomness | None:
    if recorded is None:
        return None
    text, reason = recorded
    if text == str(_OUTPUT):
        return Randomness(_OUTPUT, reason)
    before, arrow, after = text.partition(" -> ")
    return Randomness(Between(before, after) if arrow else AtCall(text), reason)


_OUTPUT = InStep("forward", "output")


_IN_CONTAINER = "gradient@"
"""Begins the text for the rounding of a parameter's gradient in a call: `gradient@CALL/NAME`."""


def _layerwise_header(layerwise: LayerwiseReference) -> dict[str, Any]:
    containers = layerwise.rounding_of_containers
    return {
        "inputs": layerwise.inputs,
        "outputs": layerwise.outputs,
        "origins": {
            layerwise_text(key): [layerwise_text(origin) for origin in origins]
            for key, origins in layerwise.origins.items()
        },
        "tree": asdict(layerwise.tree),
        "rounding": _by_text(layerwise.rounding, layerwise_text)
        | {f"{_IN_CONTAINER}{call}/{name}": error for (call, name), error in containers.items()},
        "dtypes": _by_text(layerwise.dtypes, layerwise_text),
    }


def _layerwise(values: Mapping[str, np.ndarray], header: dict) -> LayerwiseReference:
    rounding, read = header["rounding"], _by_key(values)
    containers = {text for text in rounding if text.startswith(_IN_CONTAINER)}
    return LayerwiseReference(
        values=read,
        inputs=header["inputs"],
        outputs=header["outputs"],
        origins={
            from_text(text): [from_text(origin) for origin in origins]
            for text, origins in header["origins"].items()
        },
        tree=CallTree(**header["tree"]),
        rounding=_by_key({text: rounding[text] for text in rounding if text not in containers}),
        rounding_of_containers={
            _call_and_parameter(text, read): rounding[text] for text in containers
        },
        dtypes=_by_key(header["dtypes"]),
    )


def _call_and_parameter(text: str, values: Mapping[ValueKey, Any]) -> tuple[str, str]:
    """Return what `gradient@CALL/NAME` is of; a layer's name may hold a slash itself."""
    parts = text.removeprefix(_IN_CONTAINER).split("/")
    for end in range(1, len(parts)):
        call, parameter = "/".join(parts[:end]), "/".join(parts[end:])
        if ValueKey(Kind.PARAMETER_GRAD, parameter) in values:
            return call, parameter
    raise KeyError(text)
