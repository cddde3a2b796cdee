"""What a user says about two models that should be the same."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

STEPS = ("data", "weights", "forward", "preprocess", "metric", "loss", "backward", "train")
"""All steps, in the order in which they are reported."""

Value = Any  # an array, a number, or a function of nothing that gives one
Checks = Mapping[str, Callable[[], Iterable[tuple[str, Value, Value]]]]


class AlignmentError(Exception):
    """The comparison could not be run; the message is one sentence that says why."""


@dataclass(frozen=True)
class TrainSetup:
    """How one side trains.

    Attributes:
        optimizer: function of the model that makes the optimizer.
        scheduler: function of the optimizer (torch) that makes the learning rate schedule; in
            Paddle the optimizer holds it, and this is None.
        clip: function of the model that clips its gradients; None where the optimizer clips.
    """

    optimizer: Callable[[Any], Any]
    scheduler: Callable[[Any], Any] | None = None
    clip: Callable[[Any], Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two models, and what is needed to compare them.

    Attributes:
        name: shown in the report.
        torch_model: a torch.nn.Module, or a function of nothing that makes one.
        paddle_model: a paddle.nn.Layer, or a function of nothing that makes one.
        transfer: carry torch's weights into the Paddle model first; False compares the weights as
            they are.
        inputs: numpy arrays, the models' positional arguments.
        targets: numpy arrays, what the losses take after the model's output.
        torch_loss: function (model output, *targets) -> scalar; None: no loss, no backward step.
        paddle_loss: likewise.
        mode: "eval" or "train", the mode of BatchNorm and dropout.
        rename: regexes from Paddle names to torch names, for layers and tensors.
        convert: {paddle name: (torch names, function of their arrays)} where one tensor is made of
            others.
        torch_train: torch's optimizer and what goes with it.
        paddle_train: Paddle's.
        train_steps: how many steps the train step takes.
        checks: {step: function that yields (name, reference, ours)}: more comparisons of a step.
            A value may be given as a function of nothing, which runs only where its side runs.

    Raises:
        ValueError: an unknown mode or step, inputs that are not arrays.
    """

    name: str
    torch_model: Any
    paddle_model: Any
    inputs: Sequence[np.ndarray]
    targets: Sequence[np.ndarray] = ()
    transfer: bool = True
    torch_loss: Callable[..., Any] | None = None
    paddle_loss: Callable[..., Any] | None = None
    mode: str = "eval"
    rename: Mapping[str, str] = field(default_factory=dict)
    convert: Mapping[str, tuple] = field(default_factory=dict)
    torch_train: TrainSetup | None = None
    paddle_train: TrainSetup | None = None
    train_steps: int = 10
    checks: Checks = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.mode not in ("eval", "train"):
            raise ValueError(f"mode {self.mode!r} is not known; use 'eval' or 'train'")
        for pattern in self.rename:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"rename {pattern!r} is no regular expression: {error}") from error
        for step in self.checks:
            if step not in STEPS:
                raise ValueError(f"checks name the step {step!r}; the steps are {', '.join(STEPS)}")
        for kind, arrays in (("inputs", self.inputs), ("targets", self.targets)):
            _check_arrays(kind, arrays)
        if not self.inputs:
            raise ValueError("inputs is empty; give the models' arguments as numpy arrays")
        self._check_functions()

    def _check_functions(self) -> None:
        if (self.torch_loss is None) != (self.paddle_loss is None):
            missing = "torch_loss" if self.torch_loss is None else "paddle_loss"
            raise ValueError(f"{missing} is missing; give both losses or neither")
        if (self.torch_train is None) != (self.paddle_train is None):
            missing = "torch_train" if self.torch_train is None else "paddle_train"
            raise ValueError(f"{missing} is missing; give both or neither")
        if self.torch_train and not self.torch_loss:
            raise ValueError("training needs torch_loss and paddle_loss; give both losses")
        if self.train_steps < 1:
            raise ValueError(f"train_steps {self.train_steps} is below 1; use 1 or more")

    def steps(self) -> tuple[str, ...]:
        """Return the steps that this pair supports, in order."""
        supported = {"data", "weights", "forward", *self.checks}
        if self.torch_loss:
            supported |= {"loss", "backward"}
        if self.torch_train:
            supported.add("train")
        return tuple(step for step in STEPS if step in supported)

    def named_arrays(self) -> dict[str, np.ndarray]:
        """Return inputs and targets by name: `inputs[0]`, …, `targets[0]`, …."""
        return {
            f"{kind}[{index}]": array
            for kind, arrays in (("inputs", self.inputs), ("targets", self.targets))
            for index, array in enumerate(arrays)
        }


def _check_arrays(kind: str, arrays: Sequence[np.ndarray]) -> None:
    if isinstance(arrays, np.ndarray) or not isinstance(arrays, Sequence):
        raise ValueError(f"{kind} is a {type(arrays).__name__}; give a tuple of numpy arrays")
    for index, array in enumerate(arrays):
        if not isinstance(array, np.ndarray):
            raise ValueError(f"{kind}[{index}] is {type(array).__name__}; give numpy arrays")
        if array.dtype.kind not in "biufc":
            raise ValueError(f"{kind}[{index}] has dtype {array.dtype}; give numbers or booleans")
