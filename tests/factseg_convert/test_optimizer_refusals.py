"""torch states that can't be told, layouts that differ, and what the converters say of them."""

import copy
import itertools

import numpy as np
import paddle
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alignment.weights.models import match_models, torch_specs
from factseg_convert.equality import same
from factseg_convert.optimizer_layout import map_of_specs, to_paddle, to_torch, without_counterpart
from factseg_paddle.io import load_plain, save_pdparams
from factseg_paddle.optimizers.state_format import OptimizerStateError
from scripts import convert_paddle2torch, convert_torch2paddle
from tests.factseg_convert.files import light_state, load_torch
from tests.factseg_convert.optimizers import (
    maps_of,
    parameters_of,
    torch_net,
    torch_optimizer,
    train_torch,
)


def trained(name, net):
    optimizer, scheduler = torch_optimizer(name, net)
    train_torch(net, optimizer, scheduler, range(2))
    return optimizer.state_dict()


# What can't be told


@pytest.mark.parametrize(
    ("name", "edit", "message"),
    [
        ("sgd", lambda o: o.pop("param_groups"), "has no param_groups"),
        ("sgd", lambda o: o["param_groups"][0]["params"].reverse(), "don't number their"),
        ("sgd", lambda o: o["param_groups"][0].pop("dampening"), "not of SGD, Adam or AdamW; .*lr"),
        ("adam", lambda o: o["param_groups"][0].pop("betas"), "not of SGD, Adam or AdamW"),
        (
            "adamw",
            lambda o: o["param_groups"][0].pop("decoupled_weight_decay"),
            "torch before 2.6 does not say which",
        ),
        ("adam", lambda o: o["state"][0].update(exp_inf=torch.ones(1)), "entries: exp_inf"),
        ("adam", lambda o: o["state"].update({6: {}}), r"no group has: \[6\]"),
        (
            "adam",
            lambda o: o["state"][1].update(exp_avg=torch.ones(4)),
            r"exp_avg of 0.bias is \[4",
        ),
        ("adam", lambda o: o["state"][1].update(exp_avg=3), "exp_avg of 0.bias is no tensor"),
        ("adam", lambda o: o["state"][1].update(step=torch.tensor(0.5)), "step of 0.bias is 0.5"),
        (
            "sgd",
            lambda o: o["param_groups"][0]["params"].append(6),
            "over 7 parameters without names and the model has 6; save .* named_parameters",
        ),
        (
            "sgd",
            lambda o: o["param_groups"].append({**o["param_groups"][0], "params": [6]}),
            "has 2 groups without names, so which .* named_parameters",
        ),
        (
            "sgd",
            lambda o: o["param_groups"][0].update(param_names=list("abcdef")),
            "names parameters that the model lacks: .*'a'",
        ),
        (
            "sgd",
            lambda o: o["param_groups"][0].update(param_names=["0.bias"]),
            "names 1 parameters and numbers 6",
        ),
    ],
)
def test_a_torch_state_that_cannot_be_told_is_refused(name, edit, message):
    net = torch_net()
    opt = copy.deepcopy(trained(name, net))
    edit(opt)
    with pytest.raises(OptimizerStateError, match=message) as caught:
        to_paddle(opt, *maps_of(net)[:2])
    assert "\n" not in str(caught.value)


def test_a_paddle_state_of_other_names_or_shapes_is_refused():
    net = torch_net()
    parameters, weights, specs = maps_of(net)
    state = to_paddle(trained("momentum", net), parameters, weights)
    for edit, message in (
        (lambda s: s["state"].update(x=s["state"].pop("0.bias")), "the model lacks: x"),
        (lambda s: s["groups"][0]["parameters"].remove("0.bias"), "each parameter once: 0.bias"),
        (
            lambda s: s["state"]["4.weight"].update(velocity=np.ones((4, 27))),
            r"is \[4, 27\], should",
        ),
    ):
        wrong = copy.deepcopy(state)
        edit(wrong)
        with pytest.raises(OptimizerStateError, match=message):
            to_torch(wrong, parameters, specs)


# Layouts and values


