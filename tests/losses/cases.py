"""Every loss with its reference: a new loss is one more entry, and all of test_every_loss.py."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from . import references as ref

NUM_CLASSES = 5
ALPHA = (0.5, 1.0, 1.5, 2.0, 0.25)


@dataclass(frozen=True)
class Case:
    """A loss class, its arguments, what it is called with, and its float64 reference.

    takes: "class" for (logits, labels), "binary" for (binary_logits, labels of 0 and 1), "joint"
    for (class_logits, binary_logits, labels).
    step: the training step that the loss is told.
    detached: the loss has weights that are not differentiated; the reference takes the logits that
    they are of as `at`.
    """

    loss: str
    takes: str
    reference: Callable
    arguments: dict = field(default_factory=dict)
    finite_at_1e4: bool = True
    step: int | None = None
    detached: bool = False

    def make(self, framework):
        loss = getattr(framework.losses, self.loss)(**self.arguments)
        if self.step is not None:
            framework.losses.set_step(loss, self.step)
        return loss

    def arrays(self, class_logits, binary_logits, labels):
        if self.takes == "class":
            return class_logits, labels
        if self.takes == "binary":
            return binary_logits, np.where(labels == ref.IGNORED, labels, np.minimum(labels, 1))
        return class_logits, binary_logits, labels


def _joint(form, sampling, reduce, **arguments):
    losses = ref.joint_losses if form == "literal" else ref.joint_losses_of_logits
    return Case(
        "JointLoss",
        "joint",
        lambda f, b, y: reduce(losses(f, b, y), y),
        {"form": form, "sampling": sampling, **arguments},
        finite_at_1e4=form == "logits",
    )


def _some_kept(losses, labels):
    return ref.ohem(losses, labels, thresh=0.3, min_kept=11)


OHEM = {"thresh": 0.3, "min_kept": 11}
CASES = {
    "joint_literal_som": _joint("literal", "som", lambda losses, _: ref.som(losses)),
    "joint_literal_ohem": _joint("literal", "ohem", _some_kept, **OHEM),
    "joint_literal_mean": _joint("literal", "mean", ref.mean),
    "joint_som": _joint("logits", "som", lambda losses, _: ref.som(losses)),
    "joint_som_half": _joint("logits", "som", lambda losses, _: ref.som(losses, 0.5), ratio=0.5),
    "joint_ohem": _joint("logits", "ohem", _some_kept, **OHEM),
    "joint_ohem_default": _joint("logits", "ohem", ref.ohem),
    "joint_mean": _joint("logits", "mean", ref.mean),
    "cross_entropy": Case(
        "CrossEntropyLoss", "class", lambda z, y: ref.mean(ref.class_losses(z, y), y)
    ),
    "cross_entropy_som": Case(
        "CrossEntropyLoss",
        "class",
        lambda z, y: ref.som(ref.class_losses(z, y)),
        {"sampling": "som"},
    ),
    "cross_entropy_ohem": Case(
        "OhemCrossEntropyLoss",
        "class",
        lambda z, y: _some_kept(ref.class_losses(z, y), y),
        OHEM,
    ),
    "inverse_frequency": Case(
        "InverseFrequencyCrossEntropyLoss",
        "class",
        ref.inverse_frequency,
        {"num_classes": NUM_CLASSES},
    ),
    "focal": Case("FocalLoss", "class", ref.focal),
    "focal_alpha": Case(
        "FocalLoss",
        "class",
        lambda z, y: ref.focal(z, y, ALPHA, 0.5),
        {"alpha": ALPHA, "gamma": 0.5},
    ),
    "focal_gamma_0": Case(
        "FocalLoss", "class", lambda z, y: ref.focal(z, y, gamma=0), {"gamma": 0.0}
    ),
    "focal_over_all_pixels": Case(
        "FocalLoss", "class", ref.focal_over_all_pixels, {"average": "all"}
    ),
    "softmax_focal": Case("SoftmaxFocalLoss", "class", ref.farseg_focal, detached=True),
    "softmax_focal_normalized": Case(
        "SoftmaxFocalLoss",
        "class",
        partial(ref.farseg_focal, gamma=0.5, normalize=True),
        {"gamma": 0.5, "normalize": True},
        detached=True,
    ),
    "annealed_focal": Case(
        "AnnealedFocalLoss",
        "class",
        partial(ref.farseg_focal, normalize=True, progress=0.3),
        {"annealing_steps": 10},
        step=3,
        detached=True,
    ),
    "dice": Case("DiceLoss", "class", ref.dice),
    "dice_smooth": Case("DiceLoss", "class", lambda z, y: ref.dice(z, y, 0.1), {"smooth": 0.1}),
    "binary_dice": Case("BinaryDiceLoss", "binary", ref.binary_dice),
    "class_binary": Case("ClassBinaryLoss", "joint", ref.class_binary),
}


def sample(seed=0, shape=(2, NUM_CLASSES, 6, 7), scale=2.0, ignored=0.1):
    """class_logits, binary_logits and labels, some of them ignored."""
    random = np.random.RandomState(seed)
    class_logits = scale * random.randn(*shape)
    binary_logits = scale * random.randn(shape[0], 1, *shape[2:])
    labels = random.randint(0, shape[1], (shape[0], *shape[2:]))
    labels[random.rand(*labels.shape) < ignored] = ref.IGNORED
    return class_logits, binary_logits, labels
