import errno
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from collections import namedtuple

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st

from factseg_paddle.data.images.files import write_png
from factseg_paddle.data.layouts.pair_files import read_headers
from factseg_paddle.data.open import open_pairs
from factseg_paddle.data.pairs import DataError
from factseg_paddle.data.patches import Window
from factseg_paddle.data.store import prepare as prepare_module
from factseg_paddle.data.store.files import encode_raster, read_raster
from factseg_paddle.data.store.prepare import PrepareError, prepare_isaid, space_needed
from tests.factseg_paddle.data.layouts.isaid_files import image_of, isaid, mask_of, write_isaid
from tests.factseg_paddle.progress_notes import ProgressNotes
from tests.paths import REPO

SCRIPT = REPO / "scripts" / "prepare_isaid.py"


def prepare(source, output, said=None, num_workers=0):
    progress = ProgressNotes()
    done = prepare_isaid(source, output, num_workers=num_workers, progress=progress)
    for _, total, count in progress.counts:
        assert count == total
    if said is not None:
        said += progress.lines
    return done


def run_script(*arguments):
    spec = importlib.util.spec_from_file_location("prepare_isaid", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main([str(argument) for argument in arguments])


def content(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def source(tmp_path):
    write_isaid(tmp_path / "isaid")
    return tmp_path / "isaid"


def run_code(code, *arguments, **options):
    """Prepare in another process that something happens to."""
    head = (
        "import os, resource, signal, sys\n"
        "from pathlib import Path\n"
        "from factseg_paddle.data.store.prepare import prepare_isaid\n"
        "from factseg_paddle.progress import NO_PROGRESS, NoProgress\n"
        "def prepare(workers, progress=NO_PROGRESS):\n"
        "    return prepare_isaid(Path(sys.argv[1]), Path(sys.argv[2]), num_workers=workers,\n"
        "                         progress=progress)\n"
        "if __name__ == '__main__':\n"
    )
    body = "".join(f"    {line}\n" for line in code.splitlines())
    return subprocess.run(
        [sys.executable, "-c", head + body, *map(str, arguments)],
        cwd=REPO,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        **options,
    )


@pytest.mark.parametrize(
    ("what", "number", "left"),
    [
        ("replace", 1, 5),  # store.json
        ("replace", 2, 5),  # the first image
        ("replace", 4, 5),  # the record of the first pair
        ("replace", 6, 4),  # the mask of the second pair
        ("write_bytes", 3, 4),  # within the image of the second pair
    ],
)
def test_killed_at_any_moment_it_goes_on_where_it_was(source, tmp_path, what, number, left):
    whole, output = tmp_path / "whole", tmp_path / "store"
    prepare(source, whole)
    done = run_code(
        f"original, calls = Path.{what}, []\n"
        "def killed(self, value):\n"
        "    calls.append(self)\n"
        f"    if len(calls) == {number}:\n"
        "        if isinstance(value, bytes):\n"
        "            original(self, value[: len(value) // 2])\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return original(self, value)\n"
        f"Path.{what} = killed\n"
        "prepare(0)",
        source,
        output,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    tifs = [path for path in output.rglob("*.tif") if not path.name.startswith(".")]
    for path in tifs:  # what has its name is whole
        assert path.read_bytes() == (whole / path.relative_to(output)).read_bytes()
    with pytest.raises(DataError, match=r"no PNG images in|is not complete; run scripts/prepare"):
        open_pairs(isaid(output), "train")
    said = []
    result = prepare(source, output, said)
    assert result.pairs == 5
    assert result.made == int(said[0].split()[0]) == left
    assert content(output) == content(whole)


def test_kill_of_the_starter_ends_the_workers_too(source, tmp_path):
    output = tmp_path / "store"
    # the pipe of stdout closes when the last of the processes has ended
    done = run_code(
        "class Killing(NoProgress):\n"
        "    def advance(self, count=1):\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "prepare(2, Killing())",
        source,
        output,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert prepare(source, output).pairs == 5
    assert len(open_pairs(isaid(output), "train")) == 3


def test_workers_write_the_same_bytes(source, tmp_path):
    prepare(source, tmp_path / "one")
    prepare(source, tmp_path / "two", num_workers=2)
    assert content(tmp_path / "one") == content(tmp_path / "two")


def test_second_run_does_nothing_and_a_changed_source_is_made_anew(source, tmp_path):
    output = tmp_path / "store"
    assert prepare(source, output).made == 5
    before = content(output)
    assert prepare(source, output).made == 0
    assert content(output) == before
    labels = np.zeros((128, 96), np.uint8)
    labels[3:9] = 14
    write_png(mask_of(source / "train", "P0000"), labels)
    assert prepare(source, output).made == 1
    np.testing.assert_array_equal(open_pairs(isaid(output), "train").read_labels(0), labels)


def test_write_that_the_system_refuses_leaves_nothing_half(source, tmp_path):
    output = tmp_path / "store"
    done = run_code(
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10000, 10000))\n"
        "prepare(0)",
        source,
        output,
    )
    assert done.returncode == 1
    assert "PrepareError: cannot write" in done.stderr
    assert "File too large; make room and run this again" in done.stderr
    assert sorted(content(output)) == [".lock", "store.json"]
    assert prepare(source, output).made == 5


@pytest.mark.parametrize("moment", ["space", "write", "silent"])
def test_disk_that_is_full(source, tmp_path, monkeypatch, capsys, moment):
    output = tmp_path / "store"
    if moment == "space":
        usage = namedtuple("usage", "total used free")
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**6, 10**6 - 1000, 1000))
    elif moment == "write":
        original, written = prepare_module._write_verified, []

        def full(temporary, path, pixels):
            written.append(path)
            if len(written) == 5:
                raise OSError(errno.ENOSPC, "No space left on device", str(path))
            return original(temporary, path, pixels)

        monkeypatch.setattr(prepare_module, "_write_verified", full)
    else:
        monkeypatch.setattr(
            prepare_module, "encode_raster", lambda pixels: encode_raster(pixels)[:-40]
        )
    arguments = ("--dataset_root", source, "--output", output, "--num_workers", 0)
    status = run_script(*arguments)
    captured = capsys.readouterr()
    assert captured.out.startswith("5 of 5 pairs to prepare: about ")
    if moment == "space":
        assert status == 2
        assert "and 0.0 MB are free; make room or give another --output" in captured.err
        assert not output.exists()
        return
    assert status == 1
    assert {
        "write": "P0002.tif: No space left on device; make room and run this again",
        "silent": "P0000.tif: what was written does not read back bit by bit",
    }[moment] in captured.err
    assert not [path for path in output.rglob(".*") if path.name != ".lock"]
    monkeypatch.undo()
    assert run_script(*arguments) == 0
    assert f"{3 if moment == 'write' else 5} of 5 pairs" in capsys.readouterr().out
    assert len(open_pairs(isaid(output), "val")) == 2


