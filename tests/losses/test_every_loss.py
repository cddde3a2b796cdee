"""What holds for every loss: its reference, its twin, and its behaviour at the edges."""

import contextlib
import sys

import numpy as np
import paddle
import pytest
import torch

from . import references as ref
from .cases import CASES, NUM_CLASSES, sample
from .frameworks import PADDLE, TORCH, relative_difference

STEP = 1e-6  # of the central difference


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


def test_equals_float64_loops(case, framework):
    arrays = case.arrays(*sample())
    run = framework.run(case.make(framework), arrays)
    assert run.value == pytest.approx(case.reference(*arrays), rel=1e-9)
    assert run.ndim == 0
    assert run.dtype == "float64"


def test_gradient_is_the_slope_of_the_loops(case, framework):
    arrays = case.arrays(*sample(seed=1))
    *logits, labels = arrays
    run = framework.run(case.make(framework), arrays)
    held = {"at": logits[0]} if case.detached else {}
    random = np.random.RandomState(0)
    for i, gradient in enumerate(run.gradients):
        # Where the gradient is large and anywhere: SOM leaves nine tenths of it at 0.
        largest = np.argsort(np.abs(gradient).ravel())[-4:]
        for position in (*largest, *random.randint(0, gradient.size, 4)):
            values = []
            for sign in (1, -1):
                moved = [array.copy() for array in logits]
                moved[i].ravel()[position] += sign * STEP
                values.append(case.reference(*moved, labels, **held))
            slope = (values[0] - values[1]) / (2 * STEP)
            assert gradient.ravel()[position] == pytest.approx(slope, abs=1e-8)


@pytest.mark.parametrize(("dtype", "bound"), [("float64", 1e-12), ("float32", 3e-6)])
def test_paddle_equals_torch(case, dtype, bound):
    arrays = case.arrays(*sample(seed=2, shape=(2, NUM_CLASSES, 24, 20)))
    ours, reference = (f.run(case.make(f), arrays, dtype) for f in (PADDLE, TORCH))
    assert relative_difference(ours.value, reference.value) <= bound
    for gradient, expected in zip(ours.gradients, reference.gradients, strict=True):
        assert relative_difference(gradient, expected) <= bound


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", [name for name in CASES if CASES[name].finite_at_1e4])
def test_finite_and_right_at_logits_of_1e4(name, framework, dtype):
    case = CASES[name]
    random = np.random.RandomState(3)
    class_logits, binary_logits, labels = sample(seed=3)
    class_logits = random.choice([-1e4, 0.0, 1e4], class_logits.shape)
    binary_logits = random.choice([-1e4, 0.0, 1e4], binary_logits.shape)
    arrays = case.arrays(class_logits, binary_logits, labels)
    run = framework.run(case.make(framework), arrays, dtype)
    assert run.value == pytest.approx(case.reference(*arrays), rel=1e-6)
    assert all(np.isfinite(gradient).all() for gradient in run.gradients)
    assert any(gradient.any() for gradient in run.gradients)


def test_is_0_with_zero_gradients_when_all_is_ignored(case, framework):
    class_logits, binary_logits, labels = sample(seed=4)
    arrays = case.arrays(class_logits, binary_logits, np.full_like(labels, ref.IGNORED))
    for dtype in ("float64", "float32"):
        run = framework.run(case.make(framework), arrays, dtype)
        assert run.value == 0
        assert not any(gradient.any() for gradient in run.gradients)


def test_ignored_pixels_count_for_nothing(case, framework):
    class_logits, binary_logits, labels = sample(seed=5, ignored=0.3)
    run = framework.run(case.make(framework), case.arrays(class_logits, binary_logits, labels))
    ignored = np.broadcast_to((labels == ref.IGNORED)[:, None], class_logits.shape)
    other = np.where(ignored, -7.0, class_logits)
    again = framework.run(case.make(framework), case.arrays(other, binary_logits, labels))
    assert again.value == run.value
    for gradient in run.gradients:
        assert not gradient[ignored[:, : gradient.shape[1]]].any()


def test_single_valid_pixel(case, framework):
    class_logits, binary_logits, labels = sample(seed=6)
    single = np.full_like(labels, ref.IGNORED)
    single[1, 2, 3] = 2
    arrays = case.arrays(class_logits, binary_logits, single)
    run = framework.run(case.make(framework), arrays)
    assert run.value == pytest.approx(case.reference(*arrays), rel=1e-9)
    assert all(np.isfinite(gradient).all() for gradient in run.gradients)


