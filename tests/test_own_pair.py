"""The pairs of the README and of "Align your pair", followed to the letter in an empty folder."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from alignment import Pair, TrainSetup, align
from tests.pages import OWN_PAIR, README, blocks, commands, read, run
from tests.paths import REPO

pytestmark = pytest.mark.timeout(600)  # starts whole runs

PAGE = read(OWN_PAIR)

ALIGNED = "alignment --pair my_pair.py:make_pair --out report"
RECORD = "alignment --pair my_pair.py:make_pair --side torch --out record"
COMPARE = "alignment --pair my_pair.py:make_pair --torch-records record --out report"
EXAMPLE = "python -m alignment --pair examples/captioner/pair.py:make_pair"

LINES_OF_THE_READMES_PAIR = 30


def files_of(page: str) -> dict[str, str]:
    """The files that a page gives: each block stands below the name of its file."""
    return dict(re.findall(r"`(my_\w+\.py)`[^`]*?```python\n(.*?)```", read(page), re.DOTALL))


def write(page: str, folder: Path) -> Path:
    for name, text in files_of(page).items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def folder(tmp_path) -> Path:
    return write(OWN_PAIR, tmp_path)


def change(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert text.count(old) == 1
    file.write_text(text.replace(old, new), encoding="utf-8")


def without_numbers(text: str) -> str:
    """Errors differ in their last digits from machine to machine."""
    return re.sub(r"\d\.\d\de[+-]\d\d", "#", text)


def verdict(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout[done.stdout.index("MISALIGNED") : done.stdout.index("report: ")]


def test_pages_give_these_files_and_commands():
    assert list(files_of(README)) == ["my_pair.py"]
    assert list(files_of(OWN_PAIR)) == ["my_torch.py", "my_paddle.py", "my_pair.py"]
    assert commands(PAGE) == [ALIGNED, EXAMPLE, RECORD, COMPARE]
    assert ALIGNED in commands(read(README))


def test_pair_of_the_readme_has_30_lines_of_code():
    lines = files_of(README)["my_pair.py"].splitlines()
    assert len([line for line in lines if line]) <= LINES_OF_THE_READMES_PAIR


@pytest.mark.parametrize("page", [README, OWN_PAIR])
def test_files_as_they_stand_align(page, tmp_path):
    done = run(ALIGNED, write(page, tmp_path))
    assert not done.stderr
    last = done.stdout.splitlines()[-2]
    assert last == "ALIGNED: my net, 5 steps"
    assert f"`{last}`" in read(page)
    written = {path.name for path in (tmp_path / "report").iterdir()}
    assert {"report.html", "report.json", "junit.xml"} <= written


@pytest.mark.parametrize(
    ("page", "file", "norm"),
    [
        (README, "my_pair.py", "paddle.nn.GroupNorm(2, 8{})"),
        (OWN_PAIR, "my_paddle.py", "nn.GroupNorm(2, 8{})"),
    ],
)
def test_broken_port_is_named_as_the_page_shows(page, file, norm, tmp_path):
    write(page, tmp_path)
    change(tmp_path / file, norm.format(""), norm.format(", epsilon=1e-3"))
    end = verdict(run(ALIGNED, tmp_path, status=(1,)))
    assert without_numbers(end) == without_numbers(blocks("text", read(page))[0])


def test_forgotten_rename_is_told_as_the_page_shows(folder):
    change(folder / "my_pair.py", '        rename={r"^head\\b": "fc"},', "        #")
    run(ALIGNED, folder, status=(1,))
    report = json.loads((folder / "report" / "report.json").read_text(encoding="utf-8"))
    assert report["first_divergence"] == "weights:head.weight"
    weights = next(step for step in report["steps"] if step["step"] == "weights")
    told = next(tensor["reason"] for tensor in weights["tensors"] if tensor["reason"])
    assert told == " ".join(blocks("text", PAGE)[1].split())


def test_align_in_a_test_of_ones_own_passes(folder):
    (folder / "test_mine.py").write_text(blocks("python", PAGE)[3], encoding="utf-8")
    run("python test_mine.py", folder)


def test_two_environments(folder):
    run(RECORD, folder)
    assert "ALIGNED: my net, 5 steps" in run(COMPARE, folder).stdout


def test_example_aligns_by_the_command_of_the_page(tmp_path):
    run(f"{EXAMPLE} --out {tmp_path}", REPO)


def test_training_setups_of_the_page_add_the_step_train(folder, monkeypatch):
    import importlib

    import paddle
    import torch

    names = {"torch": torch, "paddle": paddle, "TrainSetup": TrainSetup}
    exec(compile(blocks("python", PAGE)[5], OWN_PAIR, "exec"), names)
    monkeypatch.syspath_prepend(folder)
    pair = importlib.import_module("my_pair").make_pair(0)
    for name in ("my_pair", "my_torch", "my_paddle"):
        monkeypatch.delitem(importlib.sys.modules, name, raising=False)
    setups = {name: names[name] for name in ("torch_train", "paddle_train")}
    pair = replace(pair, train_steps=2, **setups)
    report = align(pair, ["train"])
    assert report, report


def test_convert_is_of_the_form_that_pair_takes():
    """The block makes one tensor of another form, and one of two."""
    import paddle
    import torch

    names = {"np": np}
    exec(compile(blocks("python", PAGE)[4], OWN_PAIR, "exec"), names)

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
    rows = re.findall(r"^\| `([^`]+)` \|", PAGE, re.MULTILINE)
    assert rows == ["weights:NAME", "LAYER", "LAYER#2", "A -> B", "grad:NAME", "STEP:NAME"]
