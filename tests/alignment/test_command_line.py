"""`python -m alignment`: exit status, what is said on which stream, options."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import paddle
import pytest
import torch

from alignment.__main__ import main
from alignment.steps.progress import ProgressBar
from tests.paths import REPO

pytestmark = pytest.mark.timeout(600)  # starts whole runs

USER = REPO / "tests" / "alignment" / "user_pair.py"


@pytest.fixture
def run(capfd, tmp_path):
    """Run the command line in this process: (exit status, stdout, stderr)."""

    def call(*arguments):
        options = [str(argument) for argument in arguments]
        if "--out" not in options:
            options += ["--out", str(tmp_path / "report")]
        capfd.readouterr()
        try:
            status = main(options)
        except SystemExit as left:  # argparse leaves this way
            status = left.code
        return status, *capfd.readouterr()

    return call


def pair_of(function="make_pair") -> tuple[str, str]:
    return "--pair", f"{USER}:{function}"


def weights_files(folder: Path, change=lambda state: state) -> tuple[Path, Path]:
    """Two files with the same weights, the Paddle one after `change`."""
    from tests.alignment.user_pair import torch_model

    net = torch_model()
    state = {name: tensor.numpy() for name, tensor in net.state_dict().items()}
    torch.save(
        {name: torch.from_numpy(array * 2) for name, array in state.items()}, folder / "w.pth"
    )
    doubled = {n: (a * 2).T if n.endswith("weight") else a * 2 for n, a in state.items()}
    tensors = {n: paddle.to_tensor(np.ascontiguousarray(a)) for n, a in change(doubled).items()}
    paddle.save(tensors, str(folder / "w.pdparams"))
    return folder / "w.pth", folder / "w.pdparams"


def test_aligned_pair_exits_0_with_one_line_a_step_and_a_verdict(run, tmp_path):
    status, out, err = run(*pair_of())
    assert (status, err) == (0, "")
    lines = [line for line in out.splitlines() if "may" not in line]
    steps = ["data", "weights", "forward", "metric", "loss", "backward"]
    assert [line.split()[0] for line in lines[:-2]] == steps
    assert lines[-2] == "ALIGNED: user, 6 steps"
    assert lines[-1] == f"report: {tmp_path / 'report'}"


def test_misaligned_pair_exits_1_and_names_the_layer(run):
    status, out, err = run(*pair_of("without_relu"))
    assert (status, err) == (1, "")
    lines = out.splitlines()
    verdict = lines.index("MISALIGNED: user, first divergence at 1")
    (following, *_) = lines[verdict + 1 :]
    assert following.startswith("next       look at 1: given torch's own input it computes")
    assert lines[-1].startswith("report: ")


def test_chosen_steps_alone_are_run(run, tmp_path):
    status, out, _ = run(*pair_of(), "--steps", "metric", "data")
    assert status == 0
    assert "data" in out
    assert "forward" not in out
    assert not (tmp_path / "report" / "forward_torch.npy").exists()


BAD = {
    "unknown pair": (
        ["--pair", "nonsense"],
        "pair 'nonsense' is not known; known are factseg, ",
    ),
    "missing file": (["--pair", "nowhere.py:make_pair"], "nowhere.py is not there"),
    "no function": (["--pair", "{user}:absent"], "user_pair.py has no function 'absent'"),
    "a constant": (["--pair", "{user}:CONSTANT"], "user_pair.py has no function 'CONSTANT'"),
    "file without function": (
        ["--pair", "{user}"],
        "is not known; known are factseg,",
    ),
    "raises on import": (["--pair", "{tmp}/raising.py:f"], "raised ZeroDivisionError: division"),
    "leaves on import": (["--pair", "{tmp}/leaving.py:f"], "raised SystemExit: 0"),
    "missing import": (["--pair", "{tmp}/importing.py:f"], "raised ModuleNotFoundError: No module"),
    "syntax": (["--pair", "{tmp}/syntax.py:f"], "raised SyntaxError"),
    "not text": (["--pair", "{tmp}/binary.py:f"], "raised SyntaxError"),
    "a folder": (["--pair", "{tmp}/folder.py:f"], "folder.py is not there"),
    "not a pair": (["--pair", "{user}:not_a_pair"], "gave a int, not an alignment.Pair"),
    "function raises": (["--pair", "{user}:failing"], "raised RuntimeError: no luck"),
    "function leaves": (["--pair", "{user}:leaving"], "raised SystemExit: 0"),
    "model raises": (["--pair", "{user}:failing_model"], "torch_model raised ZeroDivisionError"),
    "unknown step": (["--pair", "{user}:make_pair", "--steps", "dance"], "has no step 'dance'"),
    "lacking step": (["--pair", "{user}:make_pair", "--steps", "preprocess"], "no step 'preproc"),
    "no step": (["--pair", "{user}:make_pair", "--steps"], "--steps: expected at least one"),
    "train": (["--pair", "{user}:make_pair", "--steps", "train"], "has no step 'train'"),
    "train steps of none": (
        ["--pair", "{user}:make_pair", "--train-steps", "3"],
        "has no step 'tr",
    ),
    "no train steps": (
        ["--train-steps", "0"],
        "--train-steps: train_steps 0 is below 1; use 1",
    ),
    "crop": (["--crop", "100"], "crop 100 is not a positive multiple of 32; use 96 or 128"),
    "crop zero": (["--crop", "0"], "crop 0 is not a positive multiple of 32; use 32"),
    "crop text": (["--crop", "big"], "--crop: invalid int value: 'big'"),
    "crop of a user's pair": (["--pair", "{user}:make_pair", "--crop", "64"], "--crop belongs to"),
    "image alone": (["--image", "{tmp}/raising.py"], "give both image and mask, or neither"),
    "mask alone": (["--mask", "{tmp}/raising.py"], "give both image and mask, or neither"),
    "image missing": (["--image", "{tmp}/no.png", "--mask", "{tmp}/no.png"], "no.png"),
    "no image": (["--image", "{tmp}/raising.py", "--mask", "{tmp}/raising.py"], "raising.py"),
    "seed": (["--seed", "-1"], "seed -1 is negative; use 0 or more"),
    "seed text": (["--seed", "x"], "--seed: invalid int value: 'x'"),
    "device": (["--device", "tpu"], "--device: invalid choice"),
    "unknown option": (["--colour"], "unrecognized arguments: --colour"),
    "weights missing": (
        ["--pair", "{user}:make_pair", "--torch-weights", "no.pth"],
        "--torch-weights no.pth is not there",
    ),
    "weights of paddle alone": (
        ["--pair", "{user}:make_pair", "--paddle-weights", "{tmp}/raising.py"],
        "--paddle-weights needs --torch-weights too",
    ),
    "weights damaged": (
        ["--pair", "{user}:make_pair", "--torch-weights", "{tmp}/raising.py"],
        "raising.py",
    ),
    "out is a file": (
        ["--pair", "{user}:make_pair", "--out", "{tmp}/raising.py"],
        "raising.py is a file",
    ),
    "out below a file": (
        ["--pair", "{user}:make_pair", "--out", "{tmp}/raising.py/x"],
        "raising.py",
    ),
    "record absent": (
        ["--pair", "{user}:make_pair", "--torch-records", "{tmp}"],
        "holds no torch record (record_torch.json is missing)",
    ),
    "record and side torch": (
        ["--torch-records", "{tmp}", "--side", "torch"],
        "--torch-records replaces the torch side",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_can_not_start_exits_2_with_one_sentence(case, run, tmp_path):
    for name, text in {
        "raising": "1 / 0",
        "leaving": "import sys\nsys.exit(0)",
        "importing": "import nonexistent_module",
        "syntax": "def f(:",
    }.items():
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    (tmp_path / "binary.py").write_bytes(b"\xff\xfe\x00binary")
    (tmp_path / "folder.py").mkdir()
    options, sentence = BAD[case]
    status, out, err = run(*(option.format(user=USER, tmp=tmp_path) for option in options))
    assert status == 2
    assert sentence in err
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert "ALIGNED" not in out


def test_broken_run_leaves_no_report(run, tmp_path):
    status, _, _ = run(*pair_of("failing_model"))
    assert status == 2
    assert not list((tmp_path / "report").glob("*report*"))


def test_no_gpu_is_said(run):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    status, _, err = run(*pair_of(), "--device", "gpu")
    assert (status, err.count("\n")) == (2, 1)
    assert "torch sees no GPU; use --device cpu" in err


def is_number_or_null(value) -> bool:
    return value is None or isinstance(value, (int, float))


@pytest.mark.parametrize("function", ["make_pair", "with_nan"])
def test_json_is_one_object_with_the_fields_of_the_contract(function, run, tmp_path):
    status, out, _ = run(*pair_of(function), "--json")
    assert out.count("\n") == 1

    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    report = json.loads(out, parse_constant=refuse)
    assert report == json.loads((tmp_path / "report" / "report.json").read_text(encoding="utf-8"))
    assert set(report) == {
        "passed", "pair", "first_divergence", "steps", "environment", "inputs",
    }  # fmt: skip
    assert report["passed"] is (status == 0) is (function == "make_pair")
    assert report["pair"] == "user"
    assert set(report["inputs"]) == {"inputs[0]", "targets[0]"}
    assert {"torch", "paddlepaddle", "python"} <= set(report["environment"])
    for step in report["steps"]:
        assert set(step) == {"step", "passed", "first_divergence", "tensors", "notes"}
        for tensor in step["tensors"]:
            assert set(tensor) == {
                "name", "comparison", "shape", "dtype", "error", "allowed", "status", "reason",
            }  # fmt: skip
            assert tensor["comparison"] in ("end_to_end", "by_itself")
            assert tensor["status"] in ("passed", "failed", "declared")
            assert is_number_or_null(tensor["error"])
            assert tensor["reason"] or tensor["status"] == "passed"


def test_json_gives_nan_as_null_with_a_reason(run):
    status, out, _ = run(*pair_of("with_nan"), "--json")
    report = json.loads(out)
    assert (status, report["first_divergence"]) == (1, "1")
    forward = next(step for step in report["steps"] if step["step"] == "forward")
    tensor = next(tensor for tensor in forward["tensors"] if tensor["name"] == "1")
    assert tensor["error"] is None
    assert tensor["reason"] == "NaN in 30 of 30 elements, in ours alone"


def test_json_says_nothing_on_stdout_when_it_can_not_run(run):
    status, out, err = run("--pair", "nonsense", "--json")
    assert (status, out, err.count("\n")) == (2, "", 1)


def test_both_weight_files_are_compared_and_nothing_is_transferred(run, tmp_path):
    pth, pdparams = weights_files(tmp_path)
    assert run(*pair_of(), "--torch-weights", pth, "--paddle-weights", pdparams)[0] == 0

    def other(state):
        return state | {"2.bias": state["2.bias"] + np.float32(1e-3)}

    pth, pdparams = weights_files(tmp_path, other)
    status, out, _ = run(*pair_of(), "--torch-weights", pth, "--paddle-weights", pdparams)
    assert status == 1
    assert "first divergence at weights:2.bias" in out


def test_torch_weights_alone_are_carried_over(run, tmp_path):
    pth, _ = weights_files(tmp_path)
    assert run(*pair_of(), "--torch-weights", pth)[0] == 0


@pytest.mark.parametrize("side", ["torch", "paddle"])
def test_weights_file_that_does_not_fit_the_model_is_named(side, run, tmp_path):
    pth, pdparams = weights_files(tmp_path)
    if side == "torch":
        torch.save({"0.weight": torch.zeros(2, 2)}, pth)
    else:
        paddle.save({"0.weight": paddle.zeros([2, 2])}, str(pdparams))
    status, _, err = run(*pair_of(), "--torch-weights", pth, "--paddle-weights", pdparams)
    assert (status, err.count("\n")) == (2, 1)
    assert (pth if side == "torch" else pdparams).name in err
    assert "0.bias is missing" in err
    assert "is given float32 [2, 2]" in err


def test_weights_file_cut_short_is_named(run, tmp_path):
    pth, pdparams = weights_files(tmp_path)
    pdparams.write_bytes(pdparams.read_bytes()[:50])
    status, _, err = run(*pair_of(), "--torch-weights", pth, "--paddle-weights", pdparams)
    assert (status, err.count("\n")) == (2, 1)
    assert "w.pdparams" in err


def test_a_terminal_shows_a_bar_that_is_cleared_before_the_verdict(run, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    status, out, err = run(*pair_of())
    assert status == 0
    assert "torch float64" in err
    assert "Paddle layer by layer" in err
    assert err.endswith("\r")
    assert not err.split("\r")[-2].strip()
    assert "ALIGNED" in out


def test_bar_ends_where_the_phases_end(run, monkeypatch):
    """What is announced is about what was expected, so that the bar does not lie."""
    announced = []

    class Bar(ProgressBar):
        def __call__(self, message):
            announced.append((message, self.phases))

    monkeypatch.setattr("alignment.__main__.ProgressBar", Bar)
    for options in ([], ["--side", "torch"], ["--steps", "data"], ["--steps", "metric", "loss"]):
        announced.clear()
        assert run(*pair_of(), *options)[0] == 0
        expected = announced[-1][1] if announced else 1
        assert abs(max(1, len(announced)) - expected) <= 1, (options, announced)


@pytest.mark.parametrize("number", range(7))
def test_numbered_script_exists_and_explains_itself(number):
    (script,) = (REPO / "alignment").glob(f"0{number}_*.py")
    assert len(script.read_text(encoding="utf-8").splitlines()) < 20


SCRIPT_STEPS = {
    "00_data": ["data"],
    "01_forward": ["weights", "forward"],
    "02_preprocess": ["preprocess"],
    "03_metric": ["metric"],
    "04_loss": ["loss"],
    "05_backward": ["backward"],
    "06_train": ["train"],
}


def steps_of_script(name, tmp_path) -> list[str]:
    """The steps that a script asks for, its own process seeing the user's small pair."""
    code = (
        "import sys, runpy, alignment.__main__ as m\n"
        "m.main = lambda argv, default_out: print(argv, default_out) or 0\n"
        f"sys.argv = ['{name}.py', '--seed', '3']\n"
        f"runpy.run_path(r'{REPO / 'alignment' / name}.py', run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(REPO), "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


@pytest.mark.parametrize("name", SCRIPT_STEPS)
def test_numbered_script_asks_for_its_steps_and_passes_options_on(name, tmp_path):
    words = "".join(steps_of_script(name, tmp_path))
    assert words.startswith("['--steps',")
    for step in SCRIPT_STEPS[name]:
        assert f"'{step}'" in words
    assert words.endswith(f"'--seed','3']output/alignment/{name}")


@pytest.mark.parametrize("name", ["00_data", "03_metric"])
def test_numbered_script_runs_from_another_directory(name, tmp_path):
    options = ["--out", "here", "--pair", "factseg_resnet18", "--crop", "32"]
    done = subprocess.run(
        [sys.executable, str(REPO / "alignment" / f"{name}.py"), *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    step = SCRIPT_STEPS[name][-1]
    assert done.stdout.startswith(step)
    assert (tmp_path / "here" / f"{step}_paddle.npy").is_file()


def test_help_shows_examples_and_exit_status(run):
    status, out, _ = run("--help")
    assert status == 0
    assert "python -m alignment --image I.png --mask M.png --crop 256" in out
    assert "Exit status: 0 aligned" in out