def test_channels_equal_to_width_and_height_are_not_confused(case, framework):
    """Paddle's cross-entropy takes the last axis by default: wrong unnoticed where C == W."""
    arrays = case.arrays(*sample(seed=7, shape=(NUM_CLASSES,) * 4))
    run = framework.run(case.make(framework), arrays)
    assert run.value == pytest.approx(case.reference(*arrays), rel=1e-9)


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_half_precision_is_computed_in_float32(case, framework, half):
    rounded = [
        framework.array(framework.tensor(array, half)) if array.dtype.kind == "f" else array
        for array in case.arrays(*sample(seed=8))
    ]
    run = framework.run(case.make(framework), rounded, half)
    full = framework.run(case.make(framework), rounded, "float32")
    assert run.value == full.value
    assert run.dtype == "float32"
    assert set(run.gradient_dtypes) == {half}
    for gradient, expected in zip(run.gradients, full.gradients, strict=True):
        assert relative_difference(gradient, expected) < 2**-8


def test_float16_takes_logits_beyond_its_exponential(framework):
    """exp overflows float16 at 11.1; the sum of 84 losses of 1000 is beyond its 65504."""
    class_logits, binary_logits, labels = sample(seed=9)
    run = framework.run(
        framework.losses.JointLoss(sampling="mean"),
        (500 * np.sign(class_logits), 500 * np.sign(binary_logits), labels),
        "float16",
    )
    assert 100 < run.value < 1500
    assert all(np.isfinite(gradient).all() for gradient in run.gradients)


def test_torch_autocast_changes_nothing(case):
    """The original took a bare log inside autocast."""
    arrays = case.arrays(*sample(seed=10))
    plain = TORCH.run(case.make(TORCH), arrays, "float32")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (torch.ones(1, 1) @ torch.ones(1, 1)).dtype == torch.bfloat16
        cast = TORCH.run(case.make(TORCH), arrays, "float32")
    assert cast.value == plain.value
    assert cast.dtype == "float32"


def test_torch_computes_with_autocast_off():
    """On CPU autocast spares what a loss computes; a product of matrices shows that it is off."""

    @TORCH.losses.precision.in_full_precision
    def product(matrix):
        return matrix @ matrix

    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert product(torch.ones(2, 2)).dtype == torch.float32
        assert product(torch.ones(2, 2, dtype=torch.float16)).dtype == torch.float32


def test_paddle_computes_with_autocast_off(case, monkeypatch):
    """Paddle 3.3.1 has no autocast on CPU, so a stand-in notes who switches it off, and when."""
    events = []

    @contextlib.contextmanager
    def auto_cast(*, enable):
        events.append(enable)
        yield
        events.append("on again")

    checked = PADDLE.losses.labels.split_labels
    monkeypatch.setattr(paddle.amp, "auto_cast", auto_cast)
    monkeypatch.setattr(
        sys.modules[type(case.make(PADDLE)).forward.__wrapped__.__module__],
        "split_labels",
        lambda *args, **kwargs: events.append("computes") or checked(*args, **kwargs),
    )
    case.make(PADDLE)(*(PADDLE.tensor(array) for array in case.arrays(*sample())))
    assert events[:2] == [False, "computes"]
    assert events[-1] == "on again"


def test_keyword_arguments_are_widened_too(framework):
    class_logits, binary_logits, _ = sample(seed=11)
    probability = framework.losses.joint_probability(
        class_logits=framework.tensor(class_logits, "float16"),
        binary_logits=framework.tensor(binary_logits, "float16"),
    )
    assert str(probability.dtype).endswith("float32")


@pytest.mark.parametrize("wrong", [NUM_CLASSES, -1, 254])
def test_label_outside_the_classes_is_named(case, framework, wrong):
    class_logits, binary_logits, labels = sample(seed=12)
    *logits, labels = case.arrays(class_logits, binary_logits, labels)
    labels[0, 0, :3] = wrong
    num_classes = 2 if case.takes == "binary" else NUM_CLASSES
    message = rf"label {wrong} \(3 pixels\) is outside \[0, {num_classes}\) .* ignore_index 255"
    with pytest.raises(ValueError, match=message):
        case.make(framework)(*(framework.tensor(array) for array in (*logits, labels)))


def test_loss_is_a_scalar_that_float_takes(case, framework):
    """`loss.numpy()[0]` of the original fails on Paddle 3: a loss is 0-d."""
    tensors = [framework.tensor(array, "float32") for array in case.arrays(*sample(seed=13))]
    loss = case.make(framework)(*tensors)
    assert list(loss.shape) == []
    assert float(loss.detach()) > 0
