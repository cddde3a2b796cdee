"""What the reports show of results made by hand: the screen, the page, its figures, junit.xml."""

from __future__ import annotations

import base64
import re
import xml.etree.ElementTree as ET
from collections import Counter

import numpy as np
import pytest

from alignment import Report, StepResult
from alignment.compare import TensorResult, absent
from alignment.page import groups
from alignment.plots import curves_svg, depth_order, depth_svg, ratios_svg
from alignment.ratios import ratio, shown_ratio, worst
from alignment.summary import next_look, step_text, tensor_text
from tests.alignment.test_report import Page

STRANGE = "<i>&\"'$x^{$_é層\x1b[1m\x00\ud800 name</i>"


def tensor(
    name="a", error=1e-7, allowed=1e-6, *, by_itself=False, dtype="float32", status=None, **more
):
    status = status or ("passed" if error is not None and error <= allowed else "failed")
    comparison = "by_itself" if by_itself else "end_to_end"
    return TensorResult(name, comparison, (2, 3), dtype, error, allowed, status, **more)


def in_all_comparisons(name, errors, place=""):
    by_itself, float64, float32 = errors
    return (
        tensor(name, by_itself, by_itself=True, place=place),
        tensor(name, float64, 1e-5, dtype="float64", place=place),
        tensor(name, float32, place=place),
    )


def deep(count, fault=None):
    """A step of `count` layers; the fault is in one and is carried on by those behind it."""
    results = []
    for i in range(count):
        own = 0.5 if i == fault else 1e-7 * (i % 3)
        end = own if fault is None or i < fault else 0.3
        results += in_all_comparisons(f"block{i}.conv", (own, end * 1e-3, end), f"block{i}.conv")
    results.sort(key=lambda t: t.comparison != "by_itself")
    return StepResult("forward", tuple(results))


def report_of(*steps, **more):
    return Report("pair", tuple(steps), {"python": "3"}, {"inputs[0]": "ab" * 32}, **more)


def figures_of(html: str) -> list[ET.Element]:
    found = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', html)
    return [ET.fromstring(base64.b64decode(data)) for data in found]


def saved(report, folder) -> str:
    report.save(folder)
    return (folder / "report.html").read_text(encoding="utf-8")


# The screen ------------------------------------------------------------------------------------


def test_summary_of_a_step_gives_shares_of_what_is_allowed():
    step = StepResult("forward", in_all_comparisons("a", (5e-7, 1e-7, 2e-8)))
    assert step_text(step) == (
        "forward    passed  1 compared, by itself 50%, float64 1.0%, float32 2.0% of allowed"
    )


def test_gradient_that_is_zero_but_for_rounding_is_not_the_worst():
    tiny = tensor("bias", 2.2, 110.0, dtype="float64")
    usual = tensor("weight", 1e-8, 1e-5, dtype="float64")
    noise = tensor("key", 1e8, 1e-6, dtype="float64", status="declared", reason="rounding")
    assert worst([tiny, usual, noise], "float64") is usual
    assert "2.2" not in step_text(StepResult("backward", (tiny, usual, noise)))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0%"), (1e-9, "<0.1%"), (0.0123, "1.2%"), (0.5, "50%"), (1.0, "100%"),
        (1.02, "1.02x"), (999.0, "999x"), (999.9, "1e3x"), (1.2e6, "1e6x"), (1e12, "1e12x"),
        (float("inf"), "infx"),
    ],
)  # fmt: skip
def test_ratio_is_short(value, text):
    assert shown_ratio(value) == text


def test_exact_comparisons_have_no_share():
    assert ratio(tensor(error=0.0, allowed=0.0)) == 0.0
    assert ratio(tensor(error=1.0, allowed=0.0)) == float("inf")
    assert ratio(tensor(error=None)) is None
    line = step_text(StepResult("weights", (tensor(error=0.0, allowed=0.0),)))
    assert line == "weights    passed  1 compared"


def test_absent_tensor_is_told_by_its_reason_alone():
    text = tensor_text(absent("fc.weight", np.ones(3, "float32"), "Paddle gives no such tensor"))
    assert text == "fc.weight, end to end in float32: Paddle gives no such tensor"
    assert "allowed" not in str(StepResult("weights", (absent("w", None, "is missing"),)))