def test_a_state_of_the_four_keys_gets_torchs_defaults():
    net = torch_net()
    parameters, weights, specs = maps_of(net)
    for name, kind in (("momentum", "SGD"), ("adam", "Adam"), ("amsgrad", "AdamW")):
        state = to_paddle(trained(name, net), parameters, weights)
        del state["groups"]
        state["scheduler"] = {"last_epoch": 2, "last_lr": 0.03}
        opt = to_torch(state, parameters, specs)
        optimizer = getattr(torch.optim, kind)(net.parameters(), lr=1.0)
        expected = optimizer.state_dict()["param_groups"][0]
        changed = {"lr": 0.03}
        changed |= {"momentum": 0.9} if name == "momentum" else {}
        changed |= {"amsgrad": True} if name == "amsgrad" else {}
        assert opt["param_groups"] == [{**expected, **changed}]
        optimizer.load_state_dict(opt)
        assert same(to_paddle(opt, parameters, weights, step=0)["state"], state["state"])


def test_values_that_the_other_framework_cannot_do_are_told():
    assert without_counterpart({"groups": [{"dampening": 0, "maximize": False}]}) == []
    groups = [{"dampening": 0.5}, {"maximize": True}, {"l1_decay": 0.1}]
    assert without_counterpart({"groups": groups}) == [
        "dampening=0.5",
        "l1_decay=0.1",
        "maximize=True",
    ]


def test_fused_attention_is_taken_apart_and_joined():
    torch.manual_seed(0)
    net = torch.nn.MultiheadAttention(4, 2)
    optimizer = torch.optim.Adam(net.parameters())
    for parameter in net.parameters():
        parameter.grad = torch.rand(parameter.shape)
    optimizer.step()
    opt, parameters = optimizer.state_dict(), parameters_of(net)
    weights = match_models(net, paddle.nn.MultiHeadAttention(4, 2))
    assert weights
    state = to_paddle(opt, parameters, weights)
    moment = opt["state"][0]["exp_avg"].numpy()
    np.testing.assert_array_equal(state["state"]["k_proj.weight"]["moment1"], moment[4:8].T)
    assert same(to_torch(state, parameters, torch_specs(net)), opt)
    del state["state"]["k_proj.weight"]
    with pytest.raises(OptimizerStateError, match="in_proj_weight is made of parameters whose"):
        to_torch(state, parameters, torch_specs(net))


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 4), min_size=2, max_size=4),
    kind=st.sampled_from(["SGD", "Adam", "AdamW"]),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    groups=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_any_state_comes_back_bit_equal(sizes, kind, dtype, groups, seed):
    generator = torch.Generator().manual_seed(seed)
    pairs = itertools.pairwise(sizes)
    net = torch.nn.Sequential(*(torch.nn.Linear(a, b) for a, b in pairs)).to(dtype)
    named = list(net.named_parameters())
    chosen = [named[i] for i in torch.randperm(len(named), generator=generator)]
    split = [{"params": part} for i in range(groups) if (part := chosen[i::groups])]
    arguments = {"momentum": 0.9} if kind == "SGD" else {}
    optimizer = getattr(torch.optim, kind)(split, lr=0.1, **arguments)
    for _ in range(2):
        for _, parameter in chosen:
            if torch.rand((), generator=generator) < 0.7:
                grad = torch.rand(parameter.shape, generator=generator)
                parameter.grad = grad.to(dtype)
            else:
                parameter.grad = None
        optimizer.step()
    opt, specs = optimizer.state_dict(), torch_specs(net)
    state = to_paddle(opt, parameters_of(net), map_of_specs(specs))
    back = to_torch(state, parameters_of(net), specs)
    assert same(back, opt)
    assert list(back["state"]) == list(opt["state"])


# What the converters say


@pytest.mark.parametrize(
    ("opt", "reason"),
    [
        ({"lr": torch.ones(1)}, "it has no param_groups"),
        ({"param_groups": [{"params": 3}]}, "'int' object is not iterable"),
        ({"state": [], "param_groups": [{"params": [0], "lr": 1}]}, "its groups have lr"),
    ],
)
def test_an_opt_that_cannot_be_understood_stays_behind_and_is_told(tmp_path, capsys, opt, reason):
    torch.save({"model": light_state("resnet"), "opt": opt}, tmp_path / "a.pth")
    assert convert_torch2paddle.main(["--input", str(tmp_path / "a.pth")]) == 0
    out = capsys.readouterr().out
    assert out.count("opt, beside the weights, is not converted: ") == 1
    assert reason in out
    assert not (tmp_path / "a.pdopt").exists()
    (tmp_path / "b.pdopt").write_bytes(b"of other weights")
    argv = ["--input", str(tmp_path / "a.pth"), "--output", str(tmp_path / "b.pdparams")]
    assert convert_torch2paddle.main(argv) == 2
    assert "b.pdopt is there already and would be taken for" in capsys.readouterr().err
    assert not (tmp_path / "b.pdparams").exists()


