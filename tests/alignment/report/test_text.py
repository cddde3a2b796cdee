"""What a screen shows of results made by hand: shares, the verdict, what to look at next."""

from __future__ import annotations

import numpy as np
import pytest

from alignment import Report, StepResult
from alignment.compare import TensorResult
from alignment.location import AtCall, AtGradient, AtWeight, Between
from alignment.report.ratios import ratio, shown_ratio, worst
from alignment.report.text import next_look, step_text, tensor_text
from tests.alignment.report.by_hand import STRANGE, in_all_comparisons, report_of, tensor


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
    text = tensor_text(
        TensorResult.missing("fc.weight", np.ones(3, "float32"), "Paddle gives no such tensor")
    )
    assert text == "fc.weight: Paddle gives no such tensor"
    assert "allowed" not in step_text(
        StepResult("weights", (TensorResult.missing("w", None, "is missing"),))
    )


ADVICE = {
    "layer": (
        "forward",
        tensor("conv", 0.5, by_itself=True, location=AtCall("conv")),
        "look at conv: given torch's own input it computes something else "
        "(error 5.00e-01, allowed 1.00e-06)",
    ),
    "layer on the way back": (
        "backward",
        tensor("conv[0] (input gradient)", 0.5, by_itself=True, location=AtCall("conv")),
        "look at the backward pass of conv: given torch's own values",
    ),
    "layer end to end": (
        "forward",
        tensor("conv", 0.5, location=AtCall("conv#2")),
        "look at conv#2: its values are the first to differ",
    ),
    "random layer": (
        "forward",
        TensorResult.missing("drop", None, "Paddle gives another value each time", AtCall("drop")),
        "look at drop (Paddle gives another value each time)",
    ),
    "between": (
        "forward",
        tensor("b[0] (input)", 0.5, by_itself=True, location=Between("a", "b")),
        "look at the code between a and b: what goes in is right, what comes out is not (error",
    ),
    "between on the way back": (
        "backward",
        tensor("a (output gradient)", 0.5, by_itself=True, location=Between("a", "b")),
        "look at the code between a and b: the gradient that comes back",
    ),
    "weight of other values": (
        "weights",
        tensor("w", 0.5, location=AtWeight("w")),
        "look at where w comes from: its values are not torch's (error",
    ),
    "weight without counterpart": (
        "weights",
        TensorResult.missing("w", None, "w has no counterpart " + "x" * 100, AtWeight("w")),
        "look at w: it has no counterpart that fits; rename and convert join what differs",
    ),
    "weight at fault in a layer": (
        "forward",
        tensor("fc", 0.5, by_itself=True, location=AtWeight("fc.bias")),
        "look at the weight fc.bias: its layer is given torch's own input",
    ),
    "gradient": (
        "backward",
        tensor("w", 0.5, location=AtGradient("w")),
        "look at what w goes through: its gradient is not torch's",
    ),
    "output": (
        "forward",
        tensor("output", 0.5),
        "look at what the model returns as output: it is not what torch's returns",
    ),
    "output that is missing": (
        "forward",
        TensorResult.missing("output.b", None, "Paddle gives no such tensor"),
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
        failed = in_all_comparisons("x" * 70, (12345.0, 12345.0, 12345.0), Between("y" * 70, "z"))
        missing = TensorResult.missing("w", None, reason, AtWeight("w" * 60))
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
    step = StepResult("weights", (TensorResult.missing("w", None, suggestion, AtWeight("w")),))
    assert max(map(len, step_text(step).splitlines())) <= 100
    assert suggestion in " ".join(step_text(step).split())


def test_control_characters_of_names_do_not_reach_the_terminal():
    report = Report(
        STRANGE, (StepResult("forward", (tensor(STRANGE, 1.0, location=AtCall(STRANGE)),)),)
    )
    str(report).encode("utf-8")
    assert "\x1b" not in str(report)