ADVICE = {
    "layer": (
        "forward",
        tensor("conv", 0.5, by_itself=True, place="conv"),
        "look at conv: given torch's own input it computes something else "
        "(error 5.00e-01, allowed 1.00e-06)",
    ),
    "layer on the way back": (
        "backward",
        tensor("conv[0] (input gradient)", 0.5, by_itself=True, place="conv"),
        "look at the backward pass of conv: given torch's own values",
    ),
    "layer end to end": (
        "forward",
        tensor("conv", 0.5, place="conv#2"),
        "look at conv#2: its values are the first to differ",
    ),
    "random layer": (
        "forward",
        absent("drop", None, "Paddle gives another value each time", "drop"),
        "look at drop (Paddle gives another value each time)",
    ),
    "between": (
        "forward",
        tensor("b[0] (input)", 0.5, by_itself=True, place="a -> b"),
        "look at the code between a and b: what goes in is right, what comes out is not (error",
    ),
    "between on the way back": (
        "backward",
        tensor("a (output gradient)", 0.5, by_itself=True, place="a -> b"),
        "look at the code between a and b: the gradient that comes back",
    ),
    "weight of other values": (
        "weights",
        tensor("w", 0.5, place="weights:w"),
        "look at where w comes from: its values are not torch's (error",
    ),
    "weight without counterpart": (
        "weights",
        absent("w", None, "w has no counterpart " + "x" * 100, "weights:w"),
        "look at w: it has no counterpart that fits; rename and convert join what differs "
        "(the reason stands above)",
    ),
    "weight at fault in a layer": (
        "forward",
        tensor("fc", 0.5, by_itself=True, place="weights:fc.bias"),
        "look at the weight fc.bias: its layer is given torch's own input",
    ),
    "gradient": (
        "backward",
        tensor("w", 0.5, place="grad:w"),
        "look at what w goes through: its gradient is not torch's",
    ),
    "output": (
        "forward",
        tensor("output", 0.5),
        "look at what the model returns as output: it is not what torch's returns",
    ),
    "output that is missing": (
        "forward",
        absent("output.b", None, "Paddle gives no such tensor"),
        "look at output.b in the step forward (Paddle gives no such tensor)",
    ),
    "loss": ("loss", tensor("loss", 0.5), "look at loss among the pair's losses"),
    "input": ("data", tensor("inputs[0]", 1.0, 0.0), "look at what the pair gives for inputs[0]"),
    "check": ("metric", tensor("mIoU", 0.5), "look at mIoU in the step metric: it is the first"),
    "train": ("train", tensor("step 3: w", 0.5), "look at step 3: w, and at the optimizer"),
}


@pytest.mark.parametrize("case", ADVICE)
def test_next_look_says_what_the_first_divergence_means(case):
    step, failure, sentence = ADVICE[case]
    report = report_of(StepResult(step, (tensor("good"), failure, tensor("later", 1.0))))
    assert next_look(report).startswith(sentence)
    *_, verdict, following = str(report).partition("MISALIGNED")[2].partition("next ")
    assert verdict
    assert " ".join(following.split()) == next_look(report)


def test_next_look_where_nothing_was_compared_or_all_is_well():
    assert "nothing was compared" in next_look(report_of(StepResult("metric", ())))
    assert "nothing was" in next_look(report_of())
    assert next_look(report_of(StepResult("data", (tensor(),)))) == ""


def test_long_notes_are_cut_in_the_text_and_whole_in_json():
    note = "called in torch only: " + ", ".join(f"layer{i}" for i in range(100))
    report = report_of(StepResult("forward", (tensor(),), (note,)))
    line = next(line for line in str(report).splitlines() if line.startswith("note"))
    assert len(line) <= 100
    assert line.endswith(" …")
    assert report.as_dict()["steps"][0]["notes"] == [note]


def test_summary_fits_a_screen_however_much_failed():
    reason = "Paddle's w has no counterpart in torch; rename = " + "{'a': 'b'}, " * 200
    names = ("data", "weights", "forward", "preprocess", "metric", "loss", "backward", "train")
    notes = tuple(f"note {i}: " + "word " * 50 for i in range(30))
    steps = []
    for name in names:
        failed = in_all_comparisons("x" * 70, (12345.0, 12345.0, 12345.0), f"{'y' * 70} -> z")
        missing = absent("w", None, reason, f"weights:{'w' * 60}")
        many = [tensor(f"t{i}", status="declared", reason="r") for i in range(5000)]
        steps.append(StepResult(name, (missing, *failed, *many), notes))
    lines = str(report_of(*steps)).splitlines()
    assert len(lines) <= 23
    assert all(len(line) <= 100 for line in lines if not line.startswith("MISALIGNED"))
    assert any(line.startswith("note ") for line in lines)
    assert [line.split()[0] for line in lines if "FAILED" in line] == list(names)


