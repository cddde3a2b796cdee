"""junit.xml: a suite a step, a case a comparison, as CI systems read it.

It keeps to Jenkins' schema (junit-10.xsd): the numbers in the attributes are right, no two cases
of a class share a name, and no character stands in it that XML has no way to write. Nothing is
timed tensor by tensor, so every time is 0.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from alignment.compare import TensorResult
from alignment.report.ratios import printable
from alignment.report.text import comparison_text, tensor_text

if TYPE_CHECKING:
    from junitparser import JUnitXml, TestCase, TestSuite

    from alignment.report.results import AlignmentResults, StepResult


def junit(report: AlignmentResults) -> JUnitXml:
    """Return the report as a JUnit document."""
    from junitparser import JUnitXml

    xml = JUnitXml(printable(report.pair))
    for step in report.steps:
        xml.add_testsuite(_suite(report, step))
    # update_statistics would write `skipped`, which the schema does not have at this place.
    tensors = [tensor for step in report.steps for tensor in step.tensors]
    nothing = sum(not step.tensors for step in report.steps)
    xml.tests = len(tensors) + nothing
    xml.failures = sum(tensor.failed for tensor in tensors) + nothing
    xml.errors, xml.time = 0, 0
    return xml


def _suite(report: AlignmentResults, step: StepResult) -> TestSuite:
    from junitparser import TestSuite

    suite = TestSuite(printable(step.step))
    for name, value in report.environment.items():
        suite.add_property(printable(name), printable(value))
    class_name = printable(f"{report.pair}.{step.step}")
    names, cases = Counter(), []
    for tensor in step.tensors:
        name = printable(f"{tensor.name} [{comparison_text(tensor)}]")
        names[name] += 1
        # Integers stand twice: they are compared beside float64 and beside float32.
        unique = name if names[name] == 1 else f"{name} ({names[name]})"
        cases.append(_case(unique, class_name, tensor))
    suite.add_testcases(cases or [_case("something is compared", class_name, None)])
    for number, note in enumerate(step.notes, 1):
        suite.add_property(f"note {number}", printable(note))
    return suite


def _case(name: str, class_name: str, tensor: TensorResult | None) -> TestCase:
    from junitparser import Failure, TestCase

    case = TestCase(name, class_name, 0)
    if tensor is None:
        case.result = [Failure("nothing was compared", "NothingCompared")]
    elif tensor.failed:
        kind = "NotComparable" if tensor.error is None else "Divergence"
        case.result = [Failure(printable(tensor_text(tensor)), kind)]
    return case
