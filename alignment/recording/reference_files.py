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
from alignment.recording.dataflow import Dataflow
from alignment.recording.determinism import Randomness
from alignment.recording.layerwise import LayerwiseReference, LayerwiseRounding
from alignment.recording.reference import (
    ARRAYS,
    HEADER,
    ModelReference,
    Reference,
    TrainingReference,
    hashes,
)
from alignment.recording.trace import Trace
from alignment.recording.train_record import TrainStep
from alignment.recording.train_record_files import load_steps, save_steps
from alignment.recording.value_key import Kind, ValueKey, from_text, layerwise_text, to_text
from alignment.weights.tensors import TensorSpec
from factseg_paddle.files import atomic_write_all, sha256_of_file


def save_reference(reference: Reference, folder: Path) -> None:
    """Write the record into `folder`."""
    model = reference.model or _NO_MODEL
    groups = {
        "weights": reference.weights,
        "received": reference.received,
        **_model_arrays(model),
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
        "checks": list(reference.checks),
        "environment": dict(reference.environment),
        "identity": dict(reference.identity),
        "names": names,
        "sha256": hashes(reference.received),
        **_model_header(model),
    }
    folder.mkdir(parents=True, exist_ok=True)
    if reference.training:
        header["train"] = _training_header(reference.training, folder)
    with atomic_write_all(folder / ARRAYS, folder / HEADER) as (array_path, header_path):
        np.savez(array_path, **arrays)
        header["arrays_sha256"] = sha256_of_file(array_path)
        header_path.write_text(json.dumps(header), encoding="utf-8")


_NO_MODEL = ModelReference(Trace(), "float64")
_NOT_LAYERWISE = LayerwiseReference({}, Dataflow())
"""What a record holds where torch's model was not run, or not layer by layer."""


def _model_arrays(model: ModelReference) -> dict[str, dict[str, np.ndarray]]:
    return {
        "values": _by_text(model.trace.values),
        "activations": _by_text(model.activations),
        "jumps": {key.label: array for key, array in model.discontinuities.items()},
        "alone": _by_text((model.layerwise or _NOT_LAYERWISE).values, layerwise_text),
    }


def _model_header(model: ModelReference) -> dict[str, Any]:
    return {
        "dtype": model.dtype,
        "calls": model.trace.calls,
        "tree": asdict(model.trace.tree),
        "unread": model.trace.unread,
        "rounding": _by_text(model.rounding),
        "sensitivity": _by_text(model.sensitivity),
        "float32_dtypes": _by_text(model.float32_dtypes),
        "alone": _layerwise_header(model.layerwise or _NOT_LAYERWISE),
        "random": _as_record(model.random),
        "notes": list(model.notes),
    }


def _training_header(training: TrainingReference, folder: Path) -> dict[str, Any]:
    return {
        "dtype": training.dtype,
        "count": training.count,
        "steps": save_steps(folder, training.steps(training.dtype)),
        "notes": list(training.notes),
        "curves": dict(training.curves),
        "random": _as_record(training.random),
    }


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
        return Reference(
            pair=header["pair"],
            mode=header["mode"],
            specs=tuple(TensorSpec.from_record(values) for values in header["specs"]),
            weights=groups.get("weights", {}),
            received=groups.get("received", {}),
            model=_model(groups, header) if groups.get("values") else None,
            training=_training(folder, header["train"]) if "train" in header else None,
            checks={step: groups.get(f"checks/{step}", {}) for step in header["checks"]},
            environment=header["environment"],
            identity=header["identity"],
        )
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


def _model(groups: Mapping[str, Mapping[str, np.ndarray]], header: dict) -> ModelReference:
    discontinuities = groups.get("jumps", {})
    return ModelReference(
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
            ValueKey(Kind.MODEL_GRAD_OUTPUT, name): array for name, array in discontinuities.items()
        },
        layerwise=_layerwise(groups["alone"], header["alone"]) if groups.get("alone") else None,
        random=_randomness(header["random"]),
        notes=header["notes"],
    )


def _training(folder: Path, header: dict) -> TrainingReference:
    def steps(_dtype: str) -> Iterator[TrainStep]:
        try:
            yield from load_steps(folder, header["steps"])
        except _DAMAGE as error:
            raise AlignmentError(f"the torch record in {folder} is damaged: {error}") from error

    return TrainingReference(
        steps,
        dtype=header["dtype"],
        count=header["count"],
        curves=header["curves"],
        random=_randomness(header["random"]),
        notes=header["notes"],
    )


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
    dataflow, rounding = layerwise.dataflow, layerwise.rounding
    return {
        "inputs": dataflow.inputs,
        "outputs": dataflow.outputs,
        "origins": {
            layerwise_text(key): [layerwise_text(origin) for origin in origins]
            for key, origins in dataflow.origins.items()
        },
        "tree": asdict(dataflow.tree),
        "rounding": _by_text(rounding.errors, layerwise_text)
        | {
            f"{_IN_CONTAINER}{call}/{name}": error
            for (call, name), error in rounding.of_containers.items()
        },
        "dtypes": _by_text(rounding.dtypes, layerwise_text),
    }


def _layerwise(values: Mapping[str, np.ndarray], header: dict) -> LayerwiseReference:
    rounding, arrays = header["rounding"], _by_key(values)
    containers = {text for text in rounding if text.startswith(_IN_CONTAINER)}
    return LayerwiseReference(
        arrays,
        Dataflow(
            inputs=header["inputs"],
            outputs=header["outputs"],
            origins={
                from_text(text): [from_text(origin) for origin in origins]
                for text, origins in header["origins"].items()
            },
            tree=CallTree(**header["tree"]),
        ),
        LayerwiseRounding(
            errors=_by_key({text: rounding[text] for text in rounding if text not in containers}),
            of_containers={
                _call_and_parameter(text, arrays): rounding[text] for text in containers
            },
            dtypes=_by_key(header["dtypes"]),
        ),
    )


def _call_and_parameter(text: str, values: Mapping[ValueKey, Any]) -> tuple[str, str]:
    """Return what `gradient@CALL/NAME` is of; a layer's name may hold a slash itself."""
    parts = text.removeprefix(_IN_CONTAINER).split("/")
    for end in range(1, len(parts)):
        call, parameter = "/".join(parts[:end]), "/".join(parts[end:])
        if ValueKey(Kind.PARAMETER_GRAD, parameter) in values:
            return call, parameter
    raise KeyError(text)
