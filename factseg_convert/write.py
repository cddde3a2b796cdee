"""Third stage of a conversion: write the planned files, under temporary names until they are seen.

The weights, the `.pdopt` and the manifest get their names together or not at all.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignment.weights.checkpoint_files import dtype_name
from alignment.weights.models import torch_of_array
from alignment.weights.torch_files import write_torch_file
from factseg_convert.manifest import Manifest, TensorRecord, manifest_path, write_manifest
from factseg_convert.plan import Plan, PlannedTensor
from factseg_paddle.files import atomic_write_all, sha256_of_array, sha256_of_file
from factseg_paddle.io import write_pdparams


@dataclass(frozen=True)
class Written:
    """The files of a plan under their temporary names; `pdopt` is None without an optimizer's."""

    plan: Plan
    weights: Path
    pdopt: Path | None


@contextmanager
def written(plan: Plan) -> Iterator[Written]:
    """Write the files of a plan; they get their names when the block ends well, or are removed.

    Raises:
        OSError: A file can't be written.
    """
    pdopts = [plan.pdopt] if plan.pdopt else []
    paths = [manifest_path(plan.output), *pdopts, plan.output]
    with atomic_write_all(*paths) as (manifest, *pdopt_files, weights):
        _write_weights(weights, plan)
        for pdopt in pdopt_files:
            write_pdparams(pdopt, plan.optimizer.paddle)
        files = Written(plan, weights, pdopt_files[0] if pdopt_files else None)
        write_manifest(manifest, _manifest(files))
        yield files


def _write_weights(path: Path, plan: Plan) -> None:
    envelope = plan.envelope
    named = [(tensor.name(plan.to), tensor.array) for tensor in plan.tensors]
    state = {envelope.prefix + name: array for name, array in named if name}
    if plan.to == "paddle":
        write_pdparams(
            path, {envelope.wrapper: state, **envelope.others} if envelope.wrapper else state
        )
        return
    tensors = OrderedDict((name, torch_of_array(array)) for name, array in state.items())
    write_torch_file(path, _torch_content(tensors, plan) if envelope.wrapper else tensors)


def _torch_content(tensors: OrderedDict, plan: Plan) -> dict[Any, Any]:
    """Return what is around the tensors: the optimizer, other values and the scheduler."""
    envelope, optimizer = plan.envelope, plan.optimizer
    content: dict[Any, Any] = {envelope.wrapper: tensors}
    if optimizer.torch is not None:
        content[envelope.optimizer] = optimizer.torch
    content |= {key: value for key, value in envelope.others.items() if key not in content}
    if optimizer.torch_scheduler is not None:
        content[envelope.scheduler] = optimizer.torch_scheduler
    return content


def _manifest(files: Written) -> Manifest:
    plan = files.plan
    ours, theirs = plan.envelope.prefix, plan.source_envelope.prefix
    prefixes = (theirs, ours) if plan.to == "paddle" else (ours, theirs)
    return Manifest(
        source=plan.source.path.name,
        source_sha256=plan.source.sha256,
        output=plan.output.name,
        output_sha256=sha256_of_file(files.weights),
        model=str(plan.variant),
        form=plan.source_envelope,
        tensors=tuple(_record(tensor, *prefixes) for tensor in plan.tensors),
        optimizer=plan.pdopt and plan.pdopt.name,
        optimizer_sha256=sha256_of_file(files.pdopt) if files.pdopt else None,
    )


def _record(tensor: PlannedTensor, torch_prefix: str, paddle_prefix: str) -> TensorRecord:
    spec, array = tensor.spec, tensor.array
    return TensorRecord(
        torch=torch_prefix + spec.torch_name,
        paddle=spec.paddle_name and paddle_prefix + spec.paddle_name,
        shape=array.shape,
        dtype=dtype_name(array),
        sha256=sha256_of_array(array),
        value=None if spec.paddle_name else int(array),
    )