def test_space_is_about_what_is_needed(source, tmp_path, shared_data):
    real = shared_data("isaid")
    for root in (source, real):
        result = prepare(root, tmp_path / "store")
        pairs = [pair for found in prepare_module._find_splits(root).values() for pair in found]
        headers = read_headers(pairs).images
        need = sum(space_needed(*pair) for pair in zip(pairs, headers, strict=True))
        assert result.size < need < 2 * result.size
        shutil.rmtree(tmp_path / "store")


def test_space_of_noise_is_bounded_by_its_pixels(tmp_path):
    sizes = {"train": [(128, 128)]}
    write_isaid(tmp_path / "isaid", sizes=sizes)
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    write_png(image_of(tmp_path / "isaid" / "train", "P0000"), noise)
    pairs = prepare_module._find_splits(tmp_path / "isaid")["train"]
    assert len(encode_raster(noise)) < space_needed(pairs[0], read_headers(pairs).images[0])


@pytest.mark.parametrize("harm", ["shorter", "gone", "record"])
def test_store_whose_files_changed_is_refused_and_mended(source, tmp_path, harm):
    output = tmp_path / "store"
    prepare(source, output)
    path = output / "train" / "masks" / "P0001.tif"
    if harm == "shorter":
        path.write_bytes(path.read_bytes()[:-10])
        message = r"P0001\.tif has \d+ bytes, but had \d+ when it was prepared; run scripts/prepare"
    elif harm == "gone":
        path.unlink()
        message = r"P0001\.tif does not exist; run scripts/prepare_isaid\.py again"
    else:
        (output / "store.json").write_text("{}")
        message = r"store\.json is damaged or of another version"
    with pytest.raises(DataError, match=message):
        open_pairs(isaid(output), "train")
    if harm == "record":
        with pytest.raises(DataError, match="prepare into a new folder"):
            prepare(source, output)
    else:
        assert prepare(source, output).made == 1
        assert len(open_pairs(isaid(output), "train")) == 3


