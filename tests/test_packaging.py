"""What the wheel holds and does outside a checkout, and that dependencies and pins agree."""

from __future__ import annotations

import configparser
import importlib.metadata
import itertools
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from factseg_paddle.config.recipes import list_recipes
from tests.paths import REPO
from tests.test_house import PACKAGES
from tests.wheel import build_wheel, tracked

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROJECT = tomllib.loads((REPO / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
REQUIREMENTS = ("requirements.txt", "requirements-gpu.txt", "requirements-docs.txt")

# Dependencies and pins ------------------------------------------------------------------------


def ranges(lines: Iterable[str]) -> dict[str, list[Requirement]]:
    """Requirements by name."""
    found: dict[str, list[Requirement]] = {}
    for line in lines:
        requirement = Requirement(line)
        found.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return found


DECLARED = ranges([*PROJECT["dependencies"], *itertools.chain(*EXTRAS.values())])
PINS = ranges(
    text
    for file in REQUIREMENTS
    for line in (REPO / file).read_text("utf-8").splitlines()
    if (text := line.partition("#")[0].strip()) and not text.startswith("-r")
)


def test_every_dependency_is_pinned_and_every_pin_is_a_dependency():
    assert DECLARED.keys() == PINS.keys()


@pytest.mark.parametrize("name", PINS)
def test_ranges_admit_the_pin_and_begin_with_it(name):
    versions = []
    for pin in PINS[name]:
        (specifier,) = pin.specifier
        assert specifier.operator == "=="
        versions.append(specifier.version)
    for requirement in DECLARED[name]:
        assert all(version in requirement.specifier for version in versions), requirement
    lowest = [s for r in DECLARED[name] for s in r.specifier if s.operator == ">="]
    assert len(lowest) == 1 or {s.version for s in lowest} == {lowest[0].version}
    assert lowest[0].version == min(versions, key=lambda v: tuple(map(int, v.split("."))))


def test_requirements_txt_takes_in_the_other_files():
    text = (REPO / "requirements.txt").read_text("utf-8").splitlines()
    assert {f"-r {file}" for file in REQUIREMENTS[1:]} <= set(text)


def test_docs_requirements_are_the_extra_docs():
    pinned = (REPO / "requirements-docs.txt").read_text("utf-8").splitlines()
    names = ranges(line for line in pinned if line and not line.startswith("#")).keys()
    assert names == ranges(EXTRAS["docs"]).keys()


def brought_by(*extras: str) -> set[str]:
    """All that an installation brings, by what is installed here: names, at any depth."""
    lines = [*PROJECT["dependencies"], *itertools.chain(*(EXTRAS[extra] for extra in extras))]
    found: set[str] = set()
    waiting = [Requirement(line) for line in lines]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name in found or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        found.add(name)
        waiting += map(Requirement, importlib.metadata.requires(name) or ())
    return found


def test_the_harness_alone_brings_nothing_for_images():
    harness = brought_by("align", "paddle")
    assert {"numpy", "torch", "paddlepaddle", "reprod-log", "jinja2"} <= harness
    images = {"paddleseg", "rasterio", "opencv-python", "visualdl", "scikit-image", "pydantic"}
    assert not images & harness


def test_no_other_extra_brings_paddle():
    """Paddle's CPU package, installed over the GPU build, trains on the CPU without a word."""
    assert "paddlepaddle" not in brought_by("align", "seg")
    assert "torch" not in brought_by("seg", "paddle")


# The wheel ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


def test_the_wheel_holds_the_packages_their_data_and_the_recipes(wheel):
    expected = set(tracked(*PACKAGES))
    for path in tracked("configs"):
        expected.add(path.replace("configs/", "factseg_paddle/recipes/", 1))
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert held == expected
    for data in (
        "alignment/report/templates/report.html.jinja",
        "factseg_proof/calibration/calibration.json",
        "factseg_proof/costs/published_miou.yml",
        "factseg_proof/faults/padiff_recorded.json",
        "factseg_paddle/recipes/quickstart.yml",
        "factseg_paddle/recipes/voc/_classic.yml",
        "factseg_paddle/recipes/gsi_roads_val.txt",
    ):
        assert data in held


def test_the_wheel_has_two_commands(wheel):
    archive = zipfile.ZipFile(wheel)
    (file,) = (name for name in archive.namelist() if name.endswith("entry_points.txt"))
    entries = configparser.ConfigParser()
    entries.read_string(archive.read(file).decode())
    assert dict(entries["console_scripts"]) == {
        "alignment": "alignment.__main__:main",
        "factseg": "factseg.__main__:main",
    }


# Outside a checkout ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The wheel's content, in a folder of its own."""
    folder = tmp_path_factory.mktemp("installed")
    zipfile.ZipFile(wheel).extractall(folder)
    return folder


@pytest.fixture
def run(installed, tmp_path):
    """Start a Python with the wheel's content, in a folder that is no checkout."""

    def start(*words: str) -> subprocess.CompletedProcess:
        paths = [str(installed), *filter(None, [os.environ.get("PYTHONPATH")])]
        return subprocess.run(
            [sys.executable, "-W", "ignore", *map(str, words)],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_WAIT_POLICY": "PASSIVE"},
            capture_output=True,
            text=True,
            check=False,
        )

    return start


def test_every_recipe_is_found_by_name(run, installed, tmp_path):
    code = (
        "from factseg_paddle.config.loading import load_config\n"
        "from factseg_paddle.config.recipes import list_recipes\n"
        "for name in list_recipes():\n"
        "    config = load_config(name)\n"
        "    split = config.data.val\n"
        "    names = split.names if split else None\n"
        "    print(name, config.data.dataset_root, config.train.save_dir, names)\n"
    )
    done = run("-c", code)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [line[0] for line in lines] == list_recipes()
    for _name, data, save_dir, names in lines:
        assert Path(data).is_relative_to(tmp_path)
        assert Path(save_dir).is_relative_to(tmp_path / "output")
        assert names == "None" or Path(names).parent == installed / "factseg_paddle" / "recipes"
        assert names == "None" or Path(names).is_file()


def test_quickstart_trains_under_the_current_folder(run, tmp_path):
    small = ("data.sample.images=4", "data.sample.size=128", "data.patch_size=64")
    words = ("--iters", "1", "--log_iters", "1", "--opts", "device=cpu", "train.do_eval=false")
    done = run("-m", "factseg", "train", "--config", "quickstart", *words, *small)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"output"}
    assert (tmp_path / "output/quickstart/iter_000001/model.pdparams").is_file()
    written = (tmp_path / "output/quickstart/config.yml").read_text("utf-8")
    assert f"dataset_root: {tmp_path}/output/quickstart_data" in written  # wherever it is read


def test_alignment_writes_under_the_current_folder(run, tmp_path):
    (tmp_path / "pair.py").write_text(
        "import numpy as np\n"
        "from alignment import Pair\n"
        "def make_pair(seed):\n"
        "    import paddle, torch\n"
        "    return Pair(name='p', torch_model=torch.nn.Linear(2, 2),\n"
        "                paddle_model=paddle.nn.Linear(2, 2),\n"
        "                inputs=(np.ones((1, 2), np.float32),))\n"
    )
    done = run("-m", "alignment", "--pair", "pair.py:make_pair")
    assert done.returncode == 0, done.stderr
    assert f"report: {tmp_path}/output/alignment" in done.stdout
    assert (tmp_path / "output/alignment/report.html").is_file()


def test_advice_names_what_is_there(run):
    done = run("-m", "factseg", "train")
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last == "To try it without iSAID: factseg train --config quickstart"
    assert "scripts/" not in done.stderr


@pytest.mark.parametrize(
    ("module", "extra"), [("cv2", "seg"), ("paddle", "paddle"), ("torch", "align")]
)
def test_a_missing_package_is_named_with_its_extra(run, module, extra):
    code = (
        "from factseg_paddle.cli import explain\n"
        f"error = ModuleNotFoundError('No module named {module}', name='{module}.nn')\n"
        "print(explain(error))"
    )
    assert run("-c", code).stdout.endswith(f'pip install "factseg_paddle[{extra}]"\n')
