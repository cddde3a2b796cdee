"""What the Makefile says when the machine lacks something."""

from __future__ import annotations

import importlib.metadata
import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import check_environment
from tests.paths import REPO


def pins(file: str) -> dict[str, str]:
    lines = (REPO / file).read_text(encoding="utf-8").splitlines()
    return dict(
        re.match(r"([\w-]+)==([\w.]+)", line).groups()
        for line in lines
        if re.match(r"[\w-]+==", line) and ("python_version" not in line or ">=" in line)
    )


def test_this_environment_is_complete(capsys):
    assert check_environment.main([]) == 0
    assert capsys.readouterr().out == ""
    assert check_environment.main(["--installed"]) == 0
    assert re.fullmatch(r"Paddle's matrix kernels: .+\n", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("message", "advice"),
    [
        ("libGL.so.1: cannot open shared object file", "apt-get install libgl1"),
        ("libgthread-2.0.so.0: cannot open shared object file", "libglib2.0-0"),
        ("No module named 'cv2'", "pip install -r requirements.txt"),
    ],
)
def test_missing_library_is_named_in_one_sentence(monkeypatch, capsys, message, advice):
    def fail(_name):
        raise ImportError(message)

    monkeypatch.setattr(check_environment.importlib, "import_module", fail)
    assert check_environment.main(["--installed"]) == 2
    error = capsys.readouterr().err
    assert advice in error
    assert error.count("\n") == 1


def test_scripts_explain_a_missing_library_without_make(tmp_path):
    """The sentence stood only in what the Makefile calls; the scripts ended in a traceback."""
    (tmp_path / "cv2.py").write_text("raise ImportError('libGL.so.1: cannot open shared object')")
    for command in (
        ["scripts/make_sample_data.py", "--output", "x"],
        ["alignment/02_preprocess.py"],
    ):
        done = subprocess.run(
            [sys.executable, str(REPO / command[0]), *command[1:]],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2
        assert "apt-get install libgl1" in done.stderr
        assert done.stderr.count("\n") == 1


def test_missing_venv_is_named_in_one_sentence(monkeypatch, capsys):
    def fail(name):
        raise ImportError(name)

    monkeypatch.setattr(check_environment.importlib, "import_module", fail)
    assert check_environment.main([]) == 2
    assert "apt-get install python3-venv" in capsys.readouterr().err


@pytest.mark.parametrize("version", [(3, 9), (3, 13)])
def test_unsupported_python_is_refused(monkeypatch, capsys, version):
    monkeypatch.setattr(check_environment.sys, "version_info", (*version, 0))
    assert check_environment.main([]) == 2
    assert f"Python {version[0]}.{version[1]} is not supported" in capsys.readouterr().err


def test_gpu_requirements_name_neither_framework():
    """Paddle's CPU package, installed over the GPU build, trains on the CPU without a word."""
    assert not {"paddlepaddle", "torch"} & pins("requirements-gpu.txt").keys()
    assert pins("requirements.txt").keys() == {"paddlepaddle", "torch"}


def test_what_is_installed_is_what_is_pinned():
    files = ("requirements.txt", "requirements-gpu.txt", "requirements-docs.txt")
    for name, version in itertools.chain(*(pins(file).items() for file in files)):
        installed = importlib.metadata.version(name).partition("+")[0]
        if sys.version_info >= (3, 11) or name not in ("scikit-image", "matplotlib"):
            assert installed == version, name


@pytest.mark.parametrize("command", ["alignment", "factseg"])
def test_commands_start_from_any_folder(tmp_path, command):
    done = subprocess.run(
        [Path(sys.executable).with_name(command), "--help"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert command in done.stdout
    assert not list(tmp_path.iterdir())


def test_pip_check_is_clean():
    done = subprocess.run(
        [sys.executable, "-m", "pip", "check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