@pytest.fixture
def converted(tmp_path):
    """A `.pdparams` with its `.pdopt`, of a torch file."""
    parameters = [
        torch.nn.Parameter(tensor.clone())
        for name, tensor in light_state("resnet").items()
        if not name.endswith(("running_mean", "running_var", "tracked"))
    ]
    optimizer = torch.optim.SGD(parameters, 0.01, momentum=0.9)
    parameters[0].grad = torch.ones_like(parameters[0])
    optimizer.step()
    content = {"model": light_state("resnet"), "opt": optimizer.state_dict(), "global_step": 1}
    torch.save(content, tmp_path / "a.pth")
    assert convert_torch2paddle.main(["--input", str(tmp_path / "a.pth")]) == 0
    (tmp_path / "a.pth").unlink()
    return tmp_path / "a.pdopt"


def test_a_changed_pdopt_tells_the_steps_itself(converted, capsys):
    state = load_plain(converted)
    save_pdparams(converted, {**state, "step": 9, "scheduler": {"last_epoch": 9, "last_lr": 0.5}})
    assert convert_paddle2torch.main(["--input", str(converted.with_name("a.pdparams"))]) == 0
    back = load_torch(converted.with_name("a.pth"))
    assert (back["global_step"], back["scheduler"]["last_epoch"]) == (9, 9)
    capsys.readouterr()
    save_pdparams(converted, {key: state[key] for key in ("type", "step", "state", "scheduler")})
    assert convert_paddle2torch.main(["--input", str(converted.with_name("a.pdparams"))]) == 0
    assert "it has no hyperparameters: lr 0.01, momentum 0.9 and the rest are defaults" in (
        capsys.readouterr().out
    )


def test_a_lost_pdopt_does_not_cost_the_published_file_its_opt(converted, capsys):
    converted.with_name("a.pth").write_bytes(b"the published file")
    converted.unlink()
    argv = ["--input", str(converted.with_name("a.pdparams"))]
    assert convert_paddle2torch.main(argv) == 2
    assert "is there already and holds opt, which the output would lack" in capsys.readouterr().err
    assert convert_paddle2torch.main([*argv, "--output", str(converted.with_name("b.pth"))]) == 0
    assert "opt is not there again, since there is no a.pdopt" in capsys.readouterr().out
    assert list(load_torch(converted.with_name("b.pth"))) == ["model", "global_step"]


def test_a_pdopt_that_is_damaged_foreign_or_unfit(converted, refused, capsys):
    state = load_plain(converted)
    data = converted.read_bytes()
    converted.write_bytes(data[: len(data) // 2])
    capsys.readouterr()
    message = refused(convert_paddle2torch, "a.pdparams")
    assert "a.pdopt is truncated or not a Paddle checkpoint" in message
    velocity = {"velocity": np.ones((5, 512), np.float32)}
    save_pdparams(converted, {**state, "state": {"fc.weight": velocity}})
    message = refused(convert_paddle2torch, "a.pdparams")
    assert "a.pdopt does not fit resnet18, 5 classes: velocity of fc.weight is [5, 512]" in message
    linear = paddle.nn.Linear(2, 2)
    adam = paddle.optimizer.Adam(parameters=linear.parameters())
    linear(paddle.ones([1, 2])).sum().backward()
    adam.step()
    paddle.save(adam.state_dict(), str(converted))
    argv = ["--input", str(converted.with_name("a.pdparams"))]
    assert convert_paddle2torch.main(argv) == 0
    assert "a.pdopt beside it is not converted: it is no optimizer state" in capsys.readouterr().out


def test_a_pdopt_that_would_run_code_is_refused(converted, refused, capsys):
    converted.write_bytes(b"cposix\nsystem\n(S'true'\ntR.")
    capsys.readouterr()
    message = refused(convert_paddle2torch, "a.pdparams")
    assert "asks for posix.system, which could run code" in message


def test_a_full_disk_leaves_neither_weights_nor_optimizer(converted, refused, monkeypatch, capsys):
    assert convert_paddle2torch.main(["--input", str(converted.with_name("a.pdparams"))]) == 0
    content = load_torch(converted.with_name("a.pth"))
    torch.save(content, converted.with_name("b.pth"))

    def full(_path, _content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("factseg_convert.write.write_manifest", full)
    capsys.readouterr()
    message = refused(convert_torch2paddle, "b.pth", output="c.pdparams")
    assert "c.pdparams was not written: No space left on device" in message
