"""The joint probability, its two forms, and the Clone layer of the Paddle port."""

import math

import numpy as np
import paddle
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from factseg_paddle.losses.joint import _logits_losses

from . import references as ref
from .cases import NUM_CLASSES, sample
from .frameworks import FRAMEWORKS, PADDLE, relative_difference

BOUNDS = {"float64": 1e-12, "float32": 2e-6}  # measured: 7e-16 and 5e-7
SAMPLINGS = ("som", "ohem", "mean")


def probability(framework, class_logits, binary_logits, dtype="float64"):
    tensors = [framework.tensor(array, dtype) for array in (class_logits, binary_logits)]
    return framework.array(framework.losses.joint_probability(*tensors))


def product(class_logits, binary_logits):
    """The paper's product for every pixel, in float64."""
    result = np.empty_like(class_logits)
    for n, y, x in np.ndindex(class_logits.shape[0], *class_logits.shape[2:]):
        foreground = 1 / (1 + math.exp(-binary_logits[n, 0, y, x]))
        classes = ref.softmax(class_logits[n, :, y, x].tolist())
        joint = [(1 - foreground) * classes[0]] + [foreground * p for p in classes[1:]]
        result[n, :, y, x] = [value / sum(joint) for value in joint]
    return result


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("dtype", BOUNDS)
def test_literal_equals_logits_in_value_and_gradient(framework, sampling, dtype):
    arrays = sample(seed=20, shape=(2, 16, 24, 20), scale=2.0)
    literal, logits = (
        framework.run(
            framework.losses.JointLoss(sampling=sampling, form=form, min_kept=100), arrays, dtype
        )
        for form in ("literal", "logits")
    )
    assert relative_difference(logits.value, literal.value) <= BOUNDS[dtype]
    for gradient, expected in zip(logits.gradients, literal.gradients, strict=True):
        assert relative_difference(gradient, expected) <= BOUNDS[dtype]


def test_joint_probability_is_the_product_of_the_paper(framework):
    class_logits, binary_logits, _ = sample(seed=21)
    expected = product(class_logits, binary_logits)
    np.testing.assert_allclose(
        probability(framework, class_logits, binary_logits), expected, rtol=1e-12
    )


def test_joint_probability_normalises_batch_of_two(framework):
    """The original divided [N, C, H, W] by a sum of shape [N, H, W]: an error at N = 2."""
    class_logits, binary_logits, _ = sample(seed=22, shape=(2, 4, 3, 3))
    both = probability(framework, class_logits, binary_logits)
    np.testing.assert_allclose(both.sum(axis=1), 1, rtol=1e-12)
    for n in range(2):
        alone = probability(framework, class_logits[n : n + 1], binary_logits[n : n + 1])
        np.testing.assert_allclose(both[n : n + 1], alone, rtol=1e-12)


