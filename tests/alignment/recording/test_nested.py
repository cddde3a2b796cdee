"""Outputs of any structure: the names of their tensors, and the same structure with others."""

from __future__ import annotations

from collections import OrderedDict, defaultdict, namedtuple
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import pytest

from alignment import AlignmentError
from alignment.recording.nested import OpaqueValueError, flatten, replace_tensors

Point = namedtuple("Point", "x y")


@dataclass(frozen=True)
class Boxes:
    corners: object
    scores: object = None
    label: str = "boxes"


@dataclass
class Late:
    given: object
    made: object = field(init=False, default=None)


class Tensor:
    """Stands for a framework's tensor."""

    def __init__(self, value: int) -> None:
        self.value = value


def is_tensor(value) -> bool:
    return isinstance(value, Tensor)


A, B, C = Tensor(1), Tensor(2), Tensor(3)

STRUCTURES = [
    (A, ["out"]),
    ((A, B), ["out[0]", "out[1]"]),
    ([A, None, B], ["out[0]", "out[2]"]),
    ({"p": A, 3: B}, ["out.p", "out.3"]),
    (OrderedDict(z=A, a=B), ["out.z", "out.a"]),
    (Point(A, B), ["out.x", "out.y"]),
    (Boxes(A, (B, C)), ["out.corners", "out.scores[0]", "out.scores[1]"]),
    (Late(A), ["out.given"]),
    ({"deep": [Point((A,), {"k": Boxes(B)})]}, ["out.deep[0].x[0]", "out.deep[0].y.k.corners"]),
    (MappingProxyType({"p": A}), ["out.p"]),
    ((), []),
    ((None, 1, 2.5, True, "text", np.float32(3)), []),
]


@pytest.mark.parametrize(("value", "names"), STRUCTURES)
def test_flatten_names_tensors_in_order(value, names):
    assert [name for name, _ in flatten(value, is_tensor, "out")] == names


@pytest.mark.parametrize(("value", "names"), STRUCTURES)
def test_replace_keeps_the_structure_and_changes_the_tensors(value, names):
    others = [Tensor(10 + i) for i in range(len(names))]
    made = replace_tensors(value, is_tensor, iter(others))
    assert type(made) is type(value)
    assert list(flatten(made, is_tensor, "out")) == list(zip(names, others, strict=True))
    before = [tensor.value for _, tensor in flatten(value, is_tensor)]
    assert max(before, default=0) < 10, "the given structure was changed"


def test_a_default_dict_keeps_its_default():
    made = replace_tensors(defaultdict(list, p=A), is_tensor, iter([B]))
    assert made["p"] is B
    assert made["new"] == []


def test_other_fields_of_a_dataclass_stay():
    assert replace_tensors(Boxes(A, label="kept"), is_tensor, iter([B])).label == "kept"


@pytest.mark.parametrize("value", [{A}, object(), (A, {"k": iter([A])})])
def test_what_may_hide_tensors_is_refused(value):
    with pytest.raises(OpaqueValueError, match="return tensors in tuples, lists, dicts"):
        list(flatten(value, is_tensor))


def test_a_refused_value_ends_the_comparison_with_a_sentence():
    assert issubclass(OpaqueValueError, AlignmentError)