def test_long_suggestion_of_rename_is_wrapped_and_whole():
    suggestion = "w has no counterpart; rename = " + ", ".join(
        f"r'^x{i}\\b': 'y{i}'" for i in range(9)
    )
    step = StepResult("weights", (absent("w", None, suggestion, "weights:w"),))
    assert max(map(len, str(step).splitlines())) <= 100
    assert suggestion in " ".join(str(step).split())


def test_control_characters_of_names_do_not_reach_the_terminal():
    report = Report(STRANGE, (StepResult("forward", (tensor(STRANGE, 1.0, place=STRANGE),)),))
    str(report).encode("utf-8")
    assert "\x1b" not in str(report)


# The page --------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 4, 700])
@pytest.mark.parametrize("fault", [None, 0])
def test_page_holds_its_figures_and_needs_no_other_file(count, fault, tmp_path):
    html = saved(report_of(deep(count, fault)), tmp_path)
    Page(html)
    assert len(figures_of(html)) == 2
    assert "http" not in html
    assert not re.findall(r'(?:src|href)="(?!data:|#)', html)


def test_page_names_fault_first_and_what_to_look_at(tmp_path):
    text = Page(saved(report_of(deep(9, 4)), tmp_path)).text
    place = text.index("Misaligned: the first divergence is block4.conv")
    look = text.index("Next: look at block4.conv: given torch's own input")
    assert place < look < text.index("Error along the depth") < text.index("Environment")
    assert "ab" * 32 in text


def test_page_of_a_long_training_stays_light_and_counts_the_rest(tmp_path):
    failed = [tensor(f"step 3: bad{i}", 1.0, reason="worst at [0]: 1") for i in range(500)]
    shown = [tensor(f"step 4: shown{i}", 1.0, status="declared", reason="r") for i in range(3000)]
    passed = [tensor(f"step 5: w{i}", 1e-7 if i != 777 else 9e-7) for i in range(9000)]
    report = report_of(StepResult("train", (*failed, *shown, *passed)), deep(700))
    html = saved(report, tmp_path)
    assert len(html) < 3e6
    page = Page(html).text
    assert "300 tensors more failed" in page
    assert "2950 tensors more declared" in page
    assert "8950 tensors more passed" in page
    assert "step 3: bad199" in page
    assert "step 3: bad200" not in page
    assert "step 5: w777" in page
    assert sum(len(step["tensors"]) for step in report.as_dict()["steps"]) == 12500 + 2100


def test_comparisons_of_a_tensor_stand_beside_each_other():
    step = StepResult("forward", in_all_comparisons("a", (1.0, 1e-7, 2e-7)))
    (group,) = groups(step)
    (row,) = group.rows
    assert (group.status, row.name, row.status) == ("failed", "a", "failed")
    assert [row.cell(s)[0].error for s in ("by itself", "float64", "float32")] == [1.0, 1e-7, 2e-7]


def test_a_place_that_is_the_worst_in_two_comparisons_is_told_once():
    reasons = ("worst at [1]: 2.5, reference 0", "worst at [1]: 2.50001, reference 0", "other")
    results = tuple(tensor("a", 1.0, reason=reason) for reason in reasons)
    (group,) = groups(StepResult("forward", results))
    assert sorted(group.rows[0].reasons.split("; ")) == sorted([reasons[0], reasons[2]])


def test_strange_names_are_escaped_everywhere(tmp_path, recwarn):
    failure = tensor(STRANGE, 1.0, place=STRANGE, reason=STRANGE)
    step = StepResult("forward", (failure, tensor(STRANGE + "2", by_itself=True)), (STRANGE,))
    report = Report(STRANGE, (step,), {STRANGE: STRANGE}, {STRANGE: "0"}, {"torch": [1.0, 2.0]})
    html = saved(report, tmp_path)
    Page(html)
    assert "<i>" not in html
    assert not recwarn.list
    assert len(figures_of(html)) == 3
    assert ET.parse(tmp_path / "junit.xml").getroot().find(".//failure") is not None


# Figures ---------------------------------------------------------------------------------------


