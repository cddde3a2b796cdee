"""A planted fault is flagged in its step, under the name of what is wrong."""

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
    end_to_end,
    failed_names,
    images,
    paddle_loss,
    seeded_torch_net,
    small_pair,
    step,
)

STEPS = ["data", "weights", "forward", "loss", "backward"]


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("seed", range(3))
def test_equal_nets_are_aligned(mode, seed):
    pair = small_pair(
        torch_model=lambda: seeded_torch_net(seed=seed),
        inputs=(images((4, 3, 6, 6), seed=seed),),
        targets=(np.array([0, 1, 2, 3]),),
        mode=mode,
    )
    report = align(pair)
    assert report, str(report)
    assert [result.step for result in report.steps] == STEPS
    assert str(report).count("\n") == len(STEPS), "one line a step and a verdict"


def test_every_tensor_is_judged_in_both_dtypes():
    report = align(small_pair())
    assert step(report, "forward").counts == {"passed": 31, "failed": 0, "declared": 0}
    forward = end_to_end(report, "forward")
    assert len(forward) == 16
    assert {tensor.dtype for tensor in forward} == {"float64", "float32"}
    assert forward[0].name == forward[1].name == "conv1"


class Doubled(paddle.autograd.PyLayer):
    """The identity with twice the gradient."""

    @staticmethod
    def forward(_ctx, x):
        return x.clone()

    @staticmethod
    def backward(_ctx, gradient):
        return 2 * gradient


def upsampled(x, align_corners=True):
    return PF.interpolate(x, scale_factor=2, mode="bilinear", align_corners=align_corners)


FORWARD_FAULTS = {
    "ReLU removed": ("relu1", paddle.nn.Identity),
    "ReLU replaced": ("relu2", lambda: paddle.nn.LeakyReLU(0.01)),
    "ReLU replaced by GELU": ("relu1", paddle.nn.GELU),
    "align_corners flipped": ("up", lambda: Through(lambda x: upsampled(x, False))),
    "scale factor": (
        "up",
        lambda: paddle.nn.Upsample(scale_factor=3, mode="bilinear", align_corners=True),
    ),
    "epsilon": ("bn", lambda: paddle.nn.BatchNorm2D(6, epsilon=1e-3)),
    "padding": ("conv2", lambda: paddle.nn.Conv2D(6, 5, 3, padding=1, padding_mode="reflect")),
    "dilation": ("conv2", lambda: paddle.nn.Conv2D(6, 5, 3, padding=2, dilation=2)),
    "NaN": ("relu1", lambda: Through(lambda x: PF.relu(x) * float("nan"))),
    "NaN in one element": (
        "relu1",
        lambda: Through(
            lambda x: (
                PF.relu(x)
                .flatten()
                .scatter(paddle.to_tensor([7]), paddle.to_tensor([float("nan")], dtype=x.dtype))
                .reshape(x.shape)
            )
        ),
    ),
    "one element off": (
        "relu1",
        lambda: Through(
            lambda x: (
                PF.relu(x)
                .flatten()
                .scatter(paddle.to_tensor([7]), paddle.to_tensor([0.9], dtype=x.dtype))
                .reshape(x.shape)
            )
        ),
    ),
    "a ten-thousandth off": ("relu1", lambda: Through(lambda x: PF.relu(x) * 1.0001)),
    "transposed": ("up", lambda: Through(lambda x: upsampled(x).transpose([0, 1, 3, 2]))),
}


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("fault", FORWARD_FAULTS)
def test_fault_in_a_layer_names_the_layer(fault, mode):
    name, make = FORWARD_FAULTS[fault]
    report = align(small_pair(lambda: PaddleNet(**{name: make()}), mode=mode))
    assert not report
    assert report.first_divergence == name
    assert next(result.step for result in report.steps if not result) == "forward"
    assert step(report, "data")
    assert step(report, "weights")


def patched_net():
    """A net whose `forward` a user replaced by a function that holds on to the net itself."""
    net = PaddleNet()
    right = net.forward
    net.forward = lambda x: right(x) * 1.5
    return net


