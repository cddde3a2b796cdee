"""A checkpoint is gone on from by its own run alone; what changes no step may differ."""

from __future__ import annotations

import pytest

from factseg_paddle.config.loading import as_plain, make_config
from factseg_paddle.config.same_run import deciding_values, differences
from factseg_paddle.config.schema import Config
from factseg_paddle.engine.training.checkpoint import TrainState
from factseg_paddle.engine.training.resume import check_same_run
from factseg_paddle.io import CheckpointError

FOLDER = {
    "kind": "folder",
    "dataset_root": "a",
    "train": {"image_dir": "train"},
    "val": {"image_dir": "val", "mask_dir": "masks"},
    "num_classes": 3,
    "class_names": ["ground", "road", "roof"],
}
VALUES = {"seed": 1, "data": FOLDER, "train": {"iters": 9, "log_iters": 5}}


def merged(values: dict, change: dict) -> dict:
    both = {
        key: merged(values.get(key, {}), change[key])
        for key in change
        if isinstance(change[key], dict)
    }
    return values | change | both


def check(change: dict, samples: int = 7, values: dict = VALUES) -> None:
    config = make_config(merged(values, change), "test")
    check_same_run(TrainState(2, 7, as_plain(make_config(values, "test"))), config, samples)


@pytest.mark.parametrize(
    "change",
    [
        {"data": {"val": {"image_dir": "other", "mask_dir": None}}},
        {"data": {"val": None}},
        {"data": {"class_names": ["ground", "street", "roof"]}},
        {"data": {"class_names": None}},
    ],
)
def test_resume_was_refused_when_only_the_validation_data_or_class_names_change(change):
    check(change)


@pytest.mark.parametrize(
    "change",
    [
        {"device": "cpu"},
        {"data": {"dataset_root": "b", "cache_mb": 0}},
        {"model": {"gradient_checkpointing": True, "pretrained": "x.pdparams"}},
        {"train": {"log_iters": 7, "save_dir": "c", "num_workers": 0, "keep": 1, "do_eval": True}},
        {"eval": {"patch_size": 64, "stride": 64}},
    ],
)
def test_what_changes_no_step_may_differ(change):
    check(change)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"seed": 2}, "seed was 1, is 2"),
        ({"data": {"stride": 32}}, "data.stride was 512, is 32"),
        ({"data": {"train": {"image_dir": "b"}}}, "data.train.image_dir was 'train', is 'b'"),
        ({"data": {"palette": [[0, 0, 0], [1, 1, 1], [2, 2, 2]]}}, "data.palette was None, is"),
        (
            {"model": {"name": "farseg_resnet50"}},
            "model.name was 'factseg_resnet50', is 'farseg_re",
        ),
        ({"model": {"options": {"output_stride": 8}}}, "output_stride was 'absent', is 8"),
        ({"train": {"iters": 8}}, "train.iters was 9, is 8"),
        ({"train": {"amp": {"level": "O2"}}}, "train.amp.level was None, is 'O2'"),
    ],
)
def test_another_run_is_refused_with_what_differs(change, sentence):
    with pytest.raises(CheckpointError, match=sentence):
        check(change)


def test_other_number_of_patches_is_refused():
    with pytest.raises(CheckpointError, match="the data had 7 patches, have 8"):
        check({}, samples=8)


def test_validation_list_of_voc_may_change_and_that_of_training_may_not():
    values = {"data": {"kind": "voc", "num_classes": 21, "voc": {}}}
    check({"data": {"voc": {"val": "trainval", "voc_dir": "b"}}}, values=values)
    with pytest.raises(CheckpointError, match=r"data\.voc\.train was 'trainaug', is 'train'"):
        check({"data": {"voc": {"train": "train"}}}, values=values)


def test_run_of_an_older_program_goes_on():
    """It knew fewer keys; what it did was their defaults."""
    now = as_plain(Config())
    older = {**now, "optimizer": {"learning_rate": 0.007, "power": 0.9}}
    older["data"] = {key: value for key, value in now["data"].items() if key != "voc"}
    older["model"] = {"name": "factseg", "backbone": "resnet50", "output_stride": 32}
    check_same_run(TrainState(2, 7, older), Config(), 7)
    cosine = make_config({"optimizer": {"schedule": "cosine", "power": 0.9}}, "test")
    with pytest.raises(CheckpointError, match=r"optimizer\.schedule was 'poly', is 'cosine'"):
        check_same_run(TrainState(2, 7, older), cosine, 7)


def test_keys_of_a_newer_program_are_refused():
    newer = as_plain(Config()) | {"colour": "red"}
    with pytest.raises(
        ValueError, match="the configuration in the checkpoint: colour is not known"
    ):
        check_same_run(TrainState(2, 7, newer), Config(), 7)


def test_an_unmarked_key_decides():
    """So a key that is added and not thought of makes resuming stricter, never wrong."""
    keys = deciding_values(Config()).keys()
    assert {"seed", "data.kind", "loss.ratio", "optimizer.gamma", "train.batch_size"} <= keys
    assert not {key for key in keys if key.startswith(("eval", "device", "data.val"))}
    assert {key for key in keys if key.startswith("train.")} == {
        "train.iters", "train.batch_size", "train.amp.level", "train.amp.init_loss_scaling",
        "train.amp.growth_interval",
    }  # fmt: skip
    assert differences(Config(), Config()) == []
