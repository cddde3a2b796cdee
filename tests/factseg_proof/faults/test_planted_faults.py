"""The catalogue of planted faults: a fast subset here, the whole by `make faults`."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from alignment.pair import STEPS, AlignmentError
from factseg_proof.faults.__main__ import main
from factseg_proof.faults.catalogue import CATALOGUE
from factseg_proof.faults.outcomes import Outcome, Outcomes
from factseg_proof.faults.run import run_faults

pytestmark = pytest.mark.timeout(600)  # starts whole runs

# None of them in the backbone, so that a small one will do.
FAST = ("eps 1e-6", "detached head", "no decay")
HARMLESS = "sum in another order"


@pytest.fixture(scope="module")
def outcomes():
    names = [*FAST, HARMLESS]
    found = run_faults(names, crop=32, train_steps=1, backbone="resnet18")
    return {outcome.name: outcome for outcome in found}


@pytest.mark.parametrize("name", FAST)
def test_fault_is_flagged_at_its_step_and_placed_exactly(outcomes, name):
    outcome = outcomes[name]
    assert (outcome.step, outcome.place) == (outcome.expected_step, outcome.expected_place)


def test_harmless_change_raises_no_alarm(outcomes):
    assert not outcomes[HARMLESS].flagged


def test_catalogue_is_what_it_says():
    kinds = Counter(fault.kind for fault in CATALOGUE)
    assert sum(kinds.values()) - kinds["equivalent"] >= 36
    assert set(kinds) == {
        *("structure", "weights", "loss", "backward", "training", "data", "numeric", "equivalent"),
    }
    assert len({fault.name for fault in CATALOGUE}) == len(CATALOGUE)
    for fault in CATALOGUE:
        assert fault.description
        assert bool(fault.step) == bool(fault.place) == (fault.kind != "equivalent"), fault.name
        assert fault.step in ("", *STEPS)


@pytest.mark.slow
def test_whole_catalogue_is_found(tmp_path):
    assert main(["--out", str(tmp_path)]) == 0
    rows = json.loads((tmp_path / "faults.json").read_text(encoding="utf-8"))
    assert [row["name"] for row in rows] == [fault.name for fault in CATALOGUE]


def outcome(kind="structure", *, step="forward", place="a", expected=("forward", "a")):
    return Outcome("n", kind, "d", *expected, step, place, reprod_log="missed")


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        ([outcome()], True),
        ([], False),
        ([outcome(step="", place="")], False),
        ([outcome(step="loss")], False),
        ([outcome(place="b")], False),
        ([*[outcome()] * 19, outcome(place="b")], True),
        ([outcome(), outcome("equivalent", expected=("", ""), step="", place="")], True),
        ([outcome(), outcome("equivalent", expected=("", ""))], False),
    ],
    ids=[
        "found", "nothing", "missed", "another step", "another place", "95 % placed",
        "no alarm", "false alarm",
    ],
)  # fmt: skip
def test_verdict_on_the_outcomes(found, verdict):
    assert bool(Outcomes(tuple(found))) is verdict


def test_table_says_what_was_found():
    text = str(Outcomes((outcome(), outcome(place="b"))))
    assert "2 of 2 flagged at the right step, 1 placed exactly" in text
    assert text.count("| NO") == 1


def test_unknown_fault_is_refused(capsys):
    with pytest.raises(AlignmentError, match="fault 'nonsense' is not known; there are align_co"):
        list(run_faults(["nonsense"]))
    assert main(["--only", "nonsense"]) == 2
    assert capsys.readouterr().err.startswith("the faults could not be run: fault 'nonsense'")
