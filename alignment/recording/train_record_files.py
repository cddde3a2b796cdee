"""Torch's training steps in a record's folder: one file a step, so that none has to be held."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alignment.pair import AlignmentError
from alignment.recording.train_record import StepSensitivity, TrainRecord, TrainStep
from alignment.recording.value_key import from_text, to_text
from factseg_paddle.files import atomic_write, sha256_of_file

_NUMBERS = ("step", "rate", "loss", "norm", "clipped_norm", "samples", "calls")
_ARRAYS = ("gradients", "updates", "buffers", "biased")


def save_steps(folder: Path, steps: Iterable[TrainStep]) -> list[dict[str, Any]]:
    """Write each step as it comes; give what the record's header has to say about them."""
    headers = []
    for record, activations in steps:
        groups = {kind: getattr(record, kind) for kind in _ARRAYS}
        groups["activations"] = {to_text(key): v for key, v in activations.items()}
        groups |= {f"slots/{name}": slots for name, slots in record.slots.items()}
        names = [(group, name) for group, values in groups.items() for name in values]
        path = folder / f"record_torch_train_{record.step:02}.npz"
        with atomic_write(path) as temporary:
            np.savez(temporary, **{f"a{i}": groups[g][n] for i, (g, n) in enumerate(names)})
            sha256 = sha256_of_file(temporary)
        numbers = {key: getattr(record, key) for key in _NUMBERS}
        numbers["sensitivity"] = _by_text(record.sensitivity)
        headers.append(numbers | {"file": path.name, "sha256": sha256, "names": names})
    return headers


def load_steps(folder: Path, headers: Sequence[dict[str, Any]]) -> Iterator[TrainStep]:
    """Read the steps one by one.

    Raises:
        AlignmentError: a file is missing or is not the one that the header was written with.
    """
    for header in headers:
        # Nothing of a step is held here while the caller uses it: it is hundreds of MB.
        yield _loaded(folder, header)


def _loaded(folder: Path, header: Mapping[str, Any]) -> TrainStep:
    path = folder / Path(header["file"]).name
    if not path.is_file() or sha256_of_file(path) != header["sha256"]:
        raise AlignmentError(f"{path} is missing or was changed; record again")
    by_group: dict[str, dict[str, np.ndarray]] = {kind: {} for kind in _ARRAYS}
    slots: dict[str, dict[str, np.ndarray]] = {}
    activations = {}
    with np.load(path, allow_pickle=False) as arrays:
        for index, (group, name) in enumerate(header["names"]):
            kind, _, parameter = group.partition("/")
            if kind == "activations":
                activations[from_text(name)] = arrays[f"a{index}"]
            elif kind == "slots":
                slots.setdefault(parameter, {})[name] = arrays[f"a{index}"]
            else:
                by_group[kind][name] = arrays[f"a{index}"]
    record = TrainRecord(
        **{key: header[key] for key in _NUMBERS},
        **by_group,
        slots=slots,
        sensitivity=_sensitivity(header["sensitivity"]),
    )
    return TrainStep(record, activations)


def _by_text(sensitivity: StepSensitivity) -> dict[str, float]:
    return {
        "loss": sensitivity.loss,
        **{f"gradient/{name}": change for name, change in sensitivity.gradients.items()},
        **{f"buffer/{name}": change for name, change in sensitivity.buffers.items()},
        "gradient norm": sensitivity.norm,
    }


def _sensitivity(by_text: Mapping[str, float]) -> StepSensitivity:
    groups: dict[str, dict[str, float]] = {"gradient": {}, "buffer": {}}
    for text, change in by_text.items():
        kind, slash, name = text.partition("/")
        if slash:
            groups[kind][name] = change
    loss, norm = by_text.get("loss", 0.0), by_text.get("gradient norm", 0.0)
    return StepSensitivity(loss, norm, groups["gradient"], groups["buffer"])
