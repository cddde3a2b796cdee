import json

import numpy as np
import pytest

from scripts import bench_data, bench_loading


@pytest.fixture
def small(monkeypatch):
    """A scene of 9 patches of 896 pixels would take a minute."""
    monkeypatch.setattr(bench_data, "SIDE", 256)
    monkeypatch.setattr(bench_loading, "PATCH", 128)
    monkeypatch.setattr(bench_loading, "STRIDE", 64)


ARGUMENTS = ["--batch_size", "2", "--batches", "2", "--repeats", "1"]


# Without workers: with some, Paddle's loader forks, which may hang, and leaves a handler behind.


@pytest.mark.usefixtures("small")
def test_both_loaders_are_measured_and_bit_identical(capsys):
    assert bench_loading.main(["--workers", "0", *ARGUMENTS, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["equal"]
    (one,) = found["workers"]
    assert one["workers"] == 0
    assert one["throughput"] == pytest.approx(one["paddle_ms"] / one["ours_ms"])


@pytest.mark.usefixtures("small")
def test_other_batches_are_seen(monkeypatch, capsys):
    original = bench_loading._paddles

    def others(*arguments):
        for images, labels in original(*arguments):
            yield images + np.float32(1), labels

    monkeypatch.setattr(bench_loading, "_paddles", others)
    assert bench_loading.main(["--workers", "0", *ARGUMENTS]) == 1
    assert "THE BATCHES DIFFER" in capsys.readouterr().out


def test_bad_numbers_are_refused(capsys):
    with pytest.raises(SystemExit, match="2"):
        bench_loading.main(["--workers", "-1"])
    assert "workers are at least 0" in capsys.readouterr().err