def test_joint_probability_normalises_batch_of_sixteen(framework):
    """With as many images as classes the same division is wrong and raises nothing."""
    class_logits, binary_logits, _ = sample(seed=23, shape=(16, 16, 3, 3))
    together = probability(framework, class_logits, binary_logits)
    np.testing.assert_allclose(together.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(together, product(class_logits, binary_logits), rtol=1e-12)


@given(
    logits=st.lists(st.floats(-1e4, 1e4), min_size=3, max_size=9),
    framework=st.sampled_from(FRAMEWORKS),
    dtype=st.sampled_from(["float64", "float32"]),
)
@settings(max_examples=100, deadline=None)
def test_joint_probability_sums_to_1_and_is_a_softmax(logits, framework, dtype):
    logits = np.array(logits, dtype=dtype).astype(np.float64)
    binary_logit, class_logits = logits[0], logits[1:]
    joint = probability(
        framework, class_logits.reshape(1, -1, 1, 1), np.full((1, 1, 1, 1), binary_logit), dtype
    )
    shifted = [class_logits[0], *(class_logits[1:] + binary_logit)]
    # float32 rounds the sum of two logits of 1e4 by up to 1e-3.
    atol = 1e-11 if dtype == "float64" else 1e-6 + 2e-7 * np.abs(shifted).max()
    assert joint.sum() == pytest.approx(1, abs=1e-6 if dtype == "float32" else 1e-12)
    np.testing.assert_allclose(joint.ravel(), ref.softmax(shifted), atol=atol, rtol=0)


def test_joint_probability_has_a_finite_gradient_at_1e4(framework):
    class_logits = framework.tensor(np.array([1e4, -1e4, 0.0]).reshape(1, 3, 1, 1))
    binary_logits = framework.tensor(np.full((1, 1, 1, 1), -1e4))
    joint = framework.losses.joint_probability(class_logits, binary_logits)
    joint[:, 1].sum().backward()
    assert np.isfinite(framework.array(class_logits.grad)).all()
    assert np.isfinite(framework.array(binary_logits.grad)).all()


def test_one_foreground_class_is_logistic_regression(framework):
    """C = 2: the joint logit of foreground is f_1 + b - f_0."""
    class_logits, binary_logits, labels = sample(seed=24, shape=(2, 2, 4, 5))
    margin = class_logits[:, 1] + binary_logits[:, 0] - class_logits[:, 0]
    signed = np.where(labels == 1, -margin, margin)
    expected = np.log1p(np.exp(signed))[labels != 255].mean()
    for form in ("literal", "logits"):
        loss = framework.losses.JointLoss(sampling="mean", form=form)
        run = framework.run(loss, (class_logits, binary_logits, labels))
        assert run.value == pytest.approx(expected, rel=1e-12)


def test_no_foreground_class_is_an_error(framework):
    class_logits, binary_logits = np.zeros((2, 1, 4, 4)), np.zeros((2, 1, 4, 4))
    with pytest.raises(ValueError, match=r"\[2, 1, 4, 4\].* C >= 2.* at least one foreground"):
        probability(framework, class_logits, binary_logits)


def test_binary_logit_of_20_on_background_has_finite_loss_and_gradient(framework):
    """In float32, 1 - sigmoid(20) is 0: the product's logarithm is infinite, its gradient NaN."""
    class_logits, labels = np.zeros((1, 3, 1, 1)), np.zeros((1, 1, 1), dtype=np.int64)
    arrays = (class_logits, np.full((1, 1, 1, 1), 20.0), labels)
    literal = framework.run(framework.losses.JointLoss(form="literal"), arrays, "float32")
    assert not np.isfinite(literal.value)
    assert np.isnan(literal.gradients[0]).any()
    logits = framework.run(framework.losses.JointLoss(), arrays, "float32")
    assert logits.value == pytest.approx(20 + math.log(2), rel=1e-5)
    np.testing.assert_allclose(logits.gradients[0].ravel(), [-1, 0.5, 0.5], rtol=1e-5)
    np.testing.assert_allclose(logits.gradients[1].ravel(), [1], rtol=1e-5)


def test_gradient_at_1e4_is_softmax_minus_one_hot(framework):
    class_logits = np.array([0.0, 1e4, 1e4 - 2, -1e4]).reshape(1, 4, 1, 1)
    arrays = (class_logits, np.full((1, 1, 1, 1), 1e4), np.full((1, 1, 1), 2))
    run = framework.run(framework.losses.JointLoss(sampling="mean"), arrays, "float32")
    p = 1 / (1 + math.exp(-2))
    assert run.value == pytest.approx(-math.log(1 - p), rel=1e-5)
    np.testing.assert_allclose(run.gradients[0].ravel(), [0, p, -p, 0], rtol=1e-5)
    np.testing.assert_allclose(run.gradients[1].ravel(), [0], atol=1e-6)


def test_ohem_sampling_exists(framework):
    """The original calls an `ohem_weight` that is defined nowhere."""
    class_logits, binary_logits, labels = sample(seed=25)
    arrays = class_logits, binary_logits, labels
    loss = framework.losses.JointLoss(sampling="ohem", thresh=0.05, min_kept=4)
    losses = ref.joint_losses(*arrays)
    expected = ref.ohem(losses, labels, thresh=0.05, min_kept=4)
    assert expected != pytest.approx(ref.mean(losses, labels))
    assert framework.run(loss, arrays).value == pytest.approx(expected, rel=1e-12)


def test_ignore_index_can_be_negative_or_a_class(framework):
    class_logits, binary_logits, labels = sample(seed=26)
    losses = ref.joint_losses(class_logits, binary_logits, labels)
    for ignore_index, replaced in ((-100, np.where(labels == 255, -100, labels)), (3, labels)):
        if ignore_index == 3:
            losses = np.where(labels == 3, 0, losses)
            replaced = np.where(labels == 255, 3, labels)
        expected = losses.sum() / (replaced != ignore_index).sum()
        for form in ("literal", "logits"):
            loss = framework.losses.JointLoss(ignore_index, "mean", form=form)
            run = framework.run(loss, (class_logits, binary_logits, replaced))
            assert run.value == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sampling": "SOM"}, "sampling 'SOM' is unknown; use one of 'som', 'ohem', 'mean'"),
        ({"form": "logit"}, "form 'logit' is unknown; use one of 'literal', 'logits'"),
        ({"ratio": 0}, r"ratio 0 is not in \(0, 1\]"),
        ({"ratio": 1.5}, r"ratio 1.5 is not in \(0, 1\]"),
        ({"ratio": math.nan}, r"ratio nan is not in \(0, 1\]"),
        ({"thresh": 0.0}, r"thresh 0.0 is not in \(0, 1\]"),
        ({"min_kept": -1}, "min_kept -1 is negative"),
    ],
)
def test_wrong_argument_is_named_with_the_choices(framework, arguments, message):
    with pytest.raises(ValueError, match=message):
        framework.losses.JointLoss(**arguments)


