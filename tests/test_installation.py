"""A new environment outside the repository: the harness alone, then training.

Packages come from the index, hundreds of megabytes of them.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import REPO
from tests.wheel import build_wheel

pytestmark = pytest.mark.slow

PAIR = """
import numpy as np
import paddle
import torch
from alignment import Pair

EPSILON = 1e-5


class TorchNet(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 3)
        self.norm = torch.nn.GroupNorm(2, 8)

    def forward(self, x):
        return torch.relu(self.norm(self.conv(x))).mean((2, 3))


class PaddleNet(paddle.nn.Layer):
    def __init__(self):
        super().__init__()
        self.conv = paddle.nn.Conv2D(3, 8, 3)
        self.norm = paddle.nn.GroupNorm(2, 8, epsilon=EPSILON)

    def forward(self, x):
        return paddle.nn.functional.relu(self.norm(self.conv(x))).mean((2, 3))


def make_pair(seed):
    x = np.random.default_rng(seed).normal(size=(2, 3, 16, 16)).astype("float32")
    return Pair(name="own", torch_model=TorchNet(), paddle_model=PaddleNet(), inputs=(x,))
"""


class Environment:
    """A virtual environment, and an empty folder to work in."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "environment" / "bin"
        self.folder = folder / "work"
        self.folder.mkdir()
        subprocess.run([sys.executable, "-m", "venv", folder / "environment"], check=True)

    def run(self, *words: object) -> subprocess.CompletedProcess:
        program, *arguments = map(str, words)
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        return subprocess.run(
            [self.bin / program, *arguments],
            cwd=self.folder,
            env=environment | {"OMP_WAIT_POLICY": "PASSIVE"},
            capture_output=True,
            text=True,
            check=False,
        )

    def install(self, *what: str) -> None:
        done = self.run("python", "-m", "pip", "install", "--disable-pip-version-check", *what)
        assert done.returncode == 0, done.stderr
        done = self.run("python", "-m", "pip", "check")
        assert done.returncode == 0, done.stdout

    def installed(self) -> set[str]:
        listed = self.run("python", "-m", "pip", "list", "--format=freeze").stdout
        return {line.partition("==")[0].lower() for line in listed.splitlines()}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def harness(wheel, tmp_path_factory) -> Environment:
    """The harness with both frameworks; torch is the one that is pinned, a CPU build."""
    environment = Environment(tmp_path_factory.mktemp("harness"))
    torch = re.search(r"^torch==\S+", (REPO / "requirements.txt").read_text(), re.MULTILINE)[0]
    environment.install(torch)
    environment.install(f"{wheel}[align,paddle]")
    return environment


def test_the_harness_alone_judges_an_own_pair(harness):
    images = {"paddleseg", "rasterio", "opencv-python", "visualdl", "scikit-image", "pydantic"}
    assert not images & harness.installed()
    (harness.folder / "own.py").write_text(PAIR)
    (harness.folder / "broken.py").write_text(PAIR.replace("EPSILON = 1e-5", "EPSILON = 1e-3"))

    done = harness.run("alignment", "--pair", "own.py:make_pair", "--out", "report")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ALIGNED: own" in done.stdout
    written = {path.name for path in (harness.folder / "report").iterdir()}
    assert {"report.html", "report.json", "junit.xml"} <= written

    done = harness.run("alignment", "--pair", "broken.py:make_pair")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "MISALIGNED: own, first divergence at norm" in done.stdout
    assert (harness.folder / "output" / "alignment" / "report.html").is_file()


def test_the_harness_alone_judges_the_example(harness):
    pair = REPO / "examples" / "captioner" / "pair.py"
    done = harness.run("alignment", "--pair", f"{pair}:make_pair", "--out", "captioner")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ALIGNED: captioner, 6 steps" in done.stdout


def test_what_the_harness_alone_lacks_is_one_sentence(harness):
    for words in (["alignment"], ["factseg", "train", "--config", "quickstart"]):
        done = harness.run(*words)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert 'pip install "factseg_paddle[seg]"' in done.stderr


def test_training_works_with_the_extra_seg(harness, wheel):
    """After the tests of the harness alone, in the same environment."""
    harness.install(f"{wheel}[seg]")
    done = harness.run("factseg", "train", "--config", "quickstart", "--iters", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    run = harness.folder / "output" / "quickstart"
    assert (run / "iter_000002" / "model.pdparams").is_file()
    done = harness.run("factseg", "evaluate", "--weights", run / "iter_000002")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (harness.folder / "output" / "evaluation" / "metrics.json").is_file()


def test_an_editable_installation_is_the_checkout(tmp_path):
    environment = Environment(tmp_path)
    done = environment.run("python", "-m", "pip", "install", "--no-deps", "-e", REPO)
    assert done.returncode == 0, done.stderr
    code = "import factseg_paddle.folders as f; print(f.CHECKOUT, f.RECIPES, sep='\\n')"
    assert environment.run("python", "-c", code).stdout == f"{REPO}\n{REPO / 'configs'}\n"
    done = environment.run("factseg", "--help")
    assert done.returncode == 0, done.stderr
