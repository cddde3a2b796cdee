"""What each of several processes does in test_parallel.py: steps on its half of each batch."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import paddle

from factseg_paddle.config.schema import Amp, Optimizer
from factseg_paddle.engine.build import build_optimizer
from factseg_paddle.engine.schedule import Schedule
from factseg_paddle.engine.training.parallel import Processes
from factseg_paddle.engine.training.step import TrainStep, build_scaler
from factseg_paddle.losses import JointLoss
from factseg_paddle.metrics import confusion_matrix
from tests.factseg_paddle.engine.tiny import TinyNet

SAMPLES = 4


def whole_batch(step: int, *, ignored: bool):
    """Images [4, 3, 8, 8] and labels [4, 8, 8], of which the ignored pixels are unevenly spread."""
    rng = np.random.default_rng(step)
    images = rng.normal(size=(SAMPLES, 3, 8, 8)).astype(np.float32)
    labels = rng.integers(0, 3, (SAMPLES, 8, 8))
    if ignored:
        labels[0, :5] = 255
    return images, labels


def network(*, frozen: bool):
    """The same in every process; with BatchNorm frozen where asked for."""
    paddle.seed(3)
    net = TinyNet()
    if frozen:
        net.body[1].eval()
    return net


class GradientsKept:
    """An optimizer that notes the gradients it is given."""

    def __init__(self, optimizer):
        self._optimizer, self.seen = optimizer, []

    def __getattr__(self, name):
        return getattr(self._optimizer, name)

    def step(self):
        self.seen.append([p.grad.numpy() for p in self._optimizer._parameter_list])
        self._optimizer.step()


def run(folder: Path, sampling: str, *, frozen: bool) -> None:
    """Three steps; leaves gradients of the first one, parameters, buffers and merged counts."""
    processes = Processes.join()
    net = network(frozen=frozen)
    settings = Optimizer(learning_rate=0.1)
    schedule = Schedule(settings, 10)
    optimizer = GradientsKept(build_optimizer(net, settings, schedule))
    step = TrainStep(
        processes.wrap(net),
        JointLoss(sampling=sampling, ratio=0.3),
        optimizer,
        schedule,
        scaler=build_scaler(Amp(), None),
        level=None,
        clip_norm=None,
    )
    share = processes.share_of(SAMPLES)
    mine = slice(processes.rank * share, (processes.rank + 1) * share)
    losses = []
    for number in range(3):
        images, labels = whole_batch(number, ignored=sampling == "som")
        result = step(paddle.to_tensor(images[mine]), paddle.to_tensor(labels[mine]))
        losses.append(processes.mean(result.loss))
    before = {f"own/{name}": tensor.numpy() for name, tensor in net.state_dict().items()}
    processes.share_buffers(net)
    after = {f"shared/{name}": tensor.numpy() for name, tensor in net.state_dict().items()}
    labels = whole_batch(7, ignored=True)[1]
    counts = confusion_matrix(labels[mine], np.roll(labels, 1)[mine] % 3, 3)
    huge = np.array([2**53 + 1 + processes.rank], np.int64)  # float64 would lose the last digit
    np.savez(
        folder / f"rank{processes.rank}.npz",
        losses=losses,
        counts=processes.total(counts),
        huge=processes.total(huge),
        largest=processes.largest(processes.rank * 15),
        **{f"gradient/{i}": array for i, array in enumerate(optimizer.seen[0])},
        **before,
        **after,
    )


if __name__ == "__main__":
    run(Path(sys.argv[1]), sys.argv[2], frozen=sys.argv[3] == "frozen")
