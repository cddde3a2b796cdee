"""`OUTPUT.manifest.json`: what a converted file was made of, and what its format can't hold.

Per tensor it has both names, shape, dtype and the SHA-256 of its bytes in the output. The way back
reads the rest from it: the form of the source file, the order of its tensors and torch's
`num_batches_tracked`, provided that the converted file is still the one described.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from alignment.checkpoints import Form

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
    """Source and output by file name and SHA-256, the source's form, and every tensor in order."""

    source: str
    source_sha256: str
    output: str
    output_sha256: str
    model: str
    form: Form
    tensors: tuple[TensorRecord, ...]


def manifest_path(output: Path) -> Path:
    """Where the manifest of a converted file lies: beside it, under its full name."""
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
        "model": manifest.model,
        "form": asdict(manifest.form),
        "tensors": tensors,
    }
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_manifest(output: Path, sha256: str) -> Manifest | str:
    """The manifest of a converted file whose hash is now `sha256`, or why there is none to use."""
    path = manifest_path(output)
    if not path.is_file():
        return f"there is no {path.name}"
    try:
        manifest = _parse(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        return f"{path.name} is damaged ({error})"
    if manifest.output_sha256 != sha256:
        return f"{path.name} describes other contents of {output.name}"
    return manifest


def _parse(content: dict) -> Manifest:
    if content["format"] != _FORMAT:
        raise ValueError(f"its format is {content['format']!r}")
    form = content["form"]
    return Manifest(
        source=content["source"]["file"],
        source_sha256=content["source"]["sha256"],
        output=content["output"]["file"],
        output_sha256=content["output"]["sha256"],
        model=content["model"],
        form=Form(form["wrapper"], form["prefix"], form["others"], tuple(form["dropped"])),
        tensors=tuple(_record(record) for record in content["tensors"]),
    )


def _record(content: dict) -> TensorRecord:
    value = content.get("value")
    if value is not None and not (isinstance(value, int) and abs(value) < 2**63):
        raise ValueError(f"{content['torch']} counts {value!r}")
    return TensorRecord(**{**content, "shape": tuple(content["shape"])})
