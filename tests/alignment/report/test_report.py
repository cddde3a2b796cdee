"""The three reports and the reprod_log files, read by other programs than ours."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import numpy as np
import paddle
import pytest
from reprod_log import ReprodDiffHelper

from alignment import Report, StepResult, align
from alignment.compare import TensorResult, compare
from alignment.location import AtGradient
from alignment.report.text import step_text
from tests.alignment.small import PaddleNet, small_pair
from tests.alignment.user_pair import make_pair, strange_name


class Page(HTMLParser):
    """Collects text and holds every opened tag to be closed."""

    EMPTY = ("meta", "br", "img")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open_tags, self.text = [], ""
        self.feed(text)
        assert not self.open_tags

    def handle_starttag(self, tag, _attrs):
        if tag not in self.EMPTY:
            self.open_tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open_tags.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """A report of a misaligned pair and its folder."""
    folder = tmp_path_factory.mktemp("broken")
    return align(small_pair(lambda: PaddleNet(relu1=paddle.nn.Identity())), out=folder), folder


@pytest.fixture(scope="module")
def aligned(tmp_path_factory):
    folder = tmp_path_factory.mktemp("aligned")
    return align(make_pair(0), out=folder), folder


def test_json_file_holds_the_report(broken):
    report, folder = broken
    content = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert content == report.as_dict()
    assert (content["passed"], content["first_divergence"]) == (False, "relu1")


def test_junit_has_a_suite_a_step_and_a_failure_for_each_that_failed(broken):
    report, folder = broken
    root = ET.parse(folder / "junit.xml").getroot()
    suites = {suite.get("name"): suite for suite in root.iter("testsuite")}
    assert list(suites) == [result.step for result in report.steps]
    for result in report.steps:
        suite = suites[result.step]
        assert len(list(suite.iter("testcase"))) == len(result.tensors)
        assert len(list(suite.iter("failure"))) == result.counts["failed"]
    failure = next(suites["forward"].iter("failure"))
    assert "relu1" in failure.get("message")


def test_html_is_well_formed_and_names_the_first_divergence(broken):
    report, folder = broken
    page = Page((folder / "report.html").read_text(encoding="utf-8"))
    assert "relu1" in page.text
    assert "misaligned" in page.text.lower()
    for tensor in report.steps[2].tensors:
        assert tensor.name in page.text


def test_html_of_an_aligned_pair_says_so(aligned):
    page = Page((aligned[1] / "report.html").read_text(encoding="utf-8"))
    assert "Aligned" in page.text
    assert "isaligned" not in page.text


def test_names_are_escaped_in_html_and_xml(tmp_path):
    report = align(strange_name(0), ["data", "metric"], out=tmp_path)
    assert report
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<b>" not in html
    assert "<b>& pair</b>" in Page(html).text.replace("\x1b[1m", "")
    case = next(ET.parse(tmp_path / "junit.xml").getroot().iter("testcase"))
    assert case.get("classname").startswith("<b>&")


def test_step_that_compared_nothing_fails_in_every_form(tmp_path):
    report = Report("p", (StepResult("metric", ()),))
    report.save(tmp_path)
    assert not report
    assert report.first_divergence == "metric:nothing was compared"
    root = ET.parse(tmp_path / "junit.xml").getroot()
    assert len(list(root.iter("failure"))) == 1
    assert "nothing was compared" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_report_without_steps_has_not_passed():
    assert not Report("p", ())


def test_first_divergence_is_the_first_of_the_first_failed_step():
    good = compare("a", np.ones(1), np.ones(1), allowed=0.0)
    bad = TensorResult.missing("b", None, "missing", AtGradient("b"))
    plain = TensorResult.missing("c", None, "missing")
    report = Report(
        "p",
        (StepResult("data", (good,)), StepResult("loss", (good, plain)), StepResult("x", (bad,))),
    )
    assert report.first_divergence == "loss:c"
    assert report.steps[2].first_divergence == "grad:b"
    assert report.steps[0].first_divergence is None


def test_declared_tensors_do_not_fail_and_are_counted():
    shown = compare("a", np.ones(1), np.zeros(1), allowed=0.0, decides=False)
    step = StepResult("backward", (shown,))
    assert step
    assert "1 declared" in step_text(step)


@pytest.mark.parametrize("step", ["data", "forward", "metric", "loss", "backward"])
def test_reprod_log_reads_both_files_and_finds_no_difference(aligned, step):
    helper = ReprodDiffHelper()
    theirs, ours = (
        helper.load_info(str(aligned[1] / f"{step}_{side}.npy")) for side in ("torch", "paddle")
    )
    assert theirs
    assert theirs.keys() == ours.keys()
    assert all(theirs[name].shape == ours[name].shape for name in theirs)
    helper.compare_info(theirs, ours)
    assert all(values["max"] < 1e-5 for values in helper.diff_dict.values())


def test_reprod_log_finds_the_difference_of_a_broken_pair(broken):
    helper = ReprodDiffHelper()
    infos = (
        helper.load_info(str(broken[1] / f"forward_{side}.npy")) for side in ("torch", "paddle")
    )
    helper.compare_info(*infos)
    different = {name for name, values in helper.diff_dict.items() if values["max"] > 1e-5}
    assert "layer/relu1" in different
    assert not different & {"layer/conv1", "layer/bn"}


def test_reprod_log_files_agree_in_names_when_layers_are_renamed(tmp_path):
    class Renamed(paddle.nn.Layer):
        def __init__(self):
            super().__init__()
            self.layers = paddle.nn.Sequential(
                paddle.nn.Linear(4, 5), paddle.nn.ReLU(), paddle.nn.Linear(5, 3)
            )

        def forward(self, x):
            return self.layers(x)

    import dataclasses

    pair = dataclasses.replace(make_pair(0), paddle_model=Renamed, rename={r"^layers\.(\d)": r"\1"})
    assert align(pair, out=tmp_path)
    helper = ReprodDiffHelper()
    theirs, ours = (
        helper.load_info(str(tmp_path / f"backward_{side}.npy")) for side in ("torch", "paddle")
    )
    assert {name: a.shape for name, a in theirs.items()} == {n: a.shape for n, a in ours.items()}


def test_no_temporary_file_is_left(aligned):
    names = {path.name for path in aligned[1].iterdir()}
    assert {"report.json", "junit.xml", "report.html"} <= names
    assert not [name for name in names if name.startswith(".") or "tmp" in name]
