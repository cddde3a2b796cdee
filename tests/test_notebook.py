"""The notebook is stored clean, and runs from top to bottom; and what its cells are made of."""

from __future__ import annotations

import base64
import io
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from PIL import Image

from factseg_paddle.data.synthetic.scenes import make_sample_dataset
from notebooks import helpers as notebook
from notebooks.helpers import (
    NotebookError,
    Paddle,
    find_paddle,
    missing_packages,
    run,
    show,
    side_by_side,
)
from tests.paths import REPO

pytestmark = pytest.mark.timeout(600)  # starts whole runs

NOTEBOOK = REPO / "notebooks" / "factseg_aistudio.ipynb"
SMALL = [
    "device=cpu",
    "data.sample.images=4",
    "data.sample.size=128",
    "data.patch_size=64",
    "data.stride=64",
    "eval.patch_size=64",
    "eval.stride=64",
    "train.batch_size=2",
    "train.log_iters=1",
]


@pytest.fixture
def stored() -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOK, as_version=4)


def cell(of: nbformat.NotebookNode, name: str) -> nbformat.NotebookNode:
    return next(one for one in of.cells if one.id == name)


class TestStored:
    def test_is_a_valid_notebook_without_results(self, stored):
        nbformat.validate(stored)
        assert stored.metadata.kernelspec.name == "python3"
        for one in stored.cells:
            if one.cell_type == "code":
                assert one.outputs == []
                assert one.execution_count is None

    def test_names_no_place_but_ai_studios(self, stored):
        places = re.findall(r"(?<![\w.}])/(?:home|root|tmp|work|mnt|Users)\b[^\s\"']*", str(stored))
        assert places
        assert all(place.startswith("/home/aistudio/") for place in places)

    def test_never_installs_paddle(self, stored):
        for one in stored.cells:
            assert not re.search(r"install[^\n]*paddlepaddle", one.source)

    def test_no_command_may_fail_unnoticed(self, stored):
        for one in stored.cells:
            if one.cell_type == "code":
                assert not re.search(r"^\s*[!%]", one.source, re.MULTILINE), one.source

    def test_every_text_is_in_chinese_and_in_english(self, stored):
        for one in stored.cells:
            if one.cell_type == "markdown":
                assert re.search(r"[\u4e00-\u9fff]{4}", one.source), one.source
                assert re.search(r"[A-Za-z]+ [a-z]+ [a-z]+", one.source), one.source

    def test_scripts_and_configurations_that_it_names_exist(self, stored):
        names = set(re.findall(r"(?:scripts|configs)/[\w.]+", str(stored.cells)))
        assert len(names) >= 7
        assert all((REPO / name).is_file() for name in names)


def execute(stored, monkeypatch, tmp_path: Path, settings: str) -> nbformat.NotebookNode:
    """All cells, after settings that stand in a cell of their own behind the defaults."""
    # no history or connection file in the home folder
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    place = [one.id for one in stored.cells].index("settings") + 1
    assert cell(stored, "settings").metadata.tags == ["parameters"]
    stored.cells.insert(place, nbformat.v4.new_code_cell(settings))
    folder = {"metadata": {"path": str(NOTEBOOK.parent)}}
    NotebookClient(stored, timeout=900, resources=folder).execute()
    return stored


def text_of(one: nbformat.NotebookNode) -> str:
    return "".join(output.text for output in one.outputs if output.output_type == "stream")


def pictures_of(one: nbformat.NotebookNode) -> list[np.ndarray]:
    data = [output.data["image/png"] for output in one.outputs if "data" in output]
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(png)))) for png in data]


def check_results(done: nbformat.NotebookNode, iters: int) -> None:
    assert f"iter: {iters}/{iters}" in text_of(cell(done, "train"))
    assert re.search(r"^mean +0\.\d{4}", text_of(cell(done, "evaluate")), re.MULTILINE)
    assert "ALIGNED: factseg" in text_of(cell(done, "align"))
    for name in ("sample", "curves", "evaluate", "worst", "predict"):
        pictures = pictures_of(cell(done, name))
        assert pictures, name
        for picture in pictures:
            assert min(picture.shape[:2]) >= 64
            assert len(np.unique(picture.reshape(-1, picture.shape[2]), axis=0)) > 100, name


