"""Last stage of a conversion: read the written files back and hold them to source and plan."""

from __future__ import annotations

from alignment.weights.checkpoint_files import Checkpoint, read_checkpoint
from factseg_convert.equality import same
from factseg_convert.plan import Plan
from factseg_convert.write import Written
from factseg_paddle.io import CheckpointError, load_plain


def verify(files: Written) -> None:
    """Read each file once and see that it is the source, bit by bit.

    Raises:
        CheckpointError: A file does not hold what was written to it.
        OSError: A file can't be read.
    """
    plan = files.plan
    written = read_checkpoint(files.weights, plan.to)
    _verify_tensors(written, plan)
    optimizer, envelope = plan.optimizer, plan.envelope
    if optimizer.torch is not None:
        expected = {envelope.optimizer: optimizer.torch}
        if envelope.scheduler:
            expected[envelope.scheduler] = optimizer.torch_scheduler
        extras = {key: written.extras.get(key) for key in expected}
        if not same(extras, expected):
            raise _optimizer_differs(files.weights)
    del written  # its memory is free before the next file is read
    if files.pdopt and not same(load_plain(files.pdopt), optimizer.paddle):
        raise _optimizer_differs(files.pdopt)


def _verify_tensors(written: Checkpoint, plan: Plan) -> None:
    expected = [tensor.name(plan.to) for tensor in plan.tensors if tensor.name(plan.to)]
    if list(written.state) != expected:
        raise CheckpointError(f"{written.path} does not hold the names that were written to it")
    source = plan.source.checkpoint
    for tensor in plan.tensors:
        here, there = tensor.name(source.side), tensor.name(plan.to)
        if here and there:
            back = tensor.spec.to_torch if plan.to == "paddle" else tensor.spec.to_paddle
            if not same(back(written.state[there]), source.state[here]):
                raise CheckpointError(
                    f"{written.path} does not hold {there} as it was written to it"
                )


def _optimizer_differs(path: object) -> CheckpointError:
    return CheckpointError(f"{path} does not hold the optimizer as it was written to it")
