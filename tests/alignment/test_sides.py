"""One side alone, records of torch, and what a record may not do."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from alignment import AlignmentError
from alignment.__main__ import main
from alignment.recording.reference import ARRAYS, HEADER
from alignment.recording.reference_files import load_reference
from factseg_paddle.files import sha256_of_file
from tests.paths import REPO

pytestmark = pytest.mark.timeout(600)  # starts whole runs

USER = REPO / "tests" / "alignment" / "user_pair.py"

BLOCKED = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {blocked!r}:
            raise ImportError(name + " is not installed here")
sys.meta_path.insert(0, Block())
sys.path.insert(0, {root!r})
from alignment.__main__ import main
status = main(sys.argv[1:])
assert {blocked!r} not in sys.modules
sys.exit(status)
"""


def without(framework: str, *options: object) -> subprocess.CompletedProcess:
    """The command line in a process that can't import a framework."""
    code = BLOCKED.format(blocked=framework, root=str(REPO))
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, options)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_WAIT_POLICY": "PASSIVE"},
    )


def on_pair(function="make_pair"):
    return "--pair", f"{USER}:{function}"


@pytest.fixture(scope="module")
def record(tmp_path_factory) -> Path:
    """A record of the torch side, made where Paddle can't be imported."""
    folder = tmp_path_factory.mktemp("record")
    done = without("paddle", *on_pair(), "--side", "torch", "--out", folder)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "recorded the torch side of user" in done.stdout
    return folder


@pytest.fixture
def damaged(record, tmp_path) -> Path:
    """A copy of the record to do harm to."""
    shutil.copytree(record, tmp_path / "record")
    return tmp_path / "record"


def rewritten(folder: Path, change) -> None:
    """Change the header and let it vouch for the arrays as they are."""
    header = json.loads((folder / HEADER).read_text(encoding="utf-8"))
    change(header)
    header["arrays_sha256"] = sha256_of_file(folder / ARRAYS)
    (folder / HEADER).write_text(json.dumps(header), encoding="utf-8")


def test_torch_record_is_compared_where_torch_is_missing(record, tmp_path):
    done = without("torch", *on_pair(), "--torch-records", record, "--out", tmp_path)
    assert done.returncode == 0, done.stderr + done.stdout
    assert done.stderr == ""
    assert "ALIGNED: user, 6 steps" in done.stdout
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert {"torch", "paddlepaddle"} <= set(report["environment"])


def test_record_and_live_run_give_the_same_results(record, tmp_path):
    for name, options in {"live": (), "record": ("--torch-records", str(record))}.items():
        assert main([*on_pair(), *options, "--out", str(tmp_path / name)]) == 0
    live, recorded = (
        json.loads((tmp_path / name / "report.json").read_text(encoding="utf-8"))
        for name in ("live", "record")
    )
    assert live["steps"] == recorded["steps"]
    assert live["inputs"] == recorded["inputs"]


def test_fault_is_found_against_a_record(record, tmp_path, capsys):
    options = ["--torch-records", str(record), "--out", str(tmp_path)]
    assert main([*on_pair("without_relu"), *options]) == 1
    assert "first divergence at 1\n" in capsys.readouterr().out


def test_paddle_side_is_recorded_where_torch_is_missing(tmp_path):
    done = without("torch", *on_pair(), "--side", "paddle", "--out", tmp_path, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "recorded": "paddle",
        "pair": "user",
        "steps": ["data", "weights", "forward", "metric", "loss", "backward"],
        "out": str(tmp_path),
    }
    steps = ["data", "forward", "metric", "loss", "backward"]
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(f"{s}_paddle.npy" for s in steps)


