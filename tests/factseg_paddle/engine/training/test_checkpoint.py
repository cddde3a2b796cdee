"""Checkpoints: exact, complete or absent, refused when they are damaged or of another run."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import paddle
import pytest

from factseg_paddle.config.schema import Optimizer
from factseg_paddle.engine.build import build_optimizer
from factseg_paddle.engine.schedule import Schedule
from factseg_paddle.engine.training import checkpoint as checkpoints
from factseg_paddle.engine.training.checkpoint import Best, TrainState
from factseg_paddle.io import CheckpointError, load_plain
from factseg_paddle.losses import JointLoss
from tests.factseg_paddle.engine.tiny import batch, seeded
from tests.paths import REPO


def trained(steps: int = 2, seed: int = 0, settings: Optimizer | None = None, **options):
    """A network and its optimizer after some steps."""
    net = seeded(seed, **options)
    net.backbone_layers = lambda: {"conv1": net.body[0]}
    settings = settings or Optimizer(learning_rate=0.1)
    schedule = Schedule(settings, 10)
    optimizer = build_optimizer(net, settings, schedule)
    for step in range(steps):
        JointLoss(sampling="mean")(*net(batch(step)[0]), batch(step)[1]).backward()
        optimizer.step()
        optimizer.clear_grad()
        schedule.step()
    return net, optimizer


def state(iteration: int = 2, **changes) -> TrainState:
    return TrainState(iteration, 7, {"seed": 1, "train": {"iters": 9}}, **changes)


def go_on(net, optimizer):
    """The weights after one more step."""
    JointLoss(sampling="mean")(*net(batch(9)[0]), batch(9)[1]).backward()
    optimizer.step()
    optimizer.clear_grad()
    return {name: tensor.numpy() for name, tensor in net.state_dict().items()}


SETTINGS = {
    "momentum": Optimizer(learning_rate=0.1),
    "adam and cosine": Optimizer(kind="adam", schedule="cosine", warmup_iters=3),
    "steps": Optimizer(schedule="step", milestones=[1, 3, 6]),
    "fast heads": Optimizer(kind="adam", head_lr_factor=10.0),
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_comes_back_to_the_bit_into_a_poisoned_network(tmp_path, settings):
    net, optimizer = trained(settings=settings)
    written = state(
        3,  # one of them skipped
        scaler={"scale": [512.0], "incr_count": 3},
        losses=[0.1, 1 / 3],
        skipped=1,
        best=Best(1, 0.5),
    )
    folder = checkpoints.save_checkpoint(tmp_path, net, optimizer, written)
    # Other weights, other momentum, another place in the schedule: a load that does nothing shows.
    other, poisoned = trained(steps=5, seed=8, settings=settings)
    assert poisoned.get_lr() != optimizer.get_lr()
    assert checkpoints.load_checkpoint(folder, other, poisoned) == written
    assert poisoned.get_lr() == optimizer.get_lr()
    expected = go_on(net, optimizer)
    for name, value in go_on(other, poisoned).items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


def test_plain_paddle_load_reads_the_weights(tmp_path):
    net, optimizer = trained()
    folder = checkpoints.save_checkpoint(tmp_path, net, optimizer, state())
    loaded = paddle.load(str(folder / "model.pdparams"))
    assert loaded.keys() == net.state_dict().keys()
    assert sorted(p.name for p in folder.iterdir()) == [
        "model.pdparams",
        "optimizer.pdopt",
        "state.json",
    ]


def cut(path):
    path.write_bytes(path.read_bytes()[:-20])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def unlink(path):
    path.unlink()


def other_format(path):
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))


def without_key(path):
    content = json.loads(path.read_text())
    del content["iteration"]
    path.write_text(json.dumps(content))


def other_iteration(path):
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"iteration": content["iteration"] - 1}))


def other_loss(path):
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"losses": [1000.0]}))


def no_hashes(path):
    path.write_text(json.dumps(json.loads(path.read_text()) | {"sha256": []}))


def no_object(path):
    path.write_text("[1, 2]")


@pytest.mark.parametrize(
    ("file", "damage", "sentence"),
    [
        ("model.pdparams", cut, "model.pdparams is damaged or was changed"),
        ("model.pdparams", flip, "model.pdparams is damaged or was changed"),
        ("optimizer.pdopt", flip, "optimizer.pdopt is damaged or was changed"),
        ("optimizer.pdopt", unlink, "is incomplete: optimizer.pdopt is missing"),
        ("state.json", unlink, "is no checkpoint: it has no state.json"),
        ("state.json", cut, "state.json is damaged"),
        ("state.json", without_key, "state.json is damaged"),
        ("state.json", no_object, "state.json is damaged"),
        ("state.json", no_hashes, "state.json is damaged"),
        ("state.json", other_iteration, "state.json is damaged or was changed"),
        ("state.json", other_loss, "state.json is damaged or was changed"),
        ("state.json", other_format, "is of format 99; this program reads 1"),
    ],
)
def test_damage_is_refused_and_an_older_checkpoint_taken(tmp_path, file, damage, sentence):
    net, optimizer = trained()
    older = checkpoints.save_checkpoint(tmp_path, net, optimizer, state(2))
    newer = checkpoints.save_checkpoint(tmp_path, net, optimizer, state(4))
    assert checkpoints.newest_whole(tmp_path) == (newer, [])
    damage(newer / file)
    with pytest.raises(CheckpointError, match=sentence):
        checkpoints.load_checkpoint(newer, net, optimizer)
    found, reasons = checkpoints.newest_whole(tmp_path)
    assert found == older
    assert sentence in reasons[0]
    damage(older / file)
    with pytest.raises(CheckpointError, match=r"no checkpoint in .* is whole"):
        checkpoints.newest_whole(tmp_path)


def test_nothing_there_is_no_error(tmp_path):
    assert checkpoints.newest_whole(tmp_path / "absent") == (None, [])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"width": 5}, "have another shape"),
        ({"num_classes": 4}, "is of another run: 3 classes in the file, 4 here"),
    ],
)
def test_checkpoint_of_another_network_is_refused(tmp_path, options, sentence):
    folder = checkpoints.save_checkpoint(tmp_path, *trained(), state())
    with pytest.raises(CheckpointError, match=sentence):
        checkpoints.load_checkpoint(folder, *trained(**options))


def test_pruning_keeps_the_newest_and_the_best(tmp_path):
    net, optimizer = trained()
    for iteration in (0, 2, 10, 1_000_000):
        checkpoints.save_checkpoint(tmp_path, net, optimizer, state(iteration))
    removed = checkpoints.prune(tmp_path, 2, Best(0, 0.5))
    assert [folder.name for folder in removed] == ["iter_000002"]
    names = [folder.name for folder in checkpoints.checkpoints(tmp_path)]
    assert names == ["iter_1000000", "iter_000010", "iter_000000"]
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(names), "nothing hidden is left"


def test_best_model_leads_to_the_best(tmp_path):
    net, optimizer = trained()
    for iteration in (1, 2):
        folder = checkpoints.save_checkpoint(tmp_path, net, optimizer, state(iteration))
        checkpoints.point_at_best(tmp_path, folder)
    assert checkpoints.read_state(tmp_path / "best_model").iteration == 2
    checkpoints.point_at_best(tmp_path, None)
    assert not (tmp_path / "best_model").is_symlink()


def test_checkpoint_under_another_iterations_name_is_refused(tmp_path):
    folder = checkpoints.save_checkpoint(tmp_path, *trained(), state())
    with pytest.raises(CheckpointError, match="give it its name back, iter_000002"):
        checkpoints.read_state(folder.rename(tmp_path / "iter_000011"))
    folder = (tmp_path / "iter_000011").rename(tmp_path / "good")
    assert checkpoints.read_state(folder) == state()


def test_checkpoint_of_an_older_program_has_no_hash_of_its_state(tmp_path):
    folder = checkpoints.save_checkpoint(tmp_path, *trained(), state())
    content = json.loads((folder / "state.json").read_text())
    del content["sha256"]["state.json"]
    (folder / "state.json").write_text(json.dumps(content))
    assert checkpoints.read_state(folder) == state()


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    older = checkpoints.save_checkpoint(tmp_path, *trained(), state(1))
    net, optimizer = trained()
    bias = net.state_dict()["fg_cls.bias"]
    bias.set_value(np.full(bias.shape, np.inf, np.float32))
    with pytest.raises(CheckpointError, match=r"fg_cls\.bias has values that are not finite"):
        checkpoints.save_checkpoint(tmp_path, net, optimizer, state(2))
    assert list(tmp_path.iterdir()) == [older]


def test_evaluation_is_written_beside_the_same_weights(tmp_path):
    net, optimizer = trained()
    folder = checkpoints.save_checkpoint(tmp_path, net, optimizer, state(losses=[0.5]))
    before = (folder / "model.pdparams").stat()
    checkpoints.save_evaluation(folder, Best(2, 0.5), 2)
    assert (folder / "model.pdparams").stat() == before
    written = checkpoints.load_checkpoint(folder, net, optimizer)
    assert written == state(losses=[0.5], best=Best(2, 0.5), evaluated=2)


def test_kill_while_an_evaluation_is_written_leaves_the_checkpoint(tmp_path, monkeypatch):
    folder = checkpoints.save_checkpoint(tmp_path, *trained(), state())
    with monkeypatch.context() as killed:  # it neither renames nor tidies up
        killed.setattr(Path, "replace", Mock(side_effect=KeyboardInterrupt))
        killed.setattr(Path, "unlink", Mock())
        with pytest.raises(KeyboardInterrupt):
            checkpoints.save_evaluation(folder, Best(2, 0.5), 2)
    assert len(list(folder.iterdir())) == 4
    assert checkpoints.read_state(folder) == state()
    checkpoints.remove_leftovers(tmp_path)
    assert len(list(folder.iterdir())) == 3


def test_checkpoint_is_not_written_over(tmp_path):
    folder = checkpoints.save_checkpoint(tmp_path, *trained(seed=0), state())
    with pytest.raises(OSError, match="iter_000002"):
        checkpoints.save_checkpoint(tmp_path, *trained(seed=1), state())
    assert list(tmp_path.iterdir()) == [folder]
    assert checkpoints.newest_whole(tmp_path) == (folder, [])


def test_full_disk_leaves_the_old_checkpoint_and_nothing_else(tmp_path):
    """A limit on the size of files stands in for the full disk; Python reports both as OSError."""
    net, optimizer = trained()
    folder = checkpoints.save_checkpoint(tmp_path, net, optimizer, state())
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (512, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            checkpoints.save_checkpoint(tmp_path, net, optimizer, state())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == [folder]
    assert checkpoints.newest_whole(tmp_path) == (folder, [])


SAVING = """
import itertools, pathlib, sys
from factseg_paddle.engine.training import checkpoint as checkpoints
from tests.factseg_paddle.engine.training.test_checkpoint import state, trained
net, optimizer = trained(width=256)
for iteration in itertools.count():
    save_dir = pathlib.Path(sys.argv[1])
    folder = checkpoints.save_checkpoint(save_dir, net, optimizer, state(iteration))
    checkpoints.save_evaluation(folder, None, iteration)
    checkpoints.prune(save_dir, 1, None)
    print(iteration, flush=True)
