"""The page, its figures and junit.xml, of results made by hand."""

from __future__ import annotations

import base64
import re
import xml.etree.ElementTree as ET
from collections import Counter

import numpy as np
import pytest

from alignment import Report, StepResult
from alignment.compare import TensorResult
from alignment.location import AtCall
from alignment.report.figures import curves_svg, depth_order, depth_svg, ratios_svg
from alignment.report.html import groups
from tests.alignment.report.by_hand import STRANGE, deep, in_all_comparisons, report_of, tensor
from tests.alignment.report.test_report import Page

pytestmark = pytest.mark.timeout(600)  # starts whole runs


def figures_of(html: str) -> list[ET.Element]:
    found = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', html)
    return [ET.fromstring(base64.b64decode(data)) for data in found]


def saved(report, folder) -> str:
    report.save(folder)
    return (folder / "report.html").read_text(encoding="utf-8")


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
    failure = tensor(STRANGE, 1.0, location=AtCall(STRANGE), reason=STRANGE)
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
        (TensorResult.missing("a", None, "missing"),),
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
        StepResult("forward", (*failed, TensorResult.missing("gone", None, "no such tensor"))),
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
