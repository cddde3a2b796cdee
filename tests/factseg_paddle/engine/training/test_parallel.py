"""Data parallel training with two processes on a CPU."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import paddle
import pytest
from paddle import nn

from factseg_paddle.config.schema import Model
from factseg_paddle.engine.build import build_model
from factseg_paddle.engine.training.parallel import Processes, synchronise_batch_norm
from factseg_paddle.losses import JointLoss
from factseg_paddle.metrics import confusion_matrix
from tests.factseg_paddle.engine.training.parallel_worker import SAMPLES, network, whole_batch
from tests.paths import REPO


def launched(folder, *arguments):
    """What the two processes left."""
    command = [sys.executable, "-m", "paddle.distributed.launch", "--nproc_per_node", "2"]
    command += [
        "--log_dir",
        str(folder / "log"),
        str(REPO / "tests/factseg_paddle/engine/training/parallel_worker.py"),
    ]
    done = subprocess.run(
        [*command, str(folder), *arguments],
        cwd=REPO,
        env=os.environ | {"PYTHONPATH": str(REPO)},
        capture_output=True,
        text=True,
        check=False,
    )
    logs = "\n".join(path.read_text()[-2000:] for path in (folder / "log").glob("workerlog.*"))
    assert done.returncode == 0, done.stderr[-2000:] + logs
    return [dict(np.load(folder / f"rank{rank}.npz")) for rank in range(2)]


@pytest.fixture(scope="module")
def som(tmp_path_factory):
    return launched(tmp_path_factory.mktemp("som"), "som", "training")


@pytest.fixture(scope="module")
def mean(tmp_path_factory):
    return launched(tmp_path_factory.mktemp("mean"), "mean", "frozen")


def gradients(net, loss):
    loss.backward()
    return [p.grad.numpy() for p in net.parameters() if not p.stop_gradient]


def close(found, expected):
    for index, gradient in enumerate(expected):
        np.testing.assert_allclose(found[f"gradient/{index}"], gradient, rtol=2e-5, atol=1e-7)
    assert f"gradient/{len(expected)}" not in found


def test_parameters_are_equal_in_all_processes(som):
    names = [name for name in som[0] if name.startswith("own/")]
    learned = [name for name in names if not name.endswith(("_mean", "_variance"))]
    for name in learned:
        np.testing.assert_array_equal(som[0][name], som[1][name], err_msg=name)
    assert len(learned) == 8


def test_buffers_are_the_first_processes_once_shared(som):
    own, shared = "own/body.1._mean", "shared/body.1._mean"
    assert (som[0][own] != som[1][own]).any(), "each saw other samples"
    for values in som:
        np.testing.assert_array_equal(values[shared], som[0][own])


def test_first_gradient_is_that_of_the_mean_of_the_processes_losses(som):
    """SOM chooses among each process's own pixels, as in the original's run on two cards."""
    net, criterion = network(frozen=False), JointLoss(sampling="som", ratio=0.3)
    images, labels = whole_batch(0, ignored=True)
    parts = [slice(0, SAMPLES // 2), slice(SAMPLES // 2, None)]
    loss = sum(
        criterion(*net(paddle.to_tensor(images[part])), paddle.to_tensor(labels[part]))
        for part in parts
    )
    close(som[0], gradients(net, loss / 2))
    assert som[0]["losses"][0] == pytest.approx(float(loss) / 2, rel=1e-6)


def test_som_over_the_whole_batch_would_be_another_gradient(som):
    """Or the test above could not fail."""
    net = network(frozen=False)
    images, labels = whole_batch(0, ignored=True)
    loss = JointLoss(sampling="som", ratio=0.3)(
        *net(paddle.to_tensor(images)), paddle.to_tensor(labels)
    )
    with pytest.raises(AssertionError):
        close(som[0], gradients(net, loss))


def test_mean_without_ignored_pixels_is_the_whole_batch(mean):
    net = network(frozen=True)
    images, labels = whole_batch(0, ignored=False)
    loss = JointLoss(sampling="mean")(*net(paddle.to_tensor(images)), paddle.to_tensor(labels))
    close(mean[0], gradients(net, loss))


def test_counts_are_merged_exactly(som):
    labels = whole_batch(7, ignored=True)[1]
    expected = confusion_matrix(labels, np.roll(labels, 1) % 3, 3)
    for values in som:
        np.testing.assert_array_equal(values["counts"], expected)
        assert int(values["huge"][0]) == 2**54 + 3
        assert int(values["largest"]) == 15


def test_batch_that_can_not_be_divided_is_refused():
    with pytest.raises(ValueError, match=r"batch_size 7 is the total and does not divide by 2"):
        Processes(0, 2).share_of(7)


def test_frozen_batch_norm_stays_frozen_when_processes_share_theirs():
    """Paddle's conversion forgets `_use_global_stats` (3.3.1)."""
    settings = Model(name="factseg_resnet18", options={"frozen_batch_norm": True})
    network = build_model(settings, 3)
    parameters = {name: id(p) for name, p in network.named_parameters()}

    def kinds():
        layers = [
            x for x in network.sublayers() if isinstance(x, nn.BatchNorm2D | nn.SyncBatchNorm)
        ]
        return [(type(x).__name__, bool(x._use_global_stats)) for x in layers]

    before = kinds()
    synchronise_batch_norm(network)
    frozen = [kind for kind in before if kind[1]]
    assert [kind for kind in kinds() if kind[1]] == frozen
    assert len(frozen) == 20
    others = [name for name, is_frozen in kinds() if not is_frozen]
    assert set(others) == {"SyncBatchNorm"}
    assert {name: id(p) for name, p in network.named_parameters()} == parameters