def test_function_that_patches_forward_is_asked_for_a_model_for_each_run():
    """A deep copy of such a model ran the layers of the original, and blamed its weights."""
    report = align(small_pair(patched_net, mode="train"))
    assert step(report, "weights")
    assert report.first_divergence == "forward:output"
    shared = PaddleNet()
    assert align(small_pair(lambda: shared))
    assert shared.fc.weight.dtype == paddle.float32


def test_layer_whose_output_makes_the_model_raise_is_named():
    """The layers that had returned were forgotten, and the exit status was that of no result."""
    wrong = {"up": lambda: paddle.nn.Flatten(2)}
    report = align(small_pair(lambda: PaddleNet(**{n: make() for n, make in wrong.items()})))
    assert not report
    assert report.first_divergence == "up"


def test_fault_in_front_of_the_second_call_of_a_layer_names_both_calls():
    class Torch(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.act = torch.nn.ReLU()

        def forward(self, x):
            return self.act(self.act(x) - 0.5)

    class Paddle(paddle.nn.Layer):
        def __init__(self):
            super().__init__()
            self.act = paddle.nn.ReLU()

        def forward(self, x):
            return self.act(self.act(x) - 0.4)

    pair = Pair(name="twice", torch_model=Torch, paddle_model=Paddle, inputs=(images((2, 3)),))
    assert align(pair, ["forward"]).first_divergence == "act -> act#2"


def frozen(name):
    def make():
        net = PaddleNet()
        dict(net.named_parameters())[name].stop_gradient = True
        return net

    return make


@pytest.mark.parametrize(
    ("make", "first"),
    [
        (frozen("conv2.weight"), "grad:conv2.weight"),
        (frozen("fc.bias"), "grad:fc.bias"),
        (
            lambda: PaddleNet(relu2=Through(lambda x: PF.relu(x).detach())),
            "relu2",
        ),
        (
            lambda: PaddleNet(up=Through(lambda x: Doubled.apply(upsampled(x)))),
            "up",
        ),
    ],
    ids=["frozen weight", "frozen bias", "detached branch", "doubled gradient"],
)
def test_fault_in_backward_names_the_parameter_or_the_layer(make, first):
    report = align(small_pair(make))
    assert step(report, "forward")
    assert report.first_divergence == first


def test_gradient_fault_ahead_of_a_layer_that_is_registered_first():
    """Parameters are looked through against the order of calls, not of registration."""

    class Torch(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.head, self.stem = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)

        def forward(self, x):
            return self.head(self.stem(x))

    class Paddle(paddle.nn.Layer):
        def __init__(self):
            super().__init__()
            self.head, self.stem = paddle.nn.Linear(4, 4), paddle.nn.Linear(4, 4)

        def forward(self, x):
            return self.head(self.stem(x).detach()) + self.head(self.stem(x)).detach() * 0

    pair = Pair(
        name="order",
        torch_model=Torch,
        paddle_model=Paddle,
        inputs=(images((2, 4)),),
        torch_loss=lambda output: output.pow(2).sum(),
        paddle_loss=lambda output: output.pow(2).sum(),
    )
    report = align(pair, ["backward"])
    assert failed_names(report, "backward") >= {"stem.weight", "stem.bias"}
    assert report.first_divergence == "stem -> head"


@pytest.mark.parametrize(
    "loss",
    [
        lambda output, labels: 1.0001 * paddle_loss(output, labels),
        lambda output, labels: PF.cross_entropy(output, labels, ignore_index=1),
        lambda output, labels: PF.cross_entropy(output, labels, label_smoothing=0.1),
        lambda output, labels: paddle_loss(output, labels).reshape([1]),
        lambda output, labels: paddle_loss(output, labels) * float("nan"),
    ],
    ids=["scaled", "ignore index", "smoothed", "shape", "NaN"],
)
def test_fault_in_the_loss_is_the_loss_steps(loss):
    report = align(small_pair(paddle_loss=loss))
    assert step(report, "forward")
    assert report.first_divergence == "loss:loss"


def test_loss_that_is_right_with_a_wrong_gradient_fails_backward():
    report = align(
        small_pair(paddle_loss=lambda o, t: paddle_loss(Doubled.apply(o), t)), ["loss", "backward"]
    )
    assert step(report, "loss")
    assert report.first_divergence == "backward:output (gradient)"


def two_outputs(torch_names, paddle_names):
    class Torch(torch.nn.Linear):
        def forward(self, x):
            y = super().forward(x)
            return dict.fromkeys(torch_names, y)

    class Paddle(paddle.nn.Linear):
        def forward(self, x):
            y = super().forward(x)
            return dict.fromkeys(paddle_names, y)

    return Pair(
        name="outputs",
        torch_model=lambda: Torch(3, 3),
        paddle_model=lambda: Paddle(3, 3),
        inputs=(images((2, 3)),),
    )


def test_output_name_that_one_side_lacks_fails_with_its_side():
    report = align(two_outputs("ab", "ac"), ["forward"])
    reasons = {t.name: t.reason for t in step(report, "forward").tensors if not t}
    assert reasons == {
        "output.b": "Paddle gives no such tensor",
        "output.c": "torch gives no such tensor",
    }
    assert report.first_divergence == "forward:output.b"


def test_results_stand_in_the_same_order_each_time():
    names = [t.name for t in end_to_end(align(two_outputs("edcba", "abxyz")), "forward")]
    expected = [f"output.{letter}" for letter in "edcbaxyz"]
    assert list(dict.fromkeys(names)) == expected


def test_output_in_another_dtype_fails():
    class Paddle(PaddleNet):
        def forward(self, x):
            return super().forward(x).astype("float64")

    report = align(small_pair(Paddle))
    assert report.first_divergence == "forward:output"
    failed = next(t for t in step(report, "forward").tensors if not t)
    assert failed.reason == "dtype float64 where float32 is expected"


def test_output_that_is_transposed_fails_forward_even_where_the_loss_then_raises():
    class Paddle(PaddleNet):
        def forward(self, x):
            return super().forward(x).transpose([1, 0])

    report = align(small_pair(Paddle))
    assert report.first_divergence == "forward:output"
    assert failed_names(report, "loss") == {"the Paddle side"}
    assert not step(report, "backward")


def test_weights_as_they_are_differ_by_name():
    torch_net, paddle_net = seeded_torch_net(), PaddleNet()
    align(small_pair(paddle_net, torch_model=torch_net), ["weights"])
    assert align(small_pair(paddle_net, torch_model=torch_net, transfer=False))
    paddle_net.conv2.bias.set_value(paddle_net.conv2.bias + 1e-6)
    report = align(small_pair(paddle_net, torch_model=torch_net, transfer=False))
    assert report.first_divergence == "weights:conv2.bias"
    assert failed_names(report, "weights") == {"conv2.bias"}


def test_running_statistics_belong_to_the_weights():
    paddle_net = PaddleNet()
    align(small_pair(paddle_net), ["weights"])
    paddle_net.bn._variance.set_value(paddle_net.bn._variance * 1.5)
    report = align(small_pair(paddle_net, transfer=False))
    assert report.first_divergence == "weights:bn.running_var"


@pytest.mark.parametrize(
    ("make", "first"),
    [
        (
            lambda: PaddleNet(conv1=paddle.nn.Conv2D(3, 6, 3, padding=1, bias_attr=False)),
            "weights:conv1.bias",
        ),
        (lambda: PaddleNet(extra=paddle.nn.Linear(2, 2)), "weights:extra.weight"),
        (lambda: PaddleNet(fc=paddle.nn.Linear(5, 7)), "weights:fc.weight"),
        (
            lambda: PaddleNet(conv2=paddle.nn.Conv2D(6, 7, 3, padding=1)),
            "weights:conv2.weight",
        ),
        (lambda: PaddleNet(bn=paddle.nn.Identity()), "weights:bn.weight"),
    ],
    ids=["missing", "extra", "misshapen", "misshapen so that the next layer raises", "no layer"],
)
def test_transfer_that_does_not_fit_fails_the_weights_step(make, first):
    assert align(small_pair(make)).first_divergence == first


def test_misfit_is_named_by_a_step_that_runs_alone_and_raises():
    pair = small_pair(lambda: PaddleNet(conv2=paddle.nn.Conv2D(6, 7, 3, padding=1)))
    report = align(pair, ["backward"])
    assert report.first_divergence == "weights:conv2.weight"


def test_weights_of_another_dtype_do_not_fit():
    report = align(small_pair(torch_model=lambda: seeded_torch_net().double()), ["weights"])
    failed = step(report, "weights").tensors[0]
    assert failed.reason == "dtype float32 where float64 is expected"


def test_convert_that_raises_fails_the_weights_step():
    convert = {"fc.weight": (["fc.weight"], lambda array: array @ np.ones((99, 1)))}
    report = align(small_pair(convert=convert))
    assert report.first_divergence == "weights:fc.weight"
    reasons = {t.name: t.reason for t in step(report, "weights").tensors if not t}
    assert list(reasons) == ["fc.weight"]
    assert reasons["fc.weight"].startswith("can't be made of torch's: matmul")


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


class TorchFunction(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *values):
        return self.function(*values)


def test_empty_batch_is_no_proof():
    pair = Pair(
        name="empty batch",
        torch_model=lambda: TorchFunction(lambda x: x + 1),
        paddle_model=lambda: Through(lambda x: x + 1),
        inputs=(np.zeros((0, 3), np.float32),),
    )
    report = align(pair)
    assert report.first_divergence == "data:inputs[0]"


def test_layer_that_can_not_run_in_float64_is_judged_in_float32_and_said_so():
    def single(x):
        if x.dtype != paddle.float32:
            raise ValueError("float32 alone")
        return PF.relu(x)

    report = align(small_pair(lambda: PaddleNet(relu1=Through(single))))
    assert report, str(report)
    for name in ("forward", "loss", "backward"):
        assert {tensor.dtype for tensor in step(report, name).tensors} == {"float32"}
        assert "judged in float32 alone" in step(report, name).notes[0]
        assert "float32 alone" in step(report, name).notes[0]
    assert str(report).count("judged in float32 alone") == 1


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_float32_decides_where_it_is_all_there_is(mode):
    def single(x):
        if x.dtype != paddle.float32:
            raise ValueError("float32 alone")
        return PF.relu(x) * 1.01

    report = align(small_pair(lambda: PaddleNet(relu1=Through(single)), mode=mode))
    assert report.first_divergence == "relu1"


def test_backward_alone_that_can_not_run_in_float64_leaves_forward_its_float64():
    class SingleBackward(paddle.autograd.PyLayer):
        @staticmethod
        def forward(_ctx, x):
            return x.clone()

        @staticmethod
        def backward(_ctx, gradient):
            if gradient.dtype != paddle.float32:
                raise ValueError("float32 alone")
            return gradient.clone()

    report = align(
        small_pair(lambda: PaddleNet(up=Through(lambda x: SingleBackward.apply(upsampled(x)))))
    )
    assert report, str(report)
    assert {t.dtype for t in step(report, "forward").tensors} == {"float64", "float32"}
    assert {t.dtype for t in step(report, "backward").tensors} == {"float32"}
    assert not step(report, "forward").notes
    assert "judged in float32 alone" in step(report, "backward").notes[0]


def test_torch_that_can_not_run_in_float64_is_said_too():
    class Single(torch.nn.Module):
        def forward(self, x):
            if x.dtype != torch.float32:
                raise ValueError("float32 alone")
            return x.relu()

    def torch_net():
        net = seeded_torch_net()
        net.relu1 = Single()
        return net

    report = align(small_pair(torch_model=torch_net))
    assert report, str(report)
    assert "judged in float32 alone" in step(report, "forward").notes[0]
    assert not align(small_pair(lambda: PaddleNet(relu1=paddle.nn.GELU()), torch_model=torch_net))


def test_float32_overflow_on_both_sides_is_declared():
    def torch_net():
        net = torch.nn.Linear(4, 4)
        return torch.nn.Sequential(net, TorchFunction(lambda x: torch.exp(x.abs() * 0 + 200) * x))

    def paddle_net():
        net = paddle.nn.Linear(4, 4)
        return paddle.nn.Sequential(net, Through(lambda x: paddle.exp(x.abs() * 0 + 200) * x))

    pair = Pair(
        name="overflow", torch_model=torch_net, paddle_model=paddle_net, inputs=(images((2, 4)),)
    )
    report = align(pair, ["forward"])
    assert report, str(report)
    declared = [t for t in step(report, "forward").tensors if t.status == "declared"]
    assert {t.reason for t in declared} == {"not finite in torch float32 either"}


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