"""


def killed_while_saving(folder, after: int, rng: random.Random) -> None:
    """Kill a process that saves all the time, somewhere in the save after the `after`-th."""
    process = subprocess.Popen(
        [sys.executable, "-c", SAVING, str(folder)],
        cwd=REPO,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    for _ in range(after):
        process.stdout.readline()
    # Not a fixed time: a few thousand rounds of nothing, so that the kill falls anywhere.
    for _ in range(rng.randrange(200_000)):
        pass
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.parametrize("after", [2, 5])
def test_kill_in_the_middle_of_a_save_leaves_a_whole_checkpoint(tmp_path, after):
    rng = random.Random(after)
    killed_while_saving(tmp_path, after, rng)
    found, reasons = checkpoints.newest_whole(tmp_path)
    assert found is not None
    assert not reasons, "a visible folder is whole"
    checkpoints.remove_leftovers(tmp_path)
    assert all(not path.name.startswith(".") for path in tmp_path.rglob("*"))


def test_checkpoint_after_skipped_steps_alone_can_be_loaded(tmp_path):
    """The optimizer has done no step then, whatever the iteration."""
    folder = checkpoints.save_checkpoint(tmp_path, *trained(0), state(2, skipped=2))
    assert load_plain(folder / "optimizer.pdopt")["step"] == 0
    assert checkpoints.load_checkpoint(folder, *trained(3)).iteration == 2
