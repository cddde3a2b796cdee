"""A Paddle optimizer's state in a file's form and back into another optimizer, bit by bit."""

import copy

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factseg_convert.equality import same
from factseg_paddle.io import load_plain, save_pdparams
from factseg_paddle.optimizers.state import (
    _beta_powers,
    load_optimizer_state,
    optimizer_state,
)
from factseg_paddle.optimizers.state_format import ENTRIES, OptimizerStateError
from tests.factseg_convert.optimizers import OPTIMIZERS, paddle_net, paddle_optimizer, train_paddle


def bits_of(layer):
    return {name: tensor.numpy().tobytes() for name, tensor in layer.state_dict().items()}


def values_of(layer):
    return {name: tensor.numpy() for name, tensor in layer.state_dict().items()}


@pytest.mark.parametrize("used", [False, True], ids=["fresh", "used"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_a_resumed_run_has_the_bits_of_the_whole_one(tmp_path, name, dtype, used):
    paddle.seed(0)
    layer = paddle_net(dtype)
    optimizer, scheduler = paddle_optimizer(name, layer)
    train_paddle(layer, optimizer, scheduler, range(3), dtype)
    weights = values_of(layer)
    save_pdparams(tmp_path / "a.pdopt", optimizer_state(layer, optimizer, 3))
    train_paddle(layer, optimizer, scheduler, range(3, 6), dtype)

    paddle.seed(1)
    other = paddle_net(dtype)  # the second model of the process: other automatic names
    other_optimizer, other_scheduler = paddle_optimizer(name, other)
    if used:
        train_paddle(other, other_optimizer, other_scheduler, range(50, 57), dtype)
    other.set_state_dict(weights)
    load_optimizer_state(other, other_optimizer, load_plain(tmp_path / "a.pdopt"))
    again = optimizer_state(other, other_optimizer, 3)
    assert same(again, load_plain(tmp_path / "a.pdopt"))
    assert again["step"] == 3
    train_paddle(other, other_optimizer, other_scheduler, range(3, 6), dtype)
    assert bits_of(other) == bits_of(layer)


def test_what_paddle_load_gives_is_taken_too(tmp_path):
    layer = paddle_net("float32")
    optimizer, scheduler = paddle_optimizer("adamw", layer)
    train_paddle(layer, optimizer, scheduler, range(2), "float32")
    state = optimizer_state(layer, optimizer, 2)
    save_pdparams(tmp_path / "a.pdopt", state)
    fresh, _ = paddle_optimizer("adamw", layer)
    load_optimizer_state(layer, fresh, paddle.load(str(tmp_path / "a.pdopt")))
    assert same(optimizer_state(layer, fresh, 2), state)


def test_a_never_stepped_optimizer_has_an_empty_state_that_loads():
    layer = paddle_net("float32")
    fresh, _ = paddle_optimizer("adam", layer)
    state = optimizer_state(layer, fresh, 0)
    assert state["state"] == {}
    used, scheduler = paddle_optimizer("adam", layer)
    train_paddle(layer, used, scheduler, range(3), "float32")
    load_optimizer_state(layer, used, state)
    assert scheduler.last_epoch == 0
    weights = values_of(layer)
    train_paddle(layer, used, scheduler, range(1), "float32")
    other = bits_of(layer)
    layer.set_state_dict(weights)
    train_paddle(layer, *paddle_optimizer("adam", layer), range(1), "float32")
    assert bits_of(layer) == other


@pytest.mark.parametrize("name", ["momentum", "adam"])
def test_parameters_frozen_for_a_while_keep_their_own_steps(name):
    layer = paddle_net("float32")
    optimizer, scheduler = paddle_optimizer(name, layer)
    layer[0].weight.stop_gradient = True
    train_paddle(layer, optimizer, scheduler, range(2), "float32")
    assert "0.weight" not in optimizer_state(layer, optimizer, 2)["state"]
    layer[0].weight.stop_gradient = False
    layer[4].bias.stop_gradient = True
    train_paddle(layer, optimizer, scheduler, range(2, 5), "float32")
    state = optimizer_state(layer, optimizer, 5)
    weights = values_of(layer)
    if name == "adam":
        steps = {key: int(entries.get("step", 5)) for key, entries in state["state"].items()}
        assert steps.pop("0.weight") == 3
        assert steps.pop("4.bias") == 2
        assert set(steps.values()) == {5}
    train_paddle(layer, optimizer, scheduler, range(5, 7), "float32")
    expected = bits_of(layer)
    layer.set_state_dict(weights)
    fresh, position = paddle_optimizer(name, layer)
    load_optimizer_state(layer, fresh, state)  # with state for a parameter that is frozen
    train_paddle(layer, fresh, position, range(5, 7), "float32")
    assert bits_of(layer) == expected


def test_groups_and_a_named_optimizer_go_on():
    def made(layer):
        groups = [
            {"params": layer[0].parameters(), "beta1": 0.5, "learning_rate": 0.1},
            {"params": [*layer[1].parameters(), *layer[4].parameters()], "weight_decay": 0.0},
        ]
        return paddle.optimizer.AdamW(0.125, parameters=groups, weight_decay=0.25, name="mine")

    layer = paddle_net("float32")
    optimizer = made(layer)
    train_paddle(layer, optimizer, None, range(3), "float32")
    state, weights = optimizer_state(layer, optimizer, 3), values_of(layer)
    assert [group["betas"] for group in state["groups"]] == [(0.5, 0.999), (0.9, 0.999)]
    assert [group["weight_decay"] for group in state["groups"]] == [0.25, 0.0]
    assert [group["lr"] for group in state["groups"]] == [0.0125, 0.125]
    names = [f"{i}.{kind}" for i in (1, 4) for kind in ("weight", "bias")]
    assert state["groups"][1]["parameters"] == names  # without BatchNorm's statistics
    train_paddle(layer, optimizer, None, range(3, 5), "float32")
    expected = bits_of(layer)
    layer.set_state_dict(weights)
    fresh = made(layer)
    load_optimizer_state(layer, fresh, state)
    train_paddle(layer, fresh, None, range(3, 5), "float32")
    assert bits_of(layer) == expected


@pytest.mark.parametrize("kind", ["SGD", "Momentum", "Adam", "AdamW"])
def test_master_weights_of_bfloat16_parameters_go_along(kind):
    class Layer(paddle.nn.Layer):
        def __init__(self):
            super().__init__()
            self.weight = self.create_parameter([4], dtype="bfloat16")

    layer = Layer()
    optimizer = getattr(paddle.optimizer, kind)(
        learning_rate=0.001, parameters=[layer.weight], multi_precision=True
    )
    entries = (*ENTRIES[kind], "master_weight")
    arrays = {entry: np.arange(4, dtype=np.float32) + i for i, entry in enumerate(entries)}
    state = {"type": kind, "step": 7, "state": {"weight": arrays}, "scheduler": {}}
    load_optimizer_state(layer, optimizer, state)
    assert same(optimizer_state(layer, optimizer, 7)["state"], state["state"])
    # No step here: the CPU has kernels for bfloat16 in SGD only, and that leaves the master alone.
    lacking = {"weight": {**arrays, "step": 3}}
    del lacking["weight"]["master_weight"]
    with pytest.raises(OptimizerStateError, match="weight has no master_weight"):
        load_optimizer_state(layer, optimizer, {**state, "state": lacking})


# Beta powers


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_powers_are_paddles_own_through_underflow(dtype):
    layer = paddle.nn.Linear(1, 1)
    layer.to(dtype=dtype)
    optimizer = paddle.optimizer.Adam(0.0, 0.5, 0.75, parameters=[layer.weight])
    layer.bias.stop_gradient = True
    for step in range(1, 3001):
        layer.weight.sum().backward()
        optimizer.step()
        optimizer.clear_grad()
        if step in (1, 2, 3, 100, 150, 370, 1100, 3000):
            for beta, key in ((0.5, "beta1_pow_acc"), (0.75, "beta2_pow_acc")):
                (own,) = (tensor.numpy() for tensor in optimizer._accumulators[key].values())
                made = _beta_powers(beta, step, own.dtype.str)[-1:]
                assert own.tobytes() == made.tobytes(), (step, beta)
            fresh = paddle.optimizer.Adam(0.0, 0.5, 0.75, parameters=[layer.weight])
            state = optimizer_state(layer, optimizer, step)
            load_optimizer_state(layer, fresh, state)
            assert same(optimizer_state(layer, fresh, step), state)


def test_step_counts_far_beyond_underflow_load():
    layer = paddle.nn.Linear(1, 1)
    moments = {key: np.ones([1, 1], np.float32) for key in ("moment1", "moment2")}
    state = {"type": "Adam", "step": 10**18, "state": {"weight": moments}, "scheduler": {}}
    optimizer = paddle.optimizer.Adam(0.5, parameters=layer.parameters())
    load_optimizer_state(layer, optimizer, state)
    before = layer.weight.numpy()
    layer.weight.sum().backward()
    optimizer.step()
    # Without bias correction: moments of ones and gradients of one stay one.
    np.testing.assert_allclose(before - layer.weight.numpy(), 0.5, rtol=1e-6)


@settings(max_examples=30, deadline=None)
@given(beta=st.floats(0, 0.9999), steps=st.integers(0, 5000), dtype=st.sampled_from(["<f4", "<f8"]))
def test_powers_are_a_product_one_by_one(beta, steps, dtype):
    power = kept = np.dtype(dtype).type(beta)
    for _ in range(steps):
        kept = kept * power
    assert _beta_powers(beta, steps, dtype)[-1] == kept


def test_fewer_steps_than_were_done_are_refused():
    layer = paddle_net("float32")
    optimizer, scheduler = paddle_optimizer("adam", layer)
    train_paddle(layer, optimizer, scheduler, range(3), "float32")
    with pytest.raises(OptimizerStateError, match="has done more than 2 steps"):
        optimizer_state(layer, optimizer, 2)


# Refusals


def edited(state, edit):
    state = copy.deepcopy(state)
    edit(state)
    return state


def without(state, *keys):
    *path, last = keys
    for key in path:
        state = state[key]
    del state[last]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda s: without(s, "step"), "no optimizer state: step is missing"),
        (lambda s: s.update(step=True), "its step is True"),
        (lambda s: s.update(step=-1), "its step is -1"),
        (lambda s: s.update(type="Lamb"), "its type 'Lamb' is none of"),
        (lambda s: s.update(type=[]), r"its type \[\] is none of"),
        (lambda s: s.update(type="Momentum"), "is of Momentum, the optimizer is Adam"),
        (lambda s: s.update(more=1), "unknown entries: more"),
        (lambda s: s.update(groups=[{}]), "a group has no parameters"),
        (lambda s: s.update(scheduler={"last_epoch": 2}), "not a last_epoch and a last_lr"),
        (lambda s: s.update(scheduler={}), "no scheduler's position, but .* PolynomialDecay"),
        (lambda s: s.update(state={}), "has no tensors after 2 steps of Adam"),
        (lambda s: s.update(state={3: {}}), "a parameter is called 3"),
        (lambda s: s["state"].update({"5.bias": s["state"]["4.bias"]}), "5.bias is no parameter"),
        (lambda s: without(s, "state", "4.weight", "moment2"), "4.weight has no moment2"),
        (
            lambda s: s["state"]["4.weight"].update(moment2_max=np.ones(3)),
            "4.weight has moment2_max, which the optimizer does not keep",
        ),
        (lambda s: s["state"]["4.weight"].update(extra=1), "4.weight has unknown entries: extra"),
        (lambda s: s["state"]["4.weight"].update(moment1=1), "moment1 of 4.weight is no array"),
        (lambda s: s["state"]["4.weight"].update(step=1.5), "step of 4.weight is 1.5"),
        (
            lambda s: s["state"]["4.weight"].update(moment1=np.ones((4, 27), np.float32)),
            r"moment1 of 4.weight is float32 \[4, 27\], should be float32 \[27, 4\]",
        ),
        (
            lambda s: s["state"]["4.weight"].update(moment1=np.ones((27, 4))),
            r"is float64 \[27, 4\], should be float32",
        ),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_changes(edit, message):
    layer = paddle_net("float32")
    optimizer, scheduler = paddle_optimizer("adam", layer)
    train_paddle(layer, optimizer, scheduler, range(2), "float32")
    wrong = edited(optimizer_state(layer, optimizer, 2), edit)
    train_paddle(layer, optimizer, scheduler, range(2, 4), "float32")
    before = optimizer_state(layer, optimizer, 4)
    with pytest.raises(OptimizerStateError, match=message) as caught:
        load_optimizer_state(layer, optimizer, wrong)
    assert "\n" not in str(caught.value)
    assert same(optimizer_state(layer, optimizer, 4), before)
    tensors = list(optimizer._accumulators["moment1"].values())
    train_paddle(layer, optimizer, scheduler, range(4, 5), "float32")
    assert [id(t) for t in optimizer._accumulators["moment1"].values()] == [*map(id, tensors)]


def test_every_misfit_is_named_at_once():
    layer = paddle_net("float32")
    optimizer, scheduler = paddle_optimizer("momentum", layer)
    train_paddle(layer, optimizer, scheduler, range(1), "float32")
    state = optimizer_state(layer, optimizer, 1)
    state["state"]["other"] = state["state"].pop("0.weight")
    state["state"]["4.bias"] = {"velocity": np.ones(3, np.float32)}
    with pytest.raises(OptimizerStateError, match=r"4\.bias is float32 \[3\].*; other is no"):
        load_optimizer_state(layer, optimizer, state)


def test_optimizers_that_are_not_known_are_refused():
    layer, other = paddle_net("float32"), paddle_net("float32")
    make = paddle.optimizer
    parameters = layer.parameters()
    with pytest.raises(OptimizerStateError, match="the optimizer is Adamax; known are SGD"):
        optimizer_state(layer, make.Adamax(parameters=parameters), 0)
    with pytest.raises(OptimizerStateError, match="give Adam use_multi_tensor=False"):
        optimizer_state(layer, make.Adam(parameters=parameters, use_multi_tensor=True), 0)
    with pytest.raises(OptimizerStateError, match="parameters that the model lacks: "):
        optimizer_state(other, make.SGD(0.1, parameters), 0)
    plateau = make.lr.ReduceOnPlateau(0.1)
    with pytest.raises(OptimizerStateError, match="ReduceOnPlateau keeps more than a position"):
        optimizer_state(layer, make.SGD(plateau, parameters), 0)
    state = optimizer_state(layer, make.SGD(make.lr.NoamDecay(64, 10), parameters), 0)
    with pytest.raises(OptimizerStateError, match="position, but the optimizer has a fixed rate"):
        load_optimizer_state(layer, make.SGD(0.1, parameters), state)
