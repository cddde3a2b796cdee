"""README's "Align your own pair", followed to the letter in an empty folder."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from alignment import Pair, align
from tests.paths import REPO
from tests.test_readme import OWN_PAIR, blocks, commands

pytestmark = pytest.mark.timeout(600)  # starts whole runs

ALIGNED = "python -m alignment --pair my_pair.py:make_pair --out report"
RECORD = "python -m alignment --pair my_pair.py:make_pair --side torch --out record"
COMPARE = "python -m alignment --pair my_pair.py:make_pair --torch-records record --out report"
EXAMPLE = "python -m alignment --pair examples/captioner/pair.py:make_pair"


def files() -> dict[str, str]:
    """The files that the section gives: each block stands below the name of its file."""
    found = re.findall(r"`(my_\w+\.py)`[^`]*?```python\n(.*?)```", OWN_PAIR, re.DOTALL)
    return dict(found)


@pytest.fixture
def folder(tmp_path) -> Path:
    for name, text in files().items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def run(command: str, folder: Path) -> subprocess.CompletedProcess:
    words = shlex.split(command)
    assert words[0] == "python"
    return subprocess.run(
        [sys.executable, *words[1:]],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(REPO), "OMP_WAIT_POLICY": "PASSIVE"},
        capture_output=True,
        text=True,
        check=False,
    )


def changed(folder: Path, name: str, old: str, new: str) -> None:
    text = (folder / name).read_text(encoding="utf-8")
    assert text.count(old) == 1
    (folder / name).write_text(text.replace(old, new), encoding="utf-8")


def without_numbers(text: str) -> str:
    """Errors differ in their last digits from machine to machine."""
    return re.sub(r"\d\.\d\de[+-]\d\d", "#", text)


def test_section_gives_three_files_and_these_commands():
    assert list(files()) == ["my_torch.py", "my_paddle.py", "my_pair.py"]
    assert commands(OWN_PAIR) == [ALIGNED, EXAMPLE, RECORD, COMPARE]


def test_files_as_they_stand_align(folder):
    done = run(ALIGNED, folder)
    assert done.returncode == 0, done.stderr + done.stdout
    assert not done.stderr
    last = done.stdout.splitlines()[-2]
    assert last == "ALIGNED: my net, 5 steps"
    assert f"`{last}`" in OWN_PAIR
    assert {"report.html", "report.json"} <= {path.name for path in (folder / "report").iterdir()}


def test_broken_port_is_named_as_the_section_shows(folder):
    changed(folder, "my_paddle.py", "nn.GroupNorm(2, 8)", "nn.GroupNorm(2, 8, epsilon=1e-3)")
    done = run(ALIGNED, folder)
    assert done.returncode == 1, done.stderr
    shown = blocks("text", OWN_PAIR)[0]
    end = done.stdout[done.stdout.index("MISALIGNED") : done.stdout.index("report: ")]
    assert without_numbers(end) == without_numbers(shown)


def test_forgotten_rename_is_told_as_the_section_shows(folder):
    changed(folder, "my_pair.py", '        rename={r"^head\\b": "fc"},', "        #")
    done = run(ALIGNED, folder)
    assert done.returncode == 1, done.stderr
    report = json.loads((folder / "report" / "report.json").read_text(encoding="utf-8"))
    assert report["first_divergence"] == "weights:head.weight"
    weights = next(step for step in report["steps"] if step["step"] == "weights")
    told = next(tensor["reason"] for tensor in weights["tensors"] if tensor["reason"])
    assert told == " ".join(blocks("text", OWN_PAIR)[1].split())


def test_two_environments(folder):
    record = run(RECORD, folder)
    assert record.returncode == 0, record.stderr
    done = run(COMPARE, folder)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "ALIGNED: my net, 5 steps" in done.stdout


def test_example_aligns_by_the_command_of_the_section(tmp_path):
    done = run(f"{EXAMPLE} --out {tmp_path}", REPO)
    assert done.returncode == 0, done.stderr + done.stdout


def test_convert_is_of_the_form_that_pair_takes():
    """The block makes one tensor of another form, and one of two."""
    import paddle
    import torch

    names = {"np": np}
    exec(compile(blocks("python", OWN_PAIR)[3], "README.md", "exec"), names)

    class Torch(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.position = torch.nn.Parameter(torch.rand(1, 3, 4))
            self.q = torch.nn.Linear(4, 2, bias=False)
            self.k = torch.nn.Linear(4, 2, bias=False)

        def forward(self, x):
            x = x + self.position
            return torch.cat([self.q(x), self.k(x)], -1)

    class Paddle(paddle.nn.Layer):
        def __init__(self):
            super().__init__()
            self.positions = self.create_parameter([3, 4])
            self.qk = paddle.nn.Linear(4, 4, bias_attr=False)

        def forward(self, x):
            return self.qk(x + self.positions)

    pair = Pair(
        name="convert",
        torch_model=Torch(),
        paddle_model=Paddle(),
        inputs=(np.random.default_rng(0).normal(size=(2, 3, 4)).astype("float32"),),
        convert=names["convert"],
    )
    assert align(pair)
    assert not align(replace(pair, convert={}))


def test_table_has_every_form_of_first_divergence():
    rows = re.findall(r"^\| `([^`]+)` \|", OWN_PAIR, re.MULTILINE)
    assert rows == ["weights:NAME", "LAYER", "LAYER#2", "A -> B", "grad:NAME", "STEP:NAME"]