def test_damaged_record_makes_its_pair_anew(source, tmp_path):
    output = tmp_path / "store"
    prepare(source, output)
    (output / "val" / "records" / "P0003.json").write_text('{"name": "P0003"}')
    assert prepare(source, output).made == 1


def test_check_of_a_store_sees_other_bytes_of_the_same_size(source, tmp_path, capsys):
    output = tmp_path / "store"
    prepare(source, output)
    arguments = ("--check", "--dataset_root", output, "--num_workers", 0)
    assert run_script(*arguments) == 0
    assert "3 train and 2 val pairs of a prepared store: all fine" in capsys.readouterr().out
    path = output / "val" / "images" / "P0003.tif"
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)
    assert run_script(*arguments) == 1
    assert (
        "P0003.tif has other bytes than when it was prepared; delete it" in capsys.readouterr().out
    )
    path.unlink()
    assert prepare(source, output).made == 1
    assert run_script(*arguments) == 0


def test_split_that_was_not_prepared_is_named(tmp_path):
    write_isaid(tmp_path / "isaid", sizes={"train": [(64, 64)]})
    prepare(tmp_path / "isaid", tmp_path / "store")
    with pytest.raises(DataError, match="has no val images; prepare them as well"):
        open_pairs(isaid(tmp_path / "store"), "val")


def test_other_peoples_folder_is_left_alone(source, tmp_path, capsys):
    before = content(source)
    for output in (source, source / "train"):
        assert run_script("--dataset_root", source, "--output", output, "--num_workers", 0) == 2
        error = capsys.readouterr().err
        assert "already holds other files; give a new or empty folder" in error
        assert error.count("\n") == 1
    assert content(source) == before
    (tmp_path / "file").write_text("mine")
    assert run_script("--dataset_root", source, "--output", tmp_path / "file") == 2
    assert "is a file; give a folder" in capsys.readouterr().err


def test_second_process_on_one_store_is_refused(source, tmp_path):
    with (
        prepare_module._only_one(tmp_path / "store"),
        pytest.raises(DataError, match="another process is preparing"),
    ):
        prepare(source, tmp_path / "store")


def test_pairs_that_can_not_be_read_are_listed_and_the_others_prepared(source, tmp_path):
    path = image_of(source / "train", "P0001")
    good = path.read_bytes()
    path.write_bytes(good[:-60])
    write_png(mask_of(source / "val", "P0003"), np.full((128, 128), 77, np.uint8))
    with pytest.raises(PrepareError) as error:
        prepare(source, tmp_path / "store")
    head, first, second = str(error.value).splitlines()
    assert head.startswith("2 of 5 pairs are not prepared, mend them and run this again")
    assert "P0001.png is truncated" in first
    assert "77 in 16384 pixels" in second
    path.write_bytes(good)
    write_png(mask_of(source / "val", "P0003"), np.zeros((128, 128), np.uint8))
    assert prepare(source, tmp_path / "store").made == 2


