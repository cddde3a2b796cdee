"""Data parallel training: which process this is, and what the processes agree on.

Started by `python -m paddle.distributed.launch --nproc_per_node N scripts/train.py …`. Each process
computes the loss of its own samples; SOM chooses among these, as in the original's run on two
cards. Paddle's reducer takes the mean of the gradients.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import paddle
from paddle import distributed, nn


@dataclass(frozen=True)
class Processes:
    """This process among all.

    Attributes:
        rank: its number.
        count: how many there are; 1 without data parallel training.
    """

    rank: int = 0
    count: int = 1

    @classmethod
    def join(cls) -> Processes:
        """Join the others where a launcher started several; a process alone needs nothing."""
        if distributed.ParallelEnv().world_size > 1:
            distributed.init_parallel_env()
        return cls(distributed.get_rank(), distributed.get_world_size())

    @property
    def is_first(self) -> bool:
        """Return whether this is the process that writes files and logs."""
        return self.rank == 0

    def wrap(self, model: nn.Layer) -> nn.Layer:
        """Wrap the model so that backward takes the mean of the gradients over all processes.

        On a GPU its BatchNorm sees the samples of all processes; Paddle has that for no CPU.
        """
        if self.count == 1:
            return model
        if paddle.device.get_device().startswith("gpu"):
            synchronise_batch_norm(model)
        return paddle.DataParallel(model)

    def share_of(self, batch_size: int) -> int:
        """Return this process's part of a batch.

        Raises:
            ValueError: it can't be divided.
        """
        if batch_size % self.count:
            raise ValueError(
                f"train.batch_size {batch_size} is the total and does not divide by "
                f"{self.count} processes; use a multiple"
            )
        return batch_size // self.count

    def mean(self, value: float) -> float:
        """Return the mean of all processes' values."""
        return float(self.total(np.array([value]))[0]) / self.count if self.count > 1 else value

    def total(self, array: np.ndarray) -> np.ndarray:
        """Return the sum over all processes, exact for int64."""
        if self.count == 1:
            return array
        tensor = paddle.to_tensor(array)
        distributed.all_reduce(tensor)
        return tensor.numpy()

    def largest(self, value: int) -> int:
        """Return the largest of all processes' values."""
        if self.count == 1:
            return value
        tensor = paddle.to_tensor([value], "int64")
        distributed.all_reduce(tensor, distributed.ReduceOp.MAX)
        return int(tensor)

    def share_buffers(self, model: nn.Layer) -> None:
        """Give every process the first one's running statistics, which saw other samples.

        Paddle counts them among the parameters; what does not learn is a buffer here.
        """
        if self.count == 1:
            return
        with paddle.no_grad():
            for tensor in model.state_dict().values():
                if tensor.stop_gradient:
                    distributed.broadcast(tensor, src=0)


def synchronise_batch_norm(model: nn.Layer) -> None:
    """Let each BatchNorm that learns see the samples of all processes, in place.

    A frozen one stays as it is: Paddle's SyncBatchNorm would forget that it is (3.3.1).
    """
    for parent in model.sublayers(include_self=True):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2D) and not child._use_global_stats:
                parent.add_sublayer(name, nn.SyncBatchNorm.convert_sync_batchnorm(child))