def test_runs_from_top_to_bottom(stored, monkeypatch, tmp_path):
    done = execute(
        stored,
        monkeypatch,
        tmp_path,
        f"DATASET_ROOT, SAVE_DIR = {str(tmp_path / 'data')!r}, {str(tmp_path / 'run')!r}\n"
        f"ITERS, OPTS = 2, {SMALL}\n"
        "ALIGN_FLAGS = '--pair factseg_resnet18 --crop 32 --steps forward loss'.split()",
    )
    check_results(done, 2)
    left = {path.name for path in NOTEBOOK.parent.glob("[!._]*")}
    assert left == {NOTEBOOK.name, "helpers.py"}


@pytest.mark.slow
def test_runs_as_it_stands(stored, monkeypatch, tmp_path):
    folders = f"DATASET_ROOT, SAVE_DIR = {str(tmp_path / 'data')!r}, {str(tmp_path / 'run')!r}"
    check_results(execute(stored, monkeypatch, tmp_path, folders), 200)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("unzip"), reason="unzip is not installed")
def test_unpacks_and_prepares_isaid_as_ai_studio_lays_it(stored, monkeypatch, tmp_path):
    painted, root = tmp_path / "painted", tmp_path / "data170962"
    make_sample_dataset(painted, images=4, size=128, seed=0)
    root.mkdir()
    parts = {"part1": "train/images", "seg_train": "train/masks"}
    parts |= {"val_image": "val/images", "seg_val": "val/masks"}
    for name, folder in parts.items():
        shutil.make_archive(str(root / name), "zip", painted / folder, "images")
    for name in ("part2", "part3"):  # parts of one archive hold different images
        shutil.copy(root / "part1.zip", root / f"{name}.zip")
    done = execute(
        stored,
        monkeypatch,
        tmp_path,
        f"DATASET_ROOT, SAVE_DIR = {str(root)!r}, {str(tmp_path / 'run')!r}\n"
        f"UNZIP = PREPARE = True\nITERS, OPTS = 2, {SMALL}\n"
        "ALIGN_FLAGS = ['--crop', '64', '--train-steps', '1']",
    )
    check_results(done, 2)
    assert (root / "test" / "images" / "images").is_dir()
    assert "data170962_prepared" in text_of(cell(done, "train"))


def test_stops_where_training_cannot_start(stored, monkeypatch, tmp_path):
    kept = ("settings", "repository", "train")
    stored.cells = [one for one in stored.cells if one.id in kept]
    cell(stored, "train").source = (
        "from notebooks.helpers import run\ndata_root = DATASET_ROOT\n"
        + cell(stored, "train").source
    )
    stored.cells.append(nbformat.v4.new_code_cell("print('went on')"))
    settings = f"SAVE_DIR, OPTS = {str(tmp_path / 'run')!r}, ['train.batch_sise=4']"
    with pytest.raises(CellExecutionError, match="left with status 2"):
        execute(stored, monkeypatch, tmp_path, settings)
    assert "batch_size" in text_of(cell(stored, "train"))
    assert stored.cells[-1].outputs == []


