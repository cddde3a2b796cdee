"""`scripts/evaluate.py` from command line to files."""

from __future__ import annotations

import json
import signal

import numpy as np
import pytest

from factseg_paddle.data import pairs
from factseg_paddle.data.open import open_pairs
from factseg_paddle.engine import restore
from factseg_paddle.engine.weights import load_weights
from factseg_paddle.files import sha256_of_file
from factseg_paddle.inference.predictor import network_predictor
from tests.factseg_paddle.engine.tiny import seeded
from tests.factseg_paddle.inference import naive
from tests.scripts import small


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    return small.make_sample(tmp_path_factory.mktemp("sample"))


@pytest.fixture
def files(tmp_path, sample, monkeypatch):
    """The configuration and the weights; the network is a small one."""
    monkeypatch.setattr(restore, "build_model", small.network)
    config = small.write_config(tmp_path / "c.yml", sample)
    return config, small.write_weights(tmp_path / "w.pdparams")


def run(*options):
    from scripts.evaluate import main

    return main([str(option) for option in options])


def counted(config, weights, **options):
    """The confusion matrix by the plain full-map computation."""
    net = seeded(0, num_classes=16)
    load_weights(net, weights)
    data = open_pairs(restore.load_config(config).data, "val")
    total = np.zeros((16, 16), int)
    predict = network_predictor(net)
    for index in range(len(data)):
        image, labels = data.read_image(index), data.read_labels(index)
        found = naive.probabilities(image, predict, size=64, stride=48, **options).argmax(axis=0)
        np.add.at(total, (labels.reshape(-1), found.reshape(-1)), 1)
    return total


def test_numbers_equal_the_naive_full_map(files, tmp_path, capsys):
    config, weights = files
    out = tmp_path / "out"
    assert run("--config", config, "--weights", weights, "--output", out) == 0
    content = json.loads((out / "metrics.json").read_text())
    expected = counted(config, weights)
    difference = np.abs(np.array(content["confusion_matrix"]) - expected).sum()
    assert difference <= 2  # a pixel at a tie moves from one cell to another
    assert expected.sum() == 2 * 96 * 96
    assert content["weights"]["sha256"] == sha256_of_file(weights)
    assert content["settings"] == {
        "patch_size": 64,
        "stride": 48,
        "batch_size": 1,
        "flip": False,
        "scales": [1.0],
    }
    printed = capsys.readouterr()
    assert "|  mIoU |" in printed.out
    assert f"mIoU {content['mean_iou']:.6f}" in printed.out
    assert f"2 images; details: {out}" in printed.out
    assert "evaluating: 100%" in printed.err
    assert "8/8" in printed.err
    assert sorted(p.name for p in out.iterdir()) == [
        "confusion_matrix.png",
        "metrics.json",
        "per_image",
        "per_image.csv",
        "predictions",
        "run.json",
        "worst",
    ]
    assert len(list((out / "worst").iterdir())) == 2


def test_flip_and_scales_reach_the_window(files, tmp_path):
    config, weights = files
    options = ("--flip", "--scales", 0.5, 1.0, "--batch_size", 3, "--worst", 0)
    out = tmp_path / "out"
    assert run("--config", config, "--weights", weights, "--output", out, *options) == 0
    content = json.loads((out / "metrics.json").read_text())
    expected = counted(config, weights, flip=True, scales=(0.5, 1.0))
    assert np.abs(np.array(content["confusion_matrix"]) - expected).sum() <= 4
    assert not list((out / "worst").iterdir())


def test_a_second_run_predicts_nothing_and_other_weights_start_anew(files, tmp_path, capsys):
    config, weights = files
    out = tmp_path / "out"
    assert run("--config", config, "--weights", weights, "--output", out) == 0
    first = (out / "metrics.json").read_text()
    capsys.readouterr()
    assert run("--config", config, "--weights", weights, "--output", out) == 0
    assert "2 of 2 images are done already" in capsys.readouterr().err
    assert (out / "metrics.json").read_text() == first
    # another batch size changes no result
    assert run("--config", config, "--weights", weights, "--output", out, "--batch_size", 2) == 0
    assert "2 of 2 images are done already" in capsys.readouterr().err
    small.write_weights(weights, seed=6)
    assert run("--config", config, "--weights", weights, "--output", out) == 0
    error = capsys.readouterr().err
    assert "is of another evaluation (weights): starting anew" in error
    assert "8/8" in error
    assert (out / "metrics.json").read_text() != first


def test_regression_another_network_of_the_same_weights_starts_anew(files, tmp_path, capsys):
    config, weights = files
    out = tmp_path / "out"
    loss = "loss.kind=cross_entropy"
    arguments = ("--config", config, "--weights", weights, "--output", out, "--opts", loss)
    networks = (
        ["model.name=fcn8s_vgg16"],
        ["model.name=fcn8s_vgg16_atonce"],
        ["model.name=fcn8s_vgg16_atonce", "model.options={x: 1}"],
    )
    for network in networks:
        assert run(*arguments, *network) == 0
        told = capsys.readouterr().err
        assert ("is of another evaluation (model)" in told) is (network != networks[0])


