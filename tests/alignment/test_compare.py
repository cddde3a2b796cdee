"""The judge of one tensor, on hand-sized arrays with known answers."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from alignment.compare import SHOWN_ONLY, TensorResult, compare, relative_error, scale_of
from alignment.location import AtCall

ARRAY = np.array([[1.0, -2.0], [3.0, 4.0]], np.float32)


def judged(reference, ours, allowed=1e-6, **options):
    return compare("x", np.asarray(reference), np.asarray(ours), allowed=allowed, **options)


def test_equal_arrays_pass_with_error_zero():
    result = judged(ARRAY, ARRAY.copy(), allowed=0.0)
    assert (result.status, result.error, result.reason) == ("passed", 0.0, "")
    assert (result.shape, result.dtype) == ((2, 2), "float32")
    assert result


def test_error_is_the_largest_difference_over_the_largest_value():
    result = judged([1.0, -4.0], [1.0, -4.5], allowed=1.0)
    assert result.error == 0.125


def test_error_at_the_bound_passes_and_just_above_fails():
    assert judged([0.0, 8.0], [1.0, 8.0], allowed=0.125)
    assert not judged([0.0, 8.0], [1.0, 8.0], allowed=0.1249)


@pytest.mark.parametrize(
    ("ours", "reason"),
    [
        (np.ones((1, 3)), r"shape \[1, 3\] where the reference has \[3\]"),
        (np.ones(()), r"shape \[\] where the reference has \[3\]"),
        (np.ones(3, np.float32), "dtype float32 where float64 is expected"),
        (np.ones(3, np.int64), "dtype int64 where float64 is expected"),
        (np.array([1, np.nan, 1]), "NaN in 1 of 3 elements, in ours alone"),
        (np.array([1, np.inf, -np.inf]), r"\+infinity in 1 of 3 elements, in ours alone"),
        (np.array([1, 1, -np.inf]), "-infinity in 1 of 3 elements, in ours alone"),
    ],
)
def test_what_can_not_be_compared_fails_without_an_error(ours, reason):
    result = judged(np.ones(3), ours, allowed=1e9)
    assert (result.status, result.error) == ("failed", None)
    assert result.reason == reason.replace("\\", "")


def test_nan_in_the_reference_alone_fails():
    result = judged([1.0, np.nan], [1.0, 1.0], allowed=1e9)
    assert not result
    assert result.reason == "NaN in 1 of 2 elements, in the reference alone"


def test_infinities_of_either_sign_are_not_the_same():
    assert not judged([1.0, np.inf], [1.0, -np.inf], allowed=1e9)


def test_same_nan_and_infinity_on_both_sides_pass_beside_finite_elements():
    values = [1.0, np.nan, np.inf, -np.inf]
    assert judged(values, values).error == 0.0
    assert not judged(values, [2.0, np.nan, np.inf, -np.inf])


def test_nothing_finite_on_either_side_is_no_comparison():
    assert "nothing was compared" in judged([np.nan], [np.nan]).reason


def test_transposed_square_matrix_is_not_transposed_back():
    assert not judged(ARRAY, ARRAY.T.copy(), allowed=0.1)


def test_one_element_off_in_a_million_fails():
    reference = np.ones(10**6, np.float32)
    ours = reference.copy()
    ours[123_456] += 0.9
    result = judged(reference, ours, allowed=1e-3)
    assert not result
    assert result.reason.startswith("worst at [123456]: 1.89999")


def test_empty_arrays_compare_nothing_and_fail():
    result = judged(np.ones((0, 3)), np.ones((0, 3)))
    assert not result
    assert result.reason == "the tensor is empty: nothing was compared"


def test_zero_reference_allows_zero_only():
    zeros = np.zeros(3)
    assert judged(zeros, zeros).error == 0.0
    result = judged(zeros, [0.0, 1e-30, 0.0], allowed=0.5)
    assert (result.status, result.error) == ("failed", None)
    assert "the reference is 0 everywhere" in result.reason


def test_integers_are_equal_or_not():
    assert judged([1, 2], [1, 2], allowed=0.0)
    assert not judged([1, 2], [1, 3], allowed=0.0)


def test_integers_past_float64_are_told_apart():
    assert not judged([2**60], [2**60 + 1], allowed=0.0)
    extremes = np.iinfo(np.int64)
    assert not judged([extremes.max], [extremes.min], allowed=0.0)


def test_unsigned_difference_does_not_wrap():
    result = judged(np.array([3], np.uint8), np.array([4], np.uint8), allowed=1.0)
    assert result.error == pytest.approx(1 / 3)


def test_booleans_that_differ_fail_with_both_values():
    result = judged([True, False], [True, True], allowed=0.0)
    assert result.reason == "worst at [1]: True, reference False"


def test_zero_dimensional_values():
    assert judged(2.0, 2.0 + 1e-9)
    assert judged(2.0, 2.1).reason == "worst: 2.1, reference 2"


def test_imaginary_part_counts():
    assert judged([1 + 1j], [1 + 1j])
    assert not judged([1 + 1j], [1 + 2j])
    assert "NaN" in judged([1 + 1j], [complex(1, np.nan)]).reason


def test_text_is_no_tensor():
    assert judged(np.array(["a"]), np.array(["a"])).reason == "dtype <U1 holds no numbers"


def test_half_precision_does_not_overflow_in_the_difference():
    reference, ours = np.array([60000], np.float16), np.array([-60000], np.float16)
    assert judged(reference, ours).error == 2.0


def test_differences_beyond_float64_fail_without_an_error():
    result = judged([1e308, 1.0], [-1e308, 1.0], allowed=0.5)
    assert (result.status, result.error) == ("failed", None)


def test_expected_dtype_may_differ_from_the_reference():
    reference = np.ones(2)
    assert judged(reference, np.ones(2, np.float32), dtype="float32")
    assert not judged(reference, np.ones(2), dtype="float32")


def test_small_tensors_are_measured_by_their_kind():
    reference, ours = np.array([1e-15]), np.array([-1e-15])
    assert not judged(reference, ours, allowed=1e-3)
    allowed = judged(reference, ours, allowed=1e-3, scale=1.0)
    # The error stays relative to the tensor itself; what is allowed grows instead.
    assert allowed.status == "passed"
    assert (allowed.error, allowed.allowed) == (pytest.approx(2.0), pytest.approx(1e3))
    assert not judged([1e-3], [1.1e-3], allowed=1e-3, scale=1.0)


def test_an_undecided_comparison_is_declared_with_its_error():
    result = judged([1.0], [1.5], decides=False)
    assert (result.status, result.error, result.reason) == ("declared", 0.5, SHOWN_ONLY)
    assert judged([0.0], [1.0], decides=False).status == "declared"
    assert judged([1.0], [1.0], decides=False).status == "passed"


def test_an_undecided_comparison_still_fails_on_nan_shape_and_dtype():
    for ours in (np.array([np.nan]), np.ones((1, 1)), np.ones(1, np.float32)):
        assert not judged(np.ones(1), ours, decides=False)


def test_jumps_exempt_what_the_reference_does_and_no_more():
    reference, discontinuities = np.array([1.0, 0.0, 1.0]), np.array([0.0, 0.2, 0.0])
    declared = judged(reference, [1.0, 0.2, 1.0], discontinuities=discontinuities)
    assert (declared.status, declared.error) == ("declared", 0.0)
    assert "1 of 3 elements" in declared.reason
    assert not judged(reference, [1.0, 0.5, 1.0], discontinuities=discontinuities)
    elsewhere = judged(reference, [1.2, 0.2, 1.0], discontinuities=discontinuities)
    assert not elsewhere
    assert "at [0]" in elsewhere.reason


def test_absent_tensor_has_failed():
    result = TensorResult.missing("x", np.ones((2, 1)), "no such tensor", AtCall("a"))
    assert (result.status, result.error, result.shape) == ("failed", None, (2, 1))
    assert result.location == AtCall("a")


def test_float32_that_overflows_has_an_infinite_error():
    exact = np.array([1.0, 1e60])
    assert relative_error(exact, np.array([1.0, np.inf], np.float32)) == math.inf
    assert relative_error(exact, exact) == 0.0
    assert relative_error(np.array([1.0]), np.array([1.5])) == 0.5


def test_relative_error_leaves_jumps_out():
    exact, other = np.array([1.0, 2.0]), np.array([1.0, 3.0])
    assert relative_error(exact, other, discontinuities=np.array([0.0, 1.0])) == 0.0


def test_scale_of_a_kind_is_not_that_of_an_attention_mask():
    ordinary = [np.array([float(value)]) for value in (1, 2, 3)]
    assert scale_of(ordinary) == 3.0
    assert scale_of([*ordinary, np.array([-3e38])]) == 2500.0
    assert scale_of([]) == 0.0
    assert scale_of([np.zeros(2)]) == 0.0


def test_a_bar_grows_with_the_error():
    bars = [judged([1.0], [1.0 + e], allowed=1e-3).bar_percent for e in (0, 1e-8, 1e-5, 1e-3, 1)]
    assert bars == sorted(bars)
    assert (bars[0], bars[-1]) == (0, 100)
    assert TensorResult.missing("x", None, "").bar_percent == 100


FINITE = st.floats(-1e6, 1e6)


@example(pair=(np.array(5e-324), np.array(0.0)), allowed=1.0)
@example(pair=(np.array(5e-324), np.array(1.0)), allowed=2.0)
@settings(max_examples=60, deadline=None)
@given(
    pair=hnp.array_shapes(min_dims=0, max_dims=3, max_side=4).flatmap(
        lambda shape: st.tuples(
            hnp.arrays(np.float64, shape, elements=FINITE),
            hnp.arrays(np.float64, shape, elements=FINITE),
        )
    ),
    allowed=st.floats(0, 2),
)
def test_verdict_agrees_with_a_computation_in_plain_python(pair, allowed):
    reference, ours = pair
    differences = [
        abs(a - b) for a, b in zip(reference.ravel().tolist(), ours.ravel().tolist(), strict=True)
    ]
    largest = max(map(abs, reference.ravel().tolist()))
    result = judged(reference, ours, allowed=allowed)
    if max(differences) == 0:
        assert (result.status, result.error) == ("passed", 0.0)
        return
    # Exact, since the quotient of a difference and the smallest numbers overflows.
    expected = Fraction(max(differences)) / Fraction(largest) if largest else None
    if expected is None or expected > 1e300:
        assert not result
    else:
        assert result.error == pytest.approx(float(expected), rel=1e-12)
        assert bool(result) == (result.error <= allowed)


@settings(max_examples=40, deadline=None)
@given(hnp.arrays(np.float32, (2, 3), elements=st.floats(width=32)))
def test_no_array_differs_from_itself(array):
    result = judged(array, array.copy(), allowed=0.0)
    assert bool(result) == bool(np.isfinite(array).any())
