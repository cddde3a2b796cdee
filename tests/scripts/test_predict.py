"""`scripts/predict.py` from command line to pictures."""

from __future__ import annotations

import signal

import numpy as np
import pytest
from PIL import Image

from factseg_paddle.data.images.files import read_image, write_png
from factseg_paddle.engine import prediction as run_prediction
from factseg_paddle.engine import restore
from factseg_paddle.engine.weights import load_weights
from factseg_paddle.inference.predictor import network_predictor
from tests.factseg_paddle.engine.tiny import seeded
from tests.factseg_paddle.inference import naive
from tests.scripts import small


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    return small.make_sample(tmp_path_factory.mktemp("sample"))


@pytest.fixture
def given(tmp_path, sample, monkeypatch):
    """Arguments for a configuration, small weights and an output folder."""
    monkeypatch.setattr(restore, "build_model", small.network)
    config = small.write_config(tmp_path / "c.yml", sample)
    weights = small.write_weights(tmp_path / "w.pdparams")
    return ("--config", config, "--weights", weights, "--output", tmp_path / "out")


def run(*options):
    from scripts.predict import main

    return main([str(option) for option in options])


def test_a_folder_with_masks(given, sample, tmp_path, capsys):
    images, masks = sample / "val/images/images", sample / "val/masks/images"
    assert run(*given, "--input", images, "--masks", masks) == 0
    names = sorted(path.name for path in images.iterdir())
    for kind in ("index", "color", "overlay", "error"):
        assert sorted(p.name for p in (tmp_path / "out" / kind).iterdir()) == names
    net = seeded(0, num_classes=16)
    load_weights(net, tmp_path / "w.pdparams")
    exact = naive.probabilities(
        read_image(images / names[0]), network_predictor(net), size=64, stride=48
    )
    with Image.open(tmp_path / "out/index" / names[0]) as index:
        assert naive.same_classes(np.asarray(index), exact)
    printed = capsys.readouterr()
    assert printed.out.splitlines()[-1] == f"2 of 2 images predicted: {tmp_path / 'out'}"
    assert printed.out.startswith(f"{names[0]}: ")
    assert " %" in printed.out.splitlines()[0]
    assert "4/4" in printed.err


def test_some_failed_is_1_and_none_is_2(given, sample, tmp_path, capsys):
    folder = tmp_path / "photos"
    folder.mkdir()
    write_png(folder / "good.png", read_image(next((sample / "val/images/images").iterdir())))
    (folder / "bad.jpg").write_bytes(b"\xff\xd8 no more")
    assert run(*given, "--input", folder) == 1
    printed = capsys.readouterr()
    assert f"failed: image {folder / 'bad.jpg'} " in printed.err
    assert "Traceback" not in printed.err
    assert "1 of 2 images predicted" in printed.out
    (folder / "good.png").unlink()
    assert run(*given, "--input", folder) == 2
    assert "0 of 1 images predicted" in capsys.readouterr().out


def test_without_a_configuration_the_published_one_is_taken(sample, tmp_path, capsys, monkeypatch):
    built = []

    def build(model, classes):
        built.append((model.name, classes))
        return seeded(3, num_classes=classes)

    monkeypatch.setattr(restore, "build_model", build)
    image = next((sample / "val/images/images").iterdir())
    for classes in (16, 3):
        (tmp_path / str(classes)).mkdir()
        weights = small.write_weights(tmp_path / f"{classes}/w.pdparams", num_classes=classes)
        out = tmp_path / f"out{classes}"
        assert run("--weights", weights, "--input", image, "--output", out) == 0
        printed = capsys.readouterr()
        assert f"the published recipe's with {classes} classes" in printed.err
        with Image.open(out / f"index/{image.name}") as index:
            assert np.asarray(index).max() < classes
    assert built == [("factseg_resnet50", 16), ("factseg_resnet50", 3)]


def test_what_it_can_not_start_with_is_one_sentence(given, sample, tmp_path, capsys):
    image = next((sample / "val/images/images").iterdir())
    empty = tmp_path / "empty"
    empty.mkdir()
    damaged = tmp_path / "run"
    damaged.mkdir()
    small.write_weights(damaged / "model.pdparams")
    (damaged / "state.json").write_text("{")
    foreign = tmp_path / "resnet.pdparams"
    small.save_pdparams(foreign, {"conv1.weight": np.zeros((2, 3), np.float32)})
    for options, name in (
        ((*given, "--input", tmp_path / "nowhere"), "nowhere does not exist"),
        ((*given, "--input", empty), "holds no image"),
        ((*given, "--input", image, "--masks", tmp_path / "m"), "m is no folder"),
        ((*given, "--input", image, "--opts", "eval.stride=0"), "eval.stride"),
        ((*given, "--input", image, "--device", "tpu"), "tpu"),
        (("--input", image, "--weights", damaged), "state.json is damaged"),
        (("--input", image, "--weights", foreign), "no FactSeg checkpoint"),
    ):
        assert run(*options) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1
        assert lines[0].startswith("predict.py: ")
        assert name in lines[0]
    assert not (tmp_path / "out").exists()


def test_told_to_stop_it_leaves_no_half_written_picture(given, sample, tmp_path, monkeypatch):
    calls = []

    def stopping(network):
        predict = network_predictor(network)

        def stop(images):
            calls.append(1)
            if len(calls) == 6:
                signal.raise_signal(signal.SIGTERM)
            return predict(images)

        return stop

    monkeypatch.setattr(run_prediction, "network_predictor", stopping)
    assert run(*given, "--input", sample / "val/images/images") == 143
    left = [p.name for p in (tmp_path / "out").rglob("*") if p.is_file()]
    assert len(left) == 3
    assert len(set(left)) == 1


def test_it_runs_where_torch_can_not_be_imported(given, sample):
    done = small.without(
        "torch",
        "scripts.predict",
        *given,
        *("--input", sample / "val/images/images"),
        setup=small.WITH_SMALL_NETWORK,
    )
    assert done.returncode == 0, done.stderr
    assert "2 of 2 images predicted" in done.stdout


def test_without_paddle_it_is_one_sentence(given, sample):
    done = small.without("paddle", "scripts.predict", *given, "--input", sample)
    assert done.returncode == 2
    assert done.stderr.startswith("predict.py: paddle is not installed here; install")
    assert len(done.stderr.strip().splitlines()) == 1


def test_sigterm_from_outside_leaves_no_half_written_picture(given, sample, tmp_path):
    options = (*given, "--input", sample / "val/images/images")
    status, said = small.stopped_in_the_middle("scripts.predict", tmp_path / "out/index", *options)
    assert status == 143, said
    assert "predict.py: stopped by SIGTERM" in said
    assert not [path for path in (tmp_path / "out").rglob(".*") if path.is_file()]