@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [
        ((2, 6, 7), "float64", r"\[2, 5, 6, 7\] and .*\[2, 6, 7\] do not fit.* \[2, 1, 6, 7\]"),
        ((2, 5, 6, 7), "float64", r"\[2, 5, 6, 7\] do not fit; .* must be \[2, 1, 6, 7\]"),
        ((1, 1, 6, 7), "float64", r"\[1, 1, 6, 7\] do not fit"),
        ((2, 1, 6, 7), "float32", r"float64 and .*float32; use one dtype"),
    ],
)
def test_branches_that_do_not_fit_are_an_error_with_both_shapes(framework, shape, dtype, message):
    class_logits, _, labels = sample()
    tensors = [
        framework.tensor(class_logits),
        framework.tensor(np.zeros(shape), dtype),
        framework.tensor(labels),
    ]
    with pytest.raises(ValueError, match=message):
        framework.losses.JointLoss()(*tensors)
    with pytest.raises(ValueError, match=message):
        framework.losses.joint_probability(*tensors[:2])


def test_clone_forward_is_its_input_and_backward_exactly_zero():
    source = paddle.to_tensor([[1.5, -2.0], [0.0, 4.0]], stop_gradient=False)
    clone = PADDLE.losses.Clone.apply(source)
    np.testing.assert_array_equal(clone.numpy(), source.numpy())
    (clone * paddle.to_tensor([[3.0, 5.0], [7.0, 9.0]])).sum().backward()
    np.testing.assert_array_equal(source.grad.numpy(), np.zeros((2, 2), np.float32))


def test_clone_is_a_copy_and_adds_nothing_to_another_gradient():
    source = paddle.to_tensor([1.0, 2.0], dtype="float64", stop_gradient=False)
    clone = PADDLE.losses.Clone.apply(source)
    clone[0] = 100.0
    np.testing.assert_array_equal(source.numpy(), [1.0, 2.0])
    (clone.sum() + 3 * source.sum()).backward()
    np.testing.assert_array_equal(source.grad.numpy(), [3.0, 3.0])
    assert source.grad.dtype == paddle.float64


@pytest.mark.parametrize(("dtype", "bound"), [("float64", 1e-14), ("float32", 1e-6)])
def test_analytic_gradient_equals_automatic_differentiation(dtype, bound):
    """What the PyLayer replaces: pixel_cross_entropy of the concatenated joint logits."""
    class_logits, binary_logits, labels = sample(seed=27, ignored=0)
    upstream = PADDLE.tensor(np.random.RandomState(0).randn(*labels.shape), dtype).detach()

    def plain(f, b, y):
        joint = paddle.concat([f[:, :1], f[:, 1:] + b], axis=1)
        return (PADDLE.losses.pixel_cross_entropy(joint, y) * upstream).sum()

    def layer(f, b, y):
        return (_logits_losses(f, b, y) * upstream).sum()

    arrays = class_logits, binary_logits, labels
    expected, ours = (PADDLE.run(function, arrays, dtype) for function in (plain, layer))
    assert relative_difference(ours.value, expected.value) <= bound
    for gradient, reference in zip(ours.gradients, expected.gradients, strict=True):
        assert relative_difference(gradient, reference) <= bound


@pytest.mark.parametrize("frozen", [0, 1])
def test_one_branch_may_be_frozen(frozen):
    """The other gets its gradient, the frozen one none."""
    arrays = sample(seed=28)
    expected = PADDLE.run(PADDLE.losses.JointLoss(), arrays).gradients[1 - frozen]
    tensors = [PADDLE.tensor(array) for array in arrays]
    tensors[frozen].stop_gradient = True
    PADDLE.losses.JointLoss()(*tensors).backward()
    assert tensors[frozen].grad is None
    np.testing.assert_array_equal(tensors[1 - frozen].grad.numpy(), expected)


@pytest.mark.parametrize("branch", [0, 1])
def test_paddle_grad_takes_one_branch_alone(branch):
    """`paddle.grad` for one of the two inputs of a PyLayer raises in Paddle 3.3.1."""
    arrays = sample(seed=28)
    expected = PADDLE.run(PADDLE.losses.JointLoss(), arrays).gradients[branch]
    tensors = [PADDLE.tensor(array) for array in arrays]
    (gradient,) = paddle.grad(PADDLE.losses.JointLoss()(*tensors), [tensors[branch]])
    np.testing.assert_array_equal(gradient.numpy(), expected)