def test_a_checkpoint_folder_brings_its_configuration(files, tmp_path, capsys):
    config, _ = files
    folder = small.write_checkpoint(tmp_path / "run/iter_000005", config)
    out = tmp_path / "out"
    assert run("--weights", folder, "--output", out) == 0
    assert f"configuration: {folder / 'state.json'}" in capsys.readouterr().err
    # where the state is lost, the run's configuration is that of its checkpoints
    (folder / "state.json").unlink()
    (folder.parent / "config.yml").write_text(config.read_text())
    assert run("--weights", folder / "model.pdparams", "--output", out) == 0
    assert f"configuration: {folder.parent / 'config.yml'}" in capsys.readouterr().err


def one_sentence(capsys, *, names):
    error = capsys.readouterr().err
    lines = error.strip().splitlines()
    assert lines[-1].startswith("evaluate.py: ")
    assert "Traceback" not in error
    for name in names:
        assert str(name) in lines[-1]


def test_what_it_can_not_start_with_is_one_sentence(files, tmp_path, capsys):
    config, weights = files
    torch_file, other, damaged = (tmp_path / n for n in ("w.pth", "o.pdparams", "d.pdparams"))
    torch_file.write_bytes(b"PK")
    small.write_weights(other, num_classes=5)
    damaged.write_bytes(weights.read_bytes()[:100])
    for options, names in (
        (("--weights", tmp_path / "none.pdparams"), ["none.pdparams"]),
        (("--weights", torch_file), ["convert_torch2paddle.py"]),
        (("--weights", damaged), ["d.pdparams"]),
        (("--config", config, "--weights", other), ["5 classes", "num_classes 16"]),
        (("--config", tmp_path / "no.yml", "--weights", weights), ["no.yml"]),
        (
            ("--config", config, "--weights", weights, "--opts", "eval.strid=1"),
            ["eval.strid", "stride?"],
        ),
        (("--config", config, "--weights", weights, "--device", "gpu:77"), ["gpu:77"]),
        (("--config", config, "--weights", weights, "--scales", "0"), ["scales"]),
    ):
        assert run(*options, "--output", tmp_path / "out") == 2
        one_sentence(capsys, names=names)
    assert not (tmp_path / "out").exists()


def test_absent_data_are_said_with_status_2(files, tmp_path, capsys):
    config, weights = files
    nowhere = ("--dataset_root", tmp_path / "nowhere")
    assert run("--config", config, "--weights", weights, *nowhere) == 2
    error = capsys.readouterr().err
    assert "nowhere" in error
    assert "Traceback" not in error


def test_a_mask_that_is_damaged_on_the_way_is_status_1(files, tmp_path, capsys, monkeypatch):
    config, weights = files
    monkeypatch.setattr(
        pairs.ImagePairs,
        "read_labels",
        lambda *_: (_ for _ in ()).throw(pairs.DataError("mask P0005 is truncated")),
    )
    assert run("--config", config, "--weights", weights, "--output", tmp_path / "out") == 1
    one_sentence(capsys, names=["mask P0005 is truncated", "are kept"])
    assert not (tmp_path / "out/metrics.json").exists()
    # the picture of the image that was being predicted is not left behind
    assert not list((tmp_path / "out/predictions").iterdir())


def test_a_full_disk_is_status_1(files, tmp_path, capsys, file_size_limit):
    config, weights = files
    out = tmp_path / "out"
    with file_size_limit(900):
        assert run("--config", config, "--weights", weights, "--output", out) == 1
    one_sentence(capsys, names=["File too large", "are kept"])
    assert not list(out.glob("predictions/*"))


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["TERM", "INT"]
)
def test_told_to_stop_it_leaves_with_the_signals_status(
    files, tmp_path, capsys, monkeypatch, number, status
):
    config, weights = files
    calls = []

    def stopping(network):
        predict = network_predictor(network)

        def stop(images):
            calls.append(1)
            if len(calls) == 6:  # in the second of two images
                signal.raise_signal(number)
            return predict(images)

        return stop

    from factseg_paddle.engine.evaluation import run as run_evaluation

    monkeypatch.setattr(run_evaluation, "network_predictor", stopping)
    before = signal.getsignal(number)
    out = tmp_path / "out"
    assert run("--config", config, "--weights", weights, "--output", out) == status
    assert signal.getsignal(number) is before
    assert "the same command goes on" in capsys.readouterr().err
    assert len(list((out / "per_image").iterdir())) == 1
    assert len([p for p in out.rglob("*") if p.is_file()]) == 3
    assert run("--config", config, "--weights", weights, "--output", out) == 0
    assert "1 of 2 images are done already" in capsys.readouterr().err


def test_it_runs_where_torch_can_not_be_imported(files, tmp_path):
    config, weights = files
    done = small.without(
        "torch",
        "scripts.evaluate",
        *("--config", config, "--weights", weights, "--output", "out"),
        setup=small.WITH_SMALL_NETWORK,
        folder=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/metrics.json").is_file()


def test_without_paddle_it_is_one_sentence(tmp_path):
    done = small.without("paddle", "scripts.evaluate", "--weights", tmp_path / "w.pdparams")
    assert done.returncode == 2
    assert done.stderr.startswith("evaluate.py: paddle is not installed here; install")
    assert len(done.stderr.strip().splitlines()) == 1


def test_sigterm_from_outside_leaves_no_half_written_picture(files, tmp_path):
    config, weights = files
    out = tmp_path / "out"
    options = ("--config", config, "--weights", weights, "--output", out)
    status, said = small.stopped_in_the_middle("scripts.evaluate", out / "predictions", *options)
    assert status == 143, said
    assert "evaluate.py: stopped by SIGTERM" in said
    assert not [path for path in out.rglob(".*") if path.is_file()]
