"""The losses' values and gradients that reference implementations gave, in both packages."""

import json

import numpy as np
import pytest

from tests.paths import GOLDEN

VALUES = json.loads((GOLDEN / "zoo" / "losses_metrics.json").read_text())
# Name of the values: loss, arguments, training step. Each "NAME_gradnorm" stands beside its NAME.
LOSSES = {
    "ce_mean_valid": ("CrossEntropyLoss", {}, None),
    "factseg_focal_gamma0_f32": ("FocalLoss", {"gamma": 0}, None),
    "factseg_focal_gamma1_f32": ("FocalLoss", {"gamma": 1}, None),
    "factseg_focal_gamma2_f32": ("FocalLoss", {"gamma": 2}, None),
    "farseg_softmax_focal_g2_normalize_False": ("SoftmaxFocalLoss", {"normalize": False}, None),
    "farseg_softmax_focal_g2_normalize_True": ("SoftmaxFocalLoss", {"normalize": True}, None),
    "farseg_annealing_cos_t0": ("AnnealedFocalLoss", {"annealing_steps": 10_000}, 0),
    "farseg_annealing_cos_t2500": ("AnnealedFocalLoss", {"annealing_steps": 10_000}, 2500),
    "farseg_annealing_cos_t10000": ("AnnealedFocalLoss", {"annealing_steps": 10_000}, 10_000),
    "farseg_annealing_cos_t10001": ("AnnealedFocalLoss", {"annealing_steps": 10_000}, 10_001),
    "vainf_focal_a1_g2_mean_all_pixels": ("FocalLoss", {"average": "all"}, None),
    # Computed in float32 by SimpleCV, though its name does not say so.
    "simplecv_dice_with_logits_smooth1": ("BinaryDiceLoss", {}, None),
}
IN_FLOAT32 = {name for name in LOSSES if name.endswith("_f32")} | {
    "simplecv_dice_with_logits_smooth1"
}


@pytest.fixture(scope="module")
def arrays():
    """(logits, labels) and (binary logits, binary labels), in the order of the file's recipe."""
    random = np.random.RandomState(7)
    logits = random.randn(2, 5, 6, 7)
    labels = random.randint(0, 5, (2, 6, 7))
    labels[random.rand(2, 6, 7) < 0.1] = 255
    random.randint(0, 5, (2, 6, 7))  # the metrics' predictions
    binary_logits = random.randn(2, 1, 6, 7)
    binary_labels = random.randint(0, 2, (2, 1, 6, 7))
    binary_labels[random.rand(2, 1, 6, 7) < 0.1] = 255
    return (logits, labels), (binary_logits, binary_labels[:, 0])


@pytest.mark.parametrize("name", LOSSES)
def test_meets_the_golden_value_and_gradient(framework, arrays, name):
    kind, arguments, step = LOSSES[name]
    loss = getattr(framework.losses, kind)(**arguments)
    if step is not None:
        framework.losses.set_step(loss, step)
    in_float32 = name in IN_FLOAT32
    dtype, allowed = ("float32", 1e-6) if in_float32 else ("float64", 1e-9)
    run = framework.run(loss, arrays[kind == "BinaryDiceLoss"], dtype)
    assert run.value == pytest.approx(VALUES[name], rel=allowed)
    norm = VALUES.get(gradient_name(name))
    if norm is not None:
        assert np.linalg.norm(run.gradients[0]) == pytest.approx(norm, rel=allowed)


def test_every_golden_value_is_met():
    met = {*LOSSES, *map(gradient_name, LOSSES)}
    # The metrics' values are met in tests/factseg_paddle/test_metrics.py.
    assert VALUES.keys() - {"metrics", "inputs"} <= met
    assert met & VALUES.keys() >= LOSSES.keys()
    assert sum(gradient_name(name) in VALUES for name in LOSSES) == 7


def gradient_name(name):
    stem = name.removesuffix("_f32")
    return f"{stem}_gradnorm{name[len(stem) :]}"
