"""The reference: immutable, used as often as one likes, and let go of where nobody holds it."""

from __future__ import annotations

import dataclasses
import weakref

import paddle
import pytest

import alignment.run
from alignment import TrainSetup, align
from alignment.recording.reference import ModelReference, Reference, TrainingReference
from alignment.recording.train_record import TrainRecord, TrainState
from alignment.steps.torch_reference import run_torch
from tests.alignment.small import PaddleNet
from tests.alignment.steps.train_setups import paddle_setup, torch_setup, training_pair


@pytest.fixture
def pair():
    return training_pair(paddle_setup(), torch_setup())


def frozen(cls):
    return cls.__dataclass_params__.frozen


@pytest.mark.parametrize(
    "cls", [Reference, ModelReference, TrainingReference, TrainRecord, TrainState]
)
def test_parts_of_a_reference_can_not_be_filled_in_or_emptied(cls):
    assert frozen(cls)


def test_comparison_leaves_the_reference_as_it_was(pair):
    reference = run_torch(pair, pair.steps())
    first = align(pair, reference=reference)
    broken = dataclasses.replace(pair, paddle_model=lambda: PaddleNet(relu1=paddle.nn.Identity()))
    assert not align(broken, reference=reference)
    again = align(pair, reference=reference)
    assert first, str(first)
    assert first.as_dict()["steps"] == again.as_dict()["steps"]


def test_what_torchs_model_computed_is_let_go_of_before_training(pair, monkeypatch):
    """It is hundreds of MB: only whoever passed a reference keeps it."""
    traces = []

    def recorded(*args, **kwargs):
        reference = run_torch(*args, **kwargs)
        traces.append(weakref.ref(reference.model.trace))
        return reference

    monkeypatch.setattr(alignment.run, "run_torch", recorded)
    alive = {}

    def note(phase):
        if traces:
            alive[phase] = traces[0]() is not None

    assert align(pair, progress=note)
    assert alive["Paddle float64"]
    assert not alive["train step 1 of 2"]


def test_activations_of_a_step_are_let_go_of_before_its_update(pair):
    arrays, alive = [], []
    reference = run_torch(pair, ["train"])
    original = reference.training.steps

    def noted(step):
        arrays.append(weakref.ref(next(iter(step.activations.values()))))
        return step

    def steps(dtype):
        return map(noted, original(dtype))  # a generator would hold the step it has yielded

    def clip(_model):
        alive.append(any(array() is not None for array in arrays[-1:]))

    setup = TrainSetup(pair.paddle_train.optimizer, clip=clip)
    clipped = TrainSetup(pair.torch_train.optimizer, clip=lambda _model: None)
    watched = dataclasses.replace(pair, paddle_train=setup, torch_train=clipped)
    training = dataclasses.replace(reference.training, steps=steps)
    align(watched, ["train"], reference=dataclasses.replace(reference, training=training))
    assert len(arrays) == pair.train_steps < len(alive)  # the free run is clipped too
    assert not any(alive)
