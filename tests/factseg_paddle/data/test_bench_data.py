import importlib.util
import json

import pytest

from tests.paths import REPO


@pytest.fixture
def bench():
    spec = importlib.util.spec_from_file_location("bench_data", REPO / "scripts" / "bench_data.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_small_scene_is_measured_and_bit_identical(bench, monkeypatch, capsys):
    for name, value in (("SIDE", 256), ("PATCH", 100), ("STRIDE", 90), ("AT_LEAST", 0.0)):
        monkeypatch.setattr(bench, name, value)
    assert bench.main(["--repeats", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["equal"]
    assert found["ratio"] == pytest.approx(found["decode_ms"] / found["prepared_ms"])
    assert 0.8 < found["prepared_mb"] / found["png_mb"] < 1.2
    monkeypatch.setattr(bench, "AT_LEAST", 1e9)
    assert bench.main(["--repeats", "1"]) == 1
    assert "times faster" in capsys.readouterr().out
    assert bench.main(["--repeats", "0"]) == 2