def test_gradient_flows_into_the_layers_before():
    class_logits, binary_logits, labels = (PADDLE.tensor(array) for array in sample(seed=28))
    run = PADDLE.run(PADDLE.losses.JointLoss(), sample(seed=28))
    PADDLE.losses.JointLoss()(class_logits * 1, binary_logits * 1, labels).backward()
    np.testing.assert_array_equal(class_logits.grad.numpy(), run.gradients[0])
    np.testing.assert_array_equal(binary_logits.grad.numpy(), run.gradients[1])


def test_no_graph_is_kept_in_evaluation():
    tensors = [PADDLE.tensor(array) for array in sample(seed=29)]
    with paddle.no_grad():
        assert PADDLE.losses.JointLoss()(*tensors).stop_gradient


def test_inputs_are_left_as_they_were(framework):
    arrays = sample(seed=30, shape=(2, NUM_CLASSES, 4, 4))
    for form in ("literal", "logits"):
        tensors = [framework.tensor(array, "float32") for array in arrays]
        before = [framework.array(tensor).copy() for tensor in tensors]
        framework.losses.JointLoss(form=form)(*tensors).backward()
        for tensor, expected in zip(tensors, before, strict=True):
            np.testing.assert_array_equal(framework.array(tensor), expected)


def test_torch_literal_is_the_originals_computation():
    """Written out once more in torch, in the originals's order, on a whole batch."""
    arrays = sample(seed=31, shape=(2, 16, 16, 16))
    class_logits, binary_logits = (torch.from_numpy(array) for array in arrays[:2])
    labels = torch.from_numpy(arrays[2])
    s, p = torch.sigmoid(binary_logits), torch.softmax(class_logits, dim=1)
    joint = torch.cat([(1 - s) * p[:, :1], s * p[:, 1:]], dim=1)
    joint = joint / joint.sum(dim=1, keepdim=True)
    losses = torch.nn.functional.nll_loss(
        joint.log(), labels, ignore_index=255, reduction="none"
    ).flatten()
    top = losses.sort(descending=True).values[: int(0.1 * losses.numel())]
    top = top[top != 0]
    expected = float(top.sum() / (len(top) + 1e-6))
    for framework in FRAMEWORKS:
        loss = framework.losses.JointLoss(form="literal")
        assert framework.run(loss, arrays).value == pytest.approx(expected, rel=1e-12)


def saturated(scale, *, seed=30):
    """Logits whose joint winner is certain, right in 80 % of the pixels; labels fit."""
    rng = np.random.default_rng(seed)
    class_logits = scale * rng.normal(size=(2, 16, 32, 32))
    binary_logits = scale * rng.normal(size=(2, 1, 32, 32))
    joint = np.concatenate([class_logits[:, :1], class_logits[:, 1:] + binary_logits], axis=1)
    labels = rng.integers(0, 16, (2, 32, 32))
    right = rng.random(labels.shape) < 0.8
    return class_logits, binary_logits, np.where(right, joint.argmax(axis=1), labels)


@pytest.mark.parametrize(("sampling", "ratio"), [("som", 0.1), ("som", 1.0), ("ohem", 0.1)])
@pytest.mark.parametrize("scale", [20.0, 50.0, 1e4])
def test_saturated_pixels_lose_nothing_and_are_not_mined(sampling, ratio, scale):
    """A rounding residue of -1e-12 on certain pixels let them into SOM's and OHEM's choice."""
    arrays = saturated(scale)
    ours, reference = (
        framework.run(
            framework.losses.JointLoss(sampling=sampling, ratio=ratio, min_kept=100), arrays
        )
        for framework in (PADDLE, next(f for f in FRAMEWORKS if f is not PADDLE))
    )
    assert relative_difference(ours.value, reference.value) <= 1e-12
    for gradient, expected in zip(ours.gradients, reference.gradients, strict=True):
        assert relative_difference(gradient, expected) <= 1e-12


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scale", [1.0, 10.0, 40.0, 1e4])
def test_no_pixel_loss_is_negative(dtype, scale):
    class_logits, binary_logits, labels = saturated(scale)
    losses = _logits_losses(
        paddle.to_tensor(class_logits.astype(dtype)),
        paddle.to_tensor(binary_logits.astype(dtype)),
        paddle.to_tensor(labels),
    ).numpy()
    assert losses.min() >= 0
    if scale == 1e4:
        assert (losses == 0).mean() > 0.7
