"""The configuration that weights are restored with is the one that belongs to them."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from factseg_paddle.config.loading import ConfigError, as_plain, make_config, save_config
from factseg_paddle.engine import restore as restoring
from factseg_paddle.engine.restore import restore
from factseg_paddle.engine.weights import model_arrays
from factseg_paddle.files import sha256_of_file
from factseg_paddle.io import save_pdparams
from tests.factseg_paddle.engine.tiny import seeded

CLASSES = 5
OURS = {"kind": "folder", "val": {"image_dir": "."}, "num_classes": CLASSES, "stride": 64}


@pytest.fixture(autouse=True)
def small_network(monkeypatch):
    build = lambda _, classes: seeded(1, num_classes=classes)  # noqa: E731
    monkeypatch.setattr(restoring, "build_model", build)


def weights(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    save_pdparams(path, model_arrays(seeded(seed, num_classes=CLASSES)))
    return path


def config(stride):
    return make_config({"device": "cpu", "data": OURS | {"stride": stride}}, "test")


def checkpoint(folder, stride=64):
    """What training leaves, as far as it matters here."""
    file = weights(folder / "model.pdparams")
    content = {"config": as_plain(config(stride)), "sha256": {file.name: sha256_of_file(file)}}
    (folder / "state.json").write_text(json.dumps(content))
    return folder


def run_folder(path):
    checkpoint(path / "iter_000002", stride=96)
    (path / "best_model").symlink_to("iter_000002", target_is_directory=True)
    save_config(config(32), path / "config.yml")
    return path


@pytest.mark.parametrize(
    "given",
    ["iter_000002", "iter_000002/model.pdparams", "best_model", "best_model/model.pdparams"],
)
def test_checkpoint_has_its_own_configuration_not_that_of_the_folder_around_it(given, tmp_path):
    run = run_folder(tmp_path / "run")
    loaded = restore(run / given)
    assert loaded.config.data.stride == 96
    assert loaded.source == str(run / "iter_000002" / "state.json")
    assert loaded.sha256 == sha256_of_file(run / "iter_000002" / "model.pdparams")


def test_copy_of_the_best_model_keeps_its_configuration(tmp_path):
    run = run_folder(tmp_path / "run")
    copy = shutil.copytree(run / "best_model", tmp_path / "published")
    save_config(config(32), tmp_path / "config.yml")
    assert restore(copy).config.data.stride == 96


def test_checkpoint_without_its_state_has_the_configuration_of_its_run(tmp_path):
    run = run_folder(tmp_path / "run")
    (run / "iter_000002" / "state.json").unlink()
    for given in (run / "best_model", run / "iter_000002" / "model.pdparams"):
        assert restore(given).config.data.stride == 32


def test_folder_that_is_named_and_holds_both_is_a_unit(tmp_path):
    weights(tmp_path / "bundle" / "model.pdparams")
    save_config(config(32), tmp_path / "bundle" / "config.yml")
    assert restore(tmp_path / "bundle").source == str(tmp_path / "bundle" / "config.yml")


@pytest.mark.parametrize(
    "name", ["config.yml", "weights/config.yml", "weights/state.json", "weights/model.pdparams"]
)
def test_restore_took_any_configuration_that_lay_beside_a_plain_file(name, tmp_path):
    """That of another network's run, for instance, with another normalisation."""
    file = weights(tmp_path / "weights" / "best.pdparams")
    save_config(config(32), tmp_path / name)
    if name.endswith("model.pdparams"):
        (tmp_path / name).unlink()
        checkpoint(tmp_path / "weights")  # whose weights are others
        weights(tmp_path / "weights" / "best.pdparams", seed=7)
    with pytest.raises(ConfigError, match=r"belongs to .*best\.pdparams; .* with --config$"):
        restore(file)
    given = tmp_path / "given.yml"
    save_config(config(64), given)
    loaded = restore(file, config=given)
    assert (loaded.config.data.stride, loaded.source) == (64, str(given))


def test_weights_in_the_place_of_a_checkpoints_are_not_taken_for_them(tmp_path):
    folder = checkpoint(tmp_path / "iter_000002")
    weights(folder / "model.pdparams", seed=7)
    for given in (folder, folder / "model.pdparams"):
        with pytest.raises(ConfigError, match=r"is not what .*state\.json was written with: its h"):
            restore(given)


def test_plain_file_alone_has_the_published_recipe(tmp_path):
    loaded = restore(weights(tmp_path / "a" / "w.pdparams"), changes={"device": "cpu"})
    assert loaded.source == f"the published recipe's with {CLASSES} classes"
    tensors = loaded.network.state_dict()
    for name, array in model_arrays(seeded(0, num_classes=CLASSES)).items():
        np.testing.assert_array_equal(tensors[name].numpy(), array)