def test_skips_the_alignment_where_torch_is_not_installed(stored, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch", None)
    exec(cell(stored, "align").source, {})
    assert "torch is not installed" in capsys.readouterr().out


class TestRun:
    def test_shows_what_a_command_says_and_draws(self, capfd):
        code = "import sys; print(sys.stdout.isatty()); print('one\\rtwo', flush=True)"
        run("python", "-c", code)
        out = capfd.readouterr().out
        assert out.startswith("$ python -c ")
        assert out.endswith("True\none\rtwo\n")

    def test_a_failure_stops(self):
        with pytest.raises(NotebookError, match="python -c left with status 3"):
            run("python", "-c", "raise SystemExit(3)")

    def test_a_module_is_named(self):
        with pytest.raises(NotebookError, match=r"python -m timeit left with status 2"):
            run("python", "-m", "timeit", "--no-such-option")

    def test_being_killed_stops(self):
        with pytest.raises(NotebookError, match="left with signal 9"):
            run("python", "-c", "import os; os.kill(os.getpid(), 9)")

    def test_a_program_that_is_not_there_stops(self):
        with pytest.raises(NotebookError, match="no_such_program is not there"):
            run("no_such_program")

    def test_an_interrupt_is_passed_on_and_waited_for(self):
        child = (
            "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            "try:\n print('ready', flush=True); signal.pause()\n"
            "except KeyboardInterrupt:\n print('saved')"
        )
        code = f"from notebooks.helpers import run; run('python', '-c', {child!r})"
        with subprocess.Popen(
            [sys.executable, "-u", "-c", code],
            cwd=REPO,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            lines = iter(process.stdout.readline, "")
            assert "ready\n" in lines  # reads up to it
            process.send_signal(signal.SIGINT)
            assert "saved\n" in lines
            assert process.stderr.read().strip().endswith("KeyboardInterrupt")


class TestPackages:
    def test_nothing_is_missing_here(self):
        assert missing_packages(REPO / "requirements-gpu.txt") == []

    def test_absent_and_old_packages_are_missing_and_newer_ones_are_not(self, tmp_path):
        file = tmp_path / "requirements.txt"
        file.write_text(
            "# a comment\nnumpy==999.0\nnumpy==0.1\nno-such-package-x==1.0  # why\n"
            'no-such-package-y==1.0; python_version < "3"\n'
        )
        assert missing_packages(file) == ["numpy==999.0", "no-such-package-x==1.0"]


class TestPaddle:
    def test_the_installed_one_is_found(self):
        found = find_paddle()
        assert found.package.startswith("paddlepaddle")
        assert str(Paddle("paddlepaddle-gpu", "3.3.1", 2)) == "paddlepaddle-gpu 3.3.1, 2 GPU"
        assert str(Paddle("paddle", "3.0.0", 0)) == "paddle 3.0.0, CPU (tested with 3.3.1)"

    def test_the_cpu_package_over_the_gpu_package_is_refused(self, monkeypatch):
        monkeypatch.setattr(notebook, "_installed", lambda _: True)
        with pytest.raises(NotebookError, match="is installed over paddlepaddle-gpu"):
            find_paddle()

    def test_an_old_one_is_refused(self, monkeypatch):
        monkeypatch.setattr(notebook, "_ASK_PADDLE", "print('chatter'); print('[\"2.3.2\", 1]')")
        with pytest.raises(NotebookError, match=r"Paddle 2\.3\.2 is too old"):
            find_paddle()

    def test_none_is_refused(self, monkeypatch):
        monkeypatch.setattr(notebook, "_ASK_PADDLE", "import no_such_module")
        with pytest.raises(NotebookError, match=r"can't be imported .*no_such_module"):
            find_paddle()


class TestShow:
    def save(self, path: Path, width: int, height: int, color: str) -> Path:
        Image.new("RGB", (width, height), color).save(path)
        return path

    def test_pictures_stand_side_by_side_in_one_width(self, tmp_path):
        red = self.save(tmp_path / "red.png", 100, 100, "red")
        blue = self.save(tmp_path / "blue.png", 200, 400, "blue")
        sheet = np.asarray(side_by_side([red, blue]))
        assert sheet.shape == (200, 100 + 16 + 100, 3)
        assert sheet[99, 99].tolist() == [255, 0, 0]
        assert sheet[100, 99].tolist() == sheet[99, 108].tolist() == [255, 255, 255]
        assert sheet[199, 116].tolist() == [0, 0, 255]

    @pytest.mark.parametrize(
        ("width", "height", "shown"),
        [(1600, 1200, (1600, 1200)), (4000, 100, (1600, 40)), (1000, 3000, (400, 1200))],
    )
    def test_large_pictures_are_shown_smaller(self, tmp_path, width, height, shown):
        large = self.save(tmp_path / "large.png", width, height, "red")
        assert side_by_side([large]).size == shown
        assert side_by_side([large, large]).width <= 1600

    def test_a_picture_that_is_not_there_is_an_error(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="absent"):
            show(tmp_path / "absent.png")
