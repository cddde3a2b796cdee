"""Which steps run, what is refused, and that nothing compared is nothing proved."""

from __future__ import annotations

import numpy as np
import paddle
import paddle.nn.functional as PF
import pytest
import torch
import torch.nn.functional as F

from alignment import AlignmentError, Pair, align
from tests.alignment.small import (
    PaddleNet,
    Through,
    TorchFunction,
    images,
    small_pair,
)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"torch_model": lambda: 1 / 0}, "torch_model raised ZeroDivisionError: division by zero"),
        ({"paddle_model": lambda: 1 / 0}, "paddle_model raised ZeroDivisionError"),
        ({"torch_model": "net"}, "torch_model is a str; give a torch.nn.Module or a function"),
        ({"paddle_model": lambda: None}, "paddle_model gave a NoneType, not a paddle.nn.Layer"),
        (
            {"paddle_model": lambda: PaddleNet(relu1=Through(lambda _x: 1 / 0))},
            "the Paddle side in float32 raised ZeroDivisionError: division by zero",
        ),
        (
            {"paddle_model": lambda: PaddleNet(relu1=Through(lambda x: x @ paddle.ones([5, 5])))},
            "the Paddle side in float32 raised ValueError: .*matmul",
        ),
        (
            {"torch_model": lambda: torch.nn.Linear(99, 1)},
            "the torch side in float32 raised RuntimeError: .*",
        ),
        (
            {"torch_loss": lambda o, t: F.cross_entropy(o, t, reduction="none")},
            r"torch_loss gives shape \[2\]; give a scalar",
        ),
        (
            {"paddle_loss": lambda o, t: PF.cross_entropy(o, t, reduction="none")},
            r"paddle_loss gives shape \[2\]; give a scalar",
        ),
        ({"torch_loss": lambda _o, _t: 1.0}, "torch_loss gives a float; give a scalar tensor"),
        ({"paddle_loss": lambda _o, _t: 1.0}, "paddle_loss gives a float; give a scalar tensor"),
        ({"paddle_loss": lambda _o: 1.0}, "raised TypeError: .*positional argument"),
    ],
)
def test_what_can_not_be_run_is_one_sentence(changes, sentence):
    with pytest.raises(AlignmentError, match=sentence) as raised:
        align(small_pair(**changes))
    assert "\n" not in str(raised.value)


def test_steps_run_in_their_own_order_and_once():
    report = align(small_pair(), ["loss", "data", "forward", "data"])
    assert [result.step for result in report.steps] == ["data", "forward", "loss"]


def test_one_step_may_be_given_by_its_name_alone():
    assert [result.step for result in align(small_pair(), "data").steps] == ["data"]


@pytest.mark.parametrize("steps", [["nonsense"], ["train"], ["data", "metric"], "f"])
def test_step_that_the_pair_lacks_is_refused(steps):
    with pytest.raises(
        AlignmentError, match=r"the pair small has no step .*; it has data, weights"
    ):
        align(small_pair(), steps)


def test_no_step_is_refused():
    with pytest.raises(AlignmentError, match="no step is named"):
        align(small_pair(), [])


def test_pair_without_a_loss_has_no_loss_and_no_backward():
    pair = small_pair(torch_loss=None, paddle_loss=None, targets=())
    assert pair.steps() == ("data", "weights", "forward")
    assert align(pair)


def test_loss_that_depends_on_nothing_leaves_backward_with_nothing_and_failed():
    report = align(
        small_pair(
            torch_loss=lambda _o, _t: torch.tensor(1.0),
            paddle_loss=lambda _o, _t: paddle.to_tensor(1.0),
        ),
        ["backward"],
    )
    assert report.first_divergence == "backward:nothing was compared"


def test_model_without_an_output_compares_nothing_and_fails():
    pair = Pair(
        name="empty",
        torch_model=lambda: TorchFunction(lambda _x: None),
        paddle_model=lambda: Through(lambda _x: None),
        inputs=(images((2, 3)),),
    )
    assert align(pair, ["forward"]).first_divergence == "forward:nothing was compared"


def test_empty_batch_is_no_proof():
    pair = Pair(
        name="empty batch",
        torch_model=lambda: TorchFunction(lambda x: x + 1),
        paddle_model=lambda: Through(lambda x: x + 1),
        inputs=(np.zeros((0, 3), np.float32),),
    )
    report = align(pair)
    assert report.first_divergence == "data:inputs[0]"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"mode": "test"}, "mode 'test' is not known"),
        ({"inputs": ()}, "inputs is empty"),
        ({"inputs": images()}, "inputs is a ndarray; give a tuple of numpy arrays"),
        ({"inputs": ([1.0],)}, r"inputs\[0\] is list; give numpy arrays"),
        ({"inputs": (np.array(["a"]),)}, r"inputs\[0\] has dtype <U1; give numbers"),
        ({"targets": (3,)}, r"targets\[0\] is int; give numpy arrays"),
        ({"torch_loss": None}, "torch_loss is missing; give both losses or neither"),
        ({"paddle_loss": None}, "paddle_loss is missing"),
        ({"checks": {"colour": list}}, "checks name the step 'colour'"),
        ({"rename": {"(": ""}}, r"rename '\(' is no regular expression"),
    ],
)
def test_pair_that_makes_no_sense_is_refused(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        small_pair(**changes)
