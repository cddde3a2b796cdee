"""The page "Add a network", followed to the letter in a copy of the repository."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from tests.pages import ADD_A_NETWORK, blocks, commands, read
from tests.paths import REPO

pytestmark = pytest.mark.timeout(600)  # starts whole runs

PAGE = read(ADD_A_NETWORK)

# The page's tinynet as its authors might have written it.
REFERENCE = """
import torch
from torch import nn
from torch.nn import functional as F


class Reference(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16))
        self.classifier = nn.Conv2d(16, classes, 1)

    def forward(self, x):
        small = self.classifier(torch.relu(self.stem(x)))
        return F.interpolate(small, scale_factor=2, mode="bilinear")


def build(classes):
    return Reference(classes)
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("contributing") / "repository"
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    files = subprocess.run(listing, cwd=REPO, capture_output=True, text=True, check=True).stdout
    for file in files.splitlines():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPO / file, folder / file)
    (folder / "reference.py").write_text(REFERENCE)
    return folder


def run(folder, command, status=0):
    words = command.replace("python ", f"{sys.executable} ", 1)
    environment = {n: v for n, v in os.environ.items() if n != "PYTHONPATH"}
    done = subprocess.run(
        words, shell=True, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == status, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def add_entry(creation, diff):
    """Add the page's two lines: the import, and the entry of `MODELS`."""
    imported, entry = (line.removeprefix("+") for line in diff.splitlines())
    text = creation.read_text()
    for start, line in (
        (".models import (\n", imported),
        ("\nMODELS: dict[str, Builder] = {\n", entry),
    ):
        assert text.count(start) == 1
        text = text.replace(start, f"{start}{line}\n")
    creation.write_text(text)


def test_toy_network_is_added_as_the_page_says(copy):
    (torch_file,) = blocks("python", PAGE)
    (line,) = blocks("json", PAGE)
    (configuration,) = blocks("yaml", PAGE)
    (diff,) = blocks("diff", PAGE)
    record, translate, align, test = commands(PAGE)

    (copy / "torch_ref/models/tinynet.py").write_text(torch_file)
    add_entry(copy / "torch_ref/models/creation.py", diff)
    run(copy, record)
    zoo = copy / "tests/models/zoo.json"
    zoo.write_text(json.dumps(json.loads(zoo.read_text()) | json.loads(f"{{{line}}}")))
    run(copy, translate)
    assert "tinynet" in (copy / "factseg_paddle/models/tinynet.py").read_text()
    add_entry(copy / "factseg_paddle/models/creation.py", diff)
    assert "\nALIGNED: tinynet" in run(copy, f"{align} --train-steps 1")
    passed = re.search(r"(\d+) passed", run(copy, f"{test} -p no:cacheprovider"))
    assert int(passed[1]) >= 6

    (copy / "configs/isaid/tinynet.yml").write_text(configuration)
    others = "tests/factseg_paddle/config tests/test_house.py tests/scripts/test_compare_models.py"
    chosen = "-k 'tinynet or package_imports or table_of_the_page or published'"
    run(copy, f"python -m pytest -q -p no:cacheprovider {others} {chosen}")
    train = configuration.splitlines()[0].removeprefix("# ").removesuffix(" --do_eval")
    run(
        copy,
        f"{train} --device cpu --iters 1 --batch_size 2 --num_workers 0 --save_dir output/tinynet "
        "--opts data.dataset_root=output/scenes data.sample.images=8 data.sample.size=64 "
        "data.patch_size=64 data.stride=64 data.transforms='[{name: normalize}]' "
        "eval.patch_size=64 eval.stride=64",
    )
    assert (copy / "output/tinynet/iter_000001/model.pdparams").is_file()