@pytest.mark.parametrize("blocked", ["torch", "paddle"])
def test_our_own_pair_runs_one_side_without_the_other_framework(blocked, tmp_path):
    """Its checks imported torch_ref, and so torch, on the Paddle side."""
    side = {"torch": "paddle", "paddle": "torch"}[blocked]
    steps = ["data", "preprocess", "metric", "loss"]
    options = ("--pair", "factseg_resnet18", "--crop", 32, "--side", side, "--out", tmp_path)
    done = without(blocked, *options, "--steps", *steps)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_missing_framework_is_one_sentence(tmp_path):
    done = without("torch", *on_pair(), "--out", tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "torch is not installed here" in done.stderr


def refused(capsys, *options) -> str:
    capsys.readouterr()
    status = main([str(option) for option in options])
    out, err = capsys.readouterr()
    assert status == 2, out
    assert err.count("\n") == 1
    return err


def test_record_of_another_seed_is_refused(record, tmp_path, capsys):
    err = refused(
        capsys, *on_pair(), "--seed", 1, "--torch-records", record, "--out", tmp_path / "o"
    )
    assert "the torch record was made with seed 0, this is 1; record again" in err


def test_record_of_another_pair_is_refused(record, tmp_path, capsys):
    err = refused(
        capsys, *on_pair("strange_name"), "--torch-records", record, "--out", tmp_path / "o"
    )
    assert "the torch record is of user in eval mode" in err


def test_record_of_other_weights_is_refused(record, tmp_path, capsys):
    (tmp_path / "w.pth").write_bytes(b"other")
    err = refused(
        capsys, *on_pair(), "--torch-records", record, "--torch-weights", tmp_path / "w.pth",
        "--out", tmp_path / "o",
    )  # fmt: skip
    assert "the torch record was made with torch weights unknown" in err


def test_record_of_other_inputs_is_refused(damaged, tmp_path, capsys):
    with np.load(damaged / ARRAYS) as arrays:
        content = dict(arrays)
    header = json.loads((damaged / HEADER).read_text(encoding="utf-8"))
    members = {(group, name): member for group, name, member in header["names"]}
    member = members["received", "inputs[0]"]
    content[member] = content[member] + 1
    np.savez(damaged / ARRAYS, **content)
    rewritten(damaged, lambda _header: None)
    err = refused(capsys, *on_pair(), "--torch-records", damaged, "--out", tmp_path / "o")
    assert "the torch record was made with other inputs or targets" in err


def test_record_that_lacks_a_step_is_refused(tmp_path, capsys):
    main([*on_pair(), "--side", "torch", "--steps", "forward", "--out", str(tmp_path)])
    common = [*on_pair(), "--torch-records", tmp_path, "--out", tmp_path / "o"]
    assert "lacks the step metric" in refused(capsys, *common, "--steps", "metric")
    assert "lacks the step backward" in refused(capsys, *common, "--steps", "backward")
    assert main([str(o) for o in [*common, "--steps", "forward", "loss"]]) == 0


def test_record_whose_arrays_were_changed_is_refused(damaged):
    with (damaged / ARRAYS).open("ab") as file:
        file.write(b"x")
    with pytest.raises(AlignmentError, match=r"is not the file that record_torch.json was written"):
        load_reference(damaged)


@pytest.mark.parametrize("name", [ARRAYS, HEADER])
def test_record_without_one_of_its_files_is_refused(damaged, name):
    (damaged / name).unlink()
    with pytest.raises(AlignmentError, match=f"holds no torch record \\({name} is missing\\)"):
        load_reference(damaged)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '"text"', "{}", "\x00"])
def test_damaged_header_is_one_sentence(damaged, text):
    (damaged / HEADER).write_text(text, encoding="utf-8")
    with pytest.raises(AlignmentError, match=r"record in .* is damaged"):
        load_reference(damaged)


@pytest.mark.parametrize("key", ["specs", "names", "checks", "calls", "dtype", "weights"])
def test_header_with_nonsense_in_it_is_one_sentence(damaged, key):
    rewritten(damaged, lambda header: header.update({key: [[1, [2]]]}))
    if key in ("specs", "names", "checks"):
        with pytest.raises(AlignmentError, match="damaged"):
            load_reference(damaged)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut short"])
def test_damaged_arrays_that_the_header_vouches_for_are_one_sentence(damaged, content):
    (damaged / ARRAYS).write_bytes(content)
    rewritten(damaged, lambda _header: None)
    with pytest.raises(AlignmentError, match="damaged"):
        load_reference(damaged)


class Code:
    """A pickle of this touches a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (Path(self.path),))


def test_reading_a_record_runs_no_pickled_code(damaged, tmp_path):
    trap = tmp_path / "trap"
    harmful = np.empty(1, object)
    harmful[0] = Code(str(trap))
    np.save(tmp_path / "harmful.npy", harmful, allow_pickle=True)
    np.load(tmp_path / "harmful.npy", allow_pickle=True)
    assert trap.exists(), "the trap does not work"
    trap.unlink()
    with zipfile.ZipFile(damaged / ARRAYS) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["a0.npy"] = (tmp_path / "harmful.npy").read_bytes()
    with zipfile.ZipFile(damaged / ARRAYS, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    rewritten(damaged, lambda _header: None)
    with pytest.raises(AlignmentError, match="damaged: Object arrays cannot be loaded"):
        load_reference(damaged)
    (damaged / ARRAYS).write_bytes(pickle.dumps(Code(str(trap))))
    rewritten(damaged, lambda _header: None)
    with pytest.raises(AlignmentError, match="damaged"):
        load_reference(damaged)
    assert not trap.exists()


@pytest.mark.parametrize(
    "module", ["alignment", "alignment.__main__", "factseg_proof.pairs.factseg"]
)
def test_import_brings_in_neither_framework(module):
    code = (
        f"import sys, {module}; "
        "assert not {'torch', 'paddle', 'paddleseg'} & set(sys.modules), 'imported'"
    )
    subprocess.run([sys.executable, "-c", code], cwd=REPO, check=True)
