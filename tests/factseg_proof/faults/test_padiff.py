"""The recorded run of PaDiff: what the file holds, and the script where PaDiff is absent."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from factseg_proof.faults.catalogue import CATALOGUE
from factseg_proof.faults.padiff_record import PADIFF, padiff_verdicts
from scripts.padiff_run import PadiffFinding
from tests.paths import REPO

RECORD = json.loads(PADIFF.read_text("utf-8"))


def test_record_names_exactly_the_catalogues_faults():
    assert list(RECORD["faults"]) == [fault.name for fault in CATALOGUE]
    assert set(RECORD["faults"].values()) <= {"missed", "flagged", "placed"}
    found = {name for name, verdict in RECORD["faults"].items() if verdict != "missed"}
    assert set(RECORD["named"]) == found


def test_table_gets_the_recorded_verdicts():
    assert padiff_verdicts() == RECORD["faults"]


def test_record_says_how_it_was_made():
    assert RECORD["command"] == "python scripts/record_padiff.py"
    assert RECORD["versions"]["padiff"] == "0.2.0"
    assert {"once", "training", "flagged", "placed", "data"} <= set(RECORD["settings"])
    passed = [run["steps"] for run in RECORD["clean"] if run["seed"] == 0 and not run["named"]]
    assert passed == [RECORD["settings"][kind]["steps"] for kind in ("once", "training")]


@pytest.mark.parametrize("fault", [f for f in CATALOGUE if f.kind == "data"], ids=lambda f: f.name)
def test_padiff_has_no_step_for_data(fault):
    assert RECORD["faults"][fault.name] == "missed"


@pytest.mark.parametrize(
    ("named", "place", "right"),
    [
        (PadiffFinding("forward", "a.b", "relu"), "a.b", True),
        (PadiffFinding("forward", "a.relu"), "a.relu#3 -> a.c", True),
        (PadiffFinding("forward", "a.c"), "a.b -> a.c", True),
        (PadiffFinding("forward", "a"), "a.b -> a.c", False),
        (PadiffFinding("forward", "", "interpolate"), "forward:output.class_logits", True),
        (PadiffFinding("forward", ""), "forward:output.class_logits", False),
        (PadiffFinding("forward", "a.bn"), "weights:a.bn.running_mean", True),
        (PadiffFinding("grad", "a.bn.bias"), "grad:a.bn.bias", True),
        (PadiffFinding("grad", "b.weight", more=3), "grad:a.weight", False),
        (PadiffFinding("weight", "a.weight", step=1), "train:step 1: a.weight (update)", True),
        (PadiffFinding("weight", "a.weight", step=0), "train:step 1: a.weight (update)", False),
        (PadiffFinding("loss", "loss"), "loss:loss", True),
        (PadiffFinding("raised", "RuntimeError: no"), "a.b", False),
    ],
)
def test_what_counts_as_the_place(named, place, right):
    assert named.is_at(place) is right


def test_script_without_padiff_says_how_to_install_it(tmp_path):
    code = (
        "import runpy, sys; sys.modules['padiff'] = None; sys.argv = ['record_padiff.py', *sys.argv"
        "[1:]]; runpy.run_path('scripts/record_padiff.py', run_name='__main__')"
    )
    out = tmp_path / "record.json"
    done = subprocess.run(
        [sys.executable, "-c", code, "--out", out], cwd=REPO, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "PaDiff is not installed: pip install --no-deps padiff==0.2.0\n"
    assert not out.exists()
