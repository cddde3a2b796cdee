"""VisualDL records: written, cut back on resume, and read by VisualDL's own reader."""

import io
import struct
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from factseg_paddle.engine.logs.visualdl import FILE, VisualRecorder
from tests.paths import REPO

PICTURE = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def read(folder):
    """{tag: [(step, value)]} of the curves, and the same of the pictures, by VisualDL's reader."""
    from visualdl import LogReader

    # It logs every file that it opens.
    reader = LogReader(file_path=str(folder / FILE))
    tags = reader.get_tags()
    scalars = {tag: [(r.id, r.value) for r in reader.get_data("scalar", tag)]
               for tag in tags.get("scalar", [])}  # fmt: skip
    images = {
        tag: [
            (r.id, np.array(Image.open(io.BytesIO(r.image.encoded_image_string))))
            for r in reader.get_data("image", tag)
        ]
        for tag in tags.get("image", [])
    }
    return scalars, images


def test_what_is_written_is_read_by_visualdl(tmp_path):
    with VisualRecorder(tmp_path / "vdl") as recorder:
        for n in (10, 20):
            recorder.scalars(n, {"train/loss": n / 8, "train/lr": 0.5})
        recorder.image("val/P0003", 20, PICTURE)
        # it is in the file before it is closed
        scalars, images = read(tmp_path / "vdl")
    assert scalars == {
        "train/loss": [(10, 1.25), (20, 2.5)],
        "train/lr": [(10, 0.5), (20, 0.5)],
    }
    ((step, picture),) = images["val/P0003"]
    assert step == 20
    np.testing.assert_array_equal(picture, PICTURE)


def test_visualdl_shows_the_folder_as_one_run(tmp_path):
    from visualdl import LogReader

    for iteration in (0, 10):
        with VisualRecorder(tmp_path / "vdl", iteration) as recorder:
            recorder.scalars(iteration + 10, {"train/loss": 1.0})
    reader = LogReader(logdir=str(tmp_path))
    assert reader.runs() == [str(tmp_path / "vdl")]
    assert [file.name for file in (tmp_path / "vdl").iterdir()] == [FILE]


def test_resumed_run_has_every_iteration_once(tmp_path):
    with VisualRecorder(tmp_path) as recorder:
        for n in (10, 20, 30, 40):
            recorder.scalars(n, {"loss": n})
            recorder.image("one", n, PICTURE)
    with VisualRecorder(tmp_path, 20) as recorder:
        recorder.scalars(30, {"loss": -30})
    scalars, images = read(tmp_path)
    assert scalars == {"loss": [(10, 10.0), (20, 20.0), (30, -30.0)]}
    assert [step for step, _ in images["one"]] == [10, 20]


def test_record_that_a_kill_cut_anywhere_is_dropped_on_resume(tmp_path):
    with VisualRecorder(tmp_path) as recorder:
        recorder.scalars(10, {"loss": 1})
        whole = recorder.path.read_bytes()
        recorder.scalars(20, {"loss": 2})
    content = recorder.path.read_bytes()
    for length in range(len(whole), len(content)):
        recorder.path.write_bytes(content[:length])
        with VisualRecorder(tmp_path, 10) as resumed:
            assert resumed.path.read_bytes() == whole
            resumed.scalars(20, {"loss": 2})
        assert read(tmp_path)[0] == {"loss": [(10, 1.0), (20, 2.0)]}


@pytest.mark.parametrize("damage", [b"\xff" * 8, b""])
def test_damaged_record_is_named(damage, tmp_path):
    (tmp_path / FILE).write_bytes(struct.pack("<Q", len(damage)) + damage)
    with pytest.raises(ValueError, match=rf"{FILE} is damaged at byte 0; move it away, or leave"):
        VisualRecorder(tmp_path, 10)


def test_file_that_needs_no_cut_is_not_written_anew(tmp_path):
    with VisualRecorder(tmp_path) as recorder:
        recorder.scalars(10, {"loss": 1})
    before = recorder.path.stat().st_ino
    VisualRecorder(tmp_path, 10).close()
    assert recorder.path.stat().st_ino == before


def test_not_finite_values_are_kept(tmp_path):
    with VisualRecorder(tmp_path) as recorder:
        recorder.scalars(1, {"norm": float("inf"), "loss": float("nan")})
    scalars, _ = read(tmp_path)
    assert scalars["norm"] == [(1, float("inf"))]
    assert np.isnan(scalars["loss"][0][1])


@pytest.mark.parametrize("picture", [PICTURE[..., 0], PICTURE[..., :2], PICTURE.astype(np.float32)])
def test_picture_of_another_form_is_refused(picture, tmp_path):
    with (
        VisualRecorder(tmp_path) as recorder,
        pytest.raises(ValueError, match=r"a picture is \[H, W, 3\] uint8, one is \["),
    ):
        recorder.image("one", 1, picture)


def test_visualdl_that_is_not_installed_is_named_with_the_cure(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "visualdl", None)
    with pytest.raises(ImportError, match="pip install visualdl, or leave out --use_vdl"):
        VisualRecorder(tmp_path / "vdl")
    assert not (tmp_path / "vdl").exists()


def test_full_disk_is_an_error():
    """/dev/full takes nothing; VisualDL's own writer only prints that."""
    with VisualRecorder.__new__(VisualRecorder) as recorder:
        recorder._file = open("/dev/full", "ab", buffering=0)  # noqa: PTH123, SIM115
        with pytest.raises(OSError, match="No space left on device"):
            recorder.scalars(1, {"loss": 1.0})


def test_visualdl_is_not_imported_before_it_is_used():
    code = "import sys, factseg_paddle.engine.logs.visualdl; sys.exit('visualdl' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=REPO, check=True)