def test_depth_fits_the_two_orders_into_one():
    by_itself = [tensor(n, by_itself=True) for n in ("a[0] (input)", "a", "b[0] (input)", "b")]
    end_to_end = [tensor(n) for n in ("first", "a", "ab", "ab2", "b", "output")]
    order = depth_order([*by_itself, *end_to_end])
    assert list(order) == [
        "first", "a[0] (input)", "a", "ab", "ab2", "b[0] (input)", "b", "output",
    ]  # fmt: skip
    assert list(order.values()) == list(range(8))


@pytest.mark.parametrize(
    "results",
    [
        (tensor(error=0.0),),
        (tensor(error=0.0, allowed=0.0), tensor("b", 1.0, 0.0)),
        (absent("a", None, "missing"),),
        (tensor(error=None, reason="NaN"), tensor("b", 0.0), tensor("c", 1e300)),
        (tensor(error=2.0, allowed=1e9),),
        (tensor(error=5e-324),),
    ],
    ids=["zero", "exact", "absent", "nan", "zero but for rounding", "denormal"],
)
def test_figures_can_be_drawn_of_anything(results, recwarn):
    ET.fromstring(depth_svg(StepResult("forward", results)))
    numbers = [t for t in results if t.error is not None and t.allowed]
    if numbers:
        ET.fromstring(ratios_svg(numbers))
    assert not recwarn.list


@pytest.mark.parametrize(
    "curves",
    [
        {"torch": [2.0, 1.0], "paddle": [2.0, 1.1], "lowest": [2.0, 0.9], "highest": [2.0, 1.2]},
        {"torch": [1e4, 1e-3], "paddle": [1e4, float("nan")]},
        {"torch": [float("inf")], "paddle": [float("nan")]},
        {"torch": [0.0, -1.0], "paddle": []},
    ],
)
def test_curves_are_drawn_and_decide_nothing(curves, tmp_path, recwarn):
    ET.fromstring(curves_svg(curves))
    report = report_of(StepResult("train", (tensor(),)), curves=curves)
    assert report
    text = Page(saved(report, tmp_path)).text
    assert "This decides nothing" in text
    kept = report.as_dict()["curves"]
    assert kept.keys() == curves.keys()
    assert all(v is None or np.isfinite(v) for values in kept.values() for v in values)
    assert not recwarn.list


def test_drawing_leaves_matplotlib_as_it_was():
    import matplotlib

    before = dict(matplotlib.rcParams)
    depth_svg(deep(3))
    assert dict(matplotlib.rcParams) == before


# junit.xml -------------------------------------------------------------------------------------


def test_junit_keeps_to_the_schema(tmp_path):
    integers = tensor("n", 0.0, 0.0, dtype="int64")
    failed = in_all_comparisons("a", (1.0, 1e-7, 2.0))
    steps = (
        StepResult("data", (integers, integers), ("a remark\x00",)),
        StepResult("forward", (*failed, absent("gone", None, "no such tensor"))),
        StepResult("metric", ()),
    )
    saved(report_of(*steps), tmp_path)
    root = ET.parse(tmp_path / "junit.xml").getroot()
    assert root.tag == "testsuites"
    assert set(root.attrib) == {"name", "tests", "failures", "errors", "time"}
    for element in [root, *root]:
        cases, failures = list(element.iter("testcase")), list(element.iter("failure"))
        counts = {name: int(element.get(name)) for name in ("tests", "failures", "errors")}
        assert counts == {"tests": len(cases), "failures": len(failures), "errors": 0}
        assert float(element.get("time")) == 0
    assert [suite.get("name") for suite in root] == ["data", "forward", "metric"]
    names = Counter((c.get("classname"), c.get("name")) for c in root.iter("testcase"))
    assert max(names.values()) == 1
    assert ("pair.forward", "a [by itself in float32]") in names
    assert ("pair.forward", "a [end to end in float64]") in names
    assert all(float(case.get("time")) == 0 for case in root.iter("testcase"))
    for failure in root.iter("failure"):
        assert failure.get("message")
        assert failure.get("type") in ("Divergence", "NotComparable", "NothingCompared")
    assert [child.tag for child in root[0]] == ["properties", *["testcase"] * 2]
    properties = {p.get("name"): p.get("value") for p in root[0].iter("property")}
    assert properties == {"python": "3", "note 1": "a remark\ufffd"}
