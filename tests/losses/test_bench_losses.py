"""scripts/bench_losses.py: what it prints and how it judges; the ratios themselves are slow."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "bench_losses.py"
FAST = ("--batch", "1", "--size", "32", "--repeats", "1", "--iterations", "1")


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("bench_losses", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    yield spec.loader.exec_module(module) or module
    del sys.modules[spec.name]


def run(*arguments, cwd):
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)


def test_json_holds_both_forms_and_the_verdict_of_the_exit_status(tmp_path):
    result = run(*FAST, "--json", cwd=tmp_path)
    report = json.loads(result.stdout)
    assert result.stderr == ""
    assert result.returncode == (0 if report["passed"] else 1)
    literal, logits = report["forms"]["literal"], report["forms"]["logits"]
    assert literal["loss"] == pytest.approx(logits["loss"], rel=1e-5)
    assert literal["seconds"] > 0
    assert report["speedup"] == pytest.approx(literal["seconds"] / logits["seconds"])
    assert report["workload"] == {"batch": 1, "size": 32, "iterations": 1, "seed": 0}
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("logits", "passed"),
    [((1.0, 70.0), True), ((1.01, 70.0), False), ((1.0, 71.0), False), ((0.2, 10.0), True)],
)
def test_verdict_needs_both_targets(bench, logits, passed):
    verdict = bench.Verdict(
        bench.Measurement(seconds=1.7, growth_bytes=100.0, loss=1.0),
        bench.Measurement(seconds=logits[0], growth_bytes=logits[1], loss=1.0),
    )
    assert bool(verdict) is passed
    assert ("targets met" in str(verdict)) is passed
    assert verdict.as_dict()["passed"] is passed


def test_no_growth_at_all_is_not_a_pass(bench):
    still = bench.Measurement(seconds=1.0, growth_bytes=0.0, loss=1.0)
    verdict = bench.Verdict(still, bench.Measurement(seconds=0.1, growth_bytes=0.0, loss=1.0))
    assert not verdict
    assert verdict.as_dict()["memory_ratio"] is None


def test_medians_are_taken_over_the_processes(bench, monkeypatch):
    figures = {"literal": iter([4.0, 2.0, 3.0]), "logits": iter([1.0, 1.0, 9.0])}
    order = []

    class Pool:
        def __init__(self, *_, **__):
            pass

        __enter__ = lambda self: self  # noqa: E731
        __exit__ = lambda *_: None  # noqa: E731

        def submit(self, _, form, workload):
            order.append((form, workload.size))
            seconds = next(figures[form])
            measurement = bench.Measurement(seconds, 10 * seconds, 1.0)
            return type("Future", (), {"result": lambda _: measurement})()

    monkeypatch.setattr(bench, "ProcessPoolExecutor", Pool)
    verdict = bench.compare_forms(bench.Workload(batch=1, size=8, iterations=1, seed=0), 3)
    assert order == [("literal", 8), ("logits", 8)] * 3
    assert (verdict.speedup, verdict.memory_ratio) == (3.0, 1 / 3)


@pytest.mark.parametrize("arguments", [("--size", "0"), ("--repeats", "-1"), ("--batch", "two")])
def test_wrong_argument_exits_2(bench, arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        bench.main(list(arguments))
    assert stop.value.code == 2
    assert arguments[0] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "message"),
    [("ImportError", "install requirements.txt"), ("BrokenProcessPool", "too little memory")],
)
def test_what_cannot_be_measured_exits_2_with_one_sentence(
    bench, monkeypatch, capsys, error, message
):
    def fail(*_):
        raise {"ImportError": ImportError, "BrokenProcessPool": bench.BrokenProcessPool}[error]

    monkeypatch.setattr(bench, "compare_forms", fail)
    assert bench.main([]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert captured.err.count("\n") == 1


@pytest.mark.slow
def test_logits_form_is_faster_and_smaller(tmp_path):
    result = run("--size", "384", "--repeats", "3", cwd=tmp_path)
    assert "targets met" in result.stdout
    assert result.returncode == 0