def test_headers_that_do_not_fit_stop_it_before_it_begins(source, tmp_path):
    mask_of(source / "train", "P0002").unlink()
    with pytest.raises(DataError, match=r"P0002_instance_color_RGB\.png does not exist"):
        prepare(source, tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_worker_that_is_killed_is_one_sentence(source, tmp_path, monkeypatch, capsys):
    from concurrent.futures.process import BrokenProcessPool

    def broken(*_):
        raise BrokenProcessPool
        yield

    monkeypatch.setattr(prepare_module, "run_tasks", broken)
    assert run_script("--dataset_root", source, "--output", tmp_path / "store") == 1
    assert "a worker process died, possibly killed by the system" in capsys.readouterr().err


@pytest.mark.parametrize(("sent", "status"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_told_to_stop_it_leaves_with_the_status_and_goes_on_later(source, tmp_path, sent, status):
    output = tmp_path / "store"
    code = (
        f"import os, runpy, signal, sys\n"
        # A shell's background jobs ignore Ctrl-C, and so would what they start.
        f"signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"sys.argv = ['prepare_isaid.py', '--dataset_root', {str(source)!r}, '--output',\n"
        f"            {str(output)!r}, '--num_workers', '0']\n"
        f"sys.path.insert(0, {str(REPO)!r})\n"
        "from factseg_paddle.data.store import prepare\n"
        "original, calls = prepare.encode_raster, []\n"
        "def stopped(pixels):\n"
        "    calls.append(1)\n"
        "    if len(calls) == 4:\n"
        f"        os.kill(os.getpid(), signal.{sent})\n"
        "    return original(pixels)\n"
        "prepare.encode_raster = stopped\n"
        f"runpy.run_path({str(SCRIPT)!r}, run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    assert not [path for path in output.rglob(".*") if path.name != ".lock"]
    assert prepare(source, output).made == 4


def test_store_is_readable_by_any_gis(source, tmp_path):
    prepare(source, tmp_path / "store")
    with rasterio.open(tmp_path / "store" / "train" / "images" / "P0000.tif") as raster:
        assert raster.driver == "GTiff"
        assert raster.block_shapes == [(256, 256)] * 3
        assert raster.compression.name == "zstd"
        assert [color.name for color in raster.colorinterp] == ["red", "green", "blue"]
        assert raster.bounds == (0, 0, 96, 128)  # not upside down
    store = json.loads((tmp_path / "store" / "store.json").read_text())
    assert store["complete"]
    assert [pair["name"] for pair in store["pairs"]["val"]] == ["P0003", "P0004"]


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_window_of_a_raster_is_what_was_written(tmp_path_factory, data):
    height, width = data.draw(st.integers(1, 600)), data.draw(st.integers(1, 600))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    shape = (height, width, 3) if data.draw(st.booleans()) else (height, width)
    pixels = rng.integers(0, 256, shape, dtype=np.uint8)
    path = tmp_path_factory.mktemp("raster") / "a.tif"
    path.write_bytes(encode_raster(pixels))
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    rows, columns = data.draw(st.integers(1, height - top)), data.draw(st.integers(1, width - left))
    np.testing.assert_array_equal(
        read_raster(path, Window(top, left, rows, columns)),
        pixels[top : top + rows, left : left + columns],
    )
    np.testing.assert_array_equal(read_raster(path), pixels)


def test_script_runs_from_any_directory_with_workers_and_progress(source, tmp_path):
    command = [sys.executable, str(SCRIPT), "--dataset_root", source.name, "--output", "store"]
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run(
        [*command, "--num_workers", "2"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first, last = done.stdout.splitlines()
    assert first.startswith("5 of 5 pairs to prepare: about 0.")
    assert last.startswith("store: 5 pairs prepared, 5 now and verified; 0.")
    assert "5/5" in done.stderr
    assert "Warning" not in done.stderr
