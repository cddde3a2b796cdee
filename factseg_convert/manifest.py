"""`OUTPUT.manifest.json`: what a converted file was made of, and what its format can't hold.

Per tensor it has both names, shape, dtype and the SHA-256 of its bytes in the output. The way back
reads the rest from it: the form of the source file, the order of its tensors and torch's
`num_batches_tracked`, provided that the converted file is still the one described.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from alignment.weights.checkpoint_files import PREFIX, WRAPPERS, Envelope, is_plain
from factseg_paddle.files import sha256_of_array, shown

_FORMAT = "factseg_paddle.weights/1"


@dataclass(frozen=True)
class TensorRecord:
    """One tensor: its names in the two files, and shape, dtype and hash as in the output.

    `paddle` is None for torch's `num_batches_tracked`, whose count is in `value`.
    """

    torch: str
    paddle: str | None
    shape: tuple[int, ...]
    dtype: str
    sha256: str
    value: int | None = None


@dataclass(frozen=True)
class Manifest:
    """Source and output by file name and SHA-256, the source's form, and every tensor in order.

    `optimizer` and `optimizer_sha256` are those of the `.pdopt` beside the output, or None.
    """

    source: str
    source_sha256: str
    output: str
    output_sha256: str
    model: str
    form: Envelope
    tensors: tuple[TensorRecord, ...]
    optimizer: str | None = None
    optimizer_sha256: str | None = None


def manifest_path(output: Path) -> Path:
    """Return where the manifest of a converted file lies: beside it, under its full name."""
    return output.with_name(output.name + ".manifest.json")


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Write the file in place, for callers that hold an `atomic_write`."""
    tensors = [
        {k: v for k, v in asdict(record).items() if k != "value" or v is not None}
        for record in manifest.tensors
    ]
    content = {
        "format": _FORMAT,
        "source": {"file": manifest.source, "sha256": manifest.source_sha256},
        "output": {"file": manifest.output, "sha256": manifest.output_sha256},
        "optimizer": {"file": manifest.optimizer, "sha256": manifest.optimizer_sha256},
        "model": manifest.model,
        "form": asdict(manifest.form),
        "tensors": tensors,
    }
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_manifest(output: Path, sha256: str) -> Manifest | str:
    """Return the manifest of a converted file with this `sha256`, or why there is none to use."""
    path = manifest_path(output)
    if not path.is_file():
        return f"there is no {path.name}"
    try:
        manifest = _parse(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        return f"{path.name} can't be read ({error.strerror})"
    except _DAMAGE as error:
        return f"{path.name} is damaged ({shown(str(error))})"
    if manifest.output_sha256 != sha256:
        return f"{path.name} describes other contents of {output.name}"
    return manifest


def dropped_entries(output: Path) -> tuple[str, ...]:
    """Return what the source of a converted file holds and the file does not, as its manifest says.

    The file may have changed since: the source holds it all the same.
    """
    try:
        manifest = _parse(json.loads(manifest_path(output).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return ()
    except _DAMAGE:  # nothing is known; the conversion itself says that the manifest is damaged
        return ()
    if manifest.optimizer and not output.with_name(manifest.optimizer).exists():
        return (*manifest.form.dropped, str(manifest.form.optimizer))
    return manifest.form.dropped


# What JSON of any other shape sets off in the reader below.
_DAMAGE = (ValueError, LookupError, TypeError, AttributeError, RecursionError)


def _parse(content: dict) -> Manifest:
    _require(content["format"] == _FORMAT, "format", content["format"])
    source, output = content["source"], content["output"]
    # Manifests of before the optimizer was converted have no such entry.
    optimizer = content.get("optimizer", {"file": None, "sha256": None})
    for key in ("file", "sha256"):
        _require(isinstance(optimizer[key], str | None), key, optimizer[key])
    return Manifest(
        source=_text(source, "file"),
        source_sha256=_text(source, "sha256"),
        output=_text(output, "file"),
        output_sha256=_text(output, "sha256"),
        model=_text(content, "model"),
        form=_form(content["form"]),
        tensors=tuple(_record(record) for record in content["tensors"]),
        optimizer=optimizer["file"],
        optimizer_sha256=optimizer["sha256"],
    )


def _form(content: dict) -> Envelope:
    wrapper, prefix = content["wrapper"], content["prefix"]
    others, dropped = content["others"], content["dropped"]
    _require(wrapper is None or wrapper in WRAPPERS, "wrapper", wrapper)
    _require(prefix in ("", PREFIX), "prefix", prefix)
    _require(isinstance(others, dict) and all(map(is_plain, others.values())), "others", others)
    _require(not others or (wrapper and wrapper not in others), "others", others)
    _require(isinstance(dropped, list), "dropped", dropped)
    _require(all(isinstance(name, str) for name in dropped), "dropped", dropped)
    optimizer, scheduler = content.get("optimizer"), content.get("scheduler")
    for key in (optimizer, scheduler):
        is_right = key is None or (wrapper and isinstance(key, str) and key not in others)
        _require(is_right, "optimizer's or scheduler's key", key)
    return Envelope(wrapper, prefix, others, tuple(dropped), optimizer, scheduler)


def _record(content: dict) -> TensorRecord:
    name, paddle, shape = _text(content, "torch"), content["paddle"], content["shape"]
    value, sha256 = content.get("value"), _text(content, "sha256")
    _require(paddle is None or isinstance(paddle, str), "paddle name", paddle)
    _require(isinstance(shape, list) and all(type(side) is int for side in shape), "shape", shape)
    if paddle is None:
        is_count = type(value) is int and value.bit_length() < 64
        if not is_count or sha256_of_array(np.array(value, np.int64)) != sha256:
            raise ValueError(f"the count {value!r} of {name} is not the one that was written")
    else:
        _require(value is None, "value", value)
    return TensorRecord(name, paddle, tuple(shape), _text(content, "dtype"), sha256, value)


def _text(content: dict, key: str) -> str:
    _require(isinstance(content[key], str), key, content[key])
    return content[key]


def _require(is_right: object, what: str, value: object) -> None:
    if not is_right:
        raise ValueError(f"its {what} is {value!r}")
