"""The optimizer goes through both converters, with the weights."""

import numpy as np
import paddle
import pytest
import torch

import factseg_paddle
import torch_ref
from alignment.torch_side.shapes import shapes_only
from alignment.weights.checkpoint_files import read_checkpoint
from factseg_convert.architectures import identify
from factseg_convert.equality import same
from factseg_paddle.io import load_plain, save_pdparams
from factseg_paddle.optimizers.state import load_optimizer_state, optimizer_state
from scripts import convert_paddle2torch, convert_torch2paddle
from tests.factseg_convert.files import light_state, load_torch, random_state, there_and_back
from torch_ref.models.backbones import BACKBONES

pytestmark = pytest.mark.timeout(600)  # starts whole runs

CLASSES = 5


def resnet_names():
    with shapes_only():
        net = BACKBONES["resnet18"](num_classes=CLASSES)
    return {name: tuple(p.shape) for name, p in net.named_parameters()}


def published(kind="SGD", dtype=torch.float32, *, named=False, **arguments):
    """A checkpoint of the published form whose optimizer has a random state."""
    generator = torch.Generator().manual_seed(3)
    parameters = [
        (name, torch.nn.Parameter(torch.rand(shape, generator=generator).to(dtype)))
        for name, shape in resnet_names().items()
    ]
    given = parameters if named else [parameter for _, parameter in parameters]
    optimizer = getattr(torch.optim, kind)(given, **arguments)
    for _, parameter in parameters[1:]:  # the first one had no gradient
        parameter.grad = torch.rand(parameter.shape, generator=generator).to(dtype)
    optimizer.step()
    optimizer.step()
    model = {f"module.{name}": t for name, t in random_state("resnet").items()}
    return {"model": model, "opt": optimizer.state_dict(), "global_step": 2}


def to_paddle_files(tmp_path, content):
    torch.save(content, tmp_path / "a.pth")
    return convert_torch2paddle.main(["--input", str(tmp_path / "a.pth")])


# There and back


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("SGD", {"lr": 0.007, "momentum": 0.9, "weight_decay": 1e-4}),
        ("SGD", {"lr": 0.007}),
        ("SGD", {"lr": 0.007, "momentum": 0.9, "named": True, "nesterov": True}),
        ("Adam", {"lr": torch.tensor(0.1), "betas": (0.8, 0.95)}),
        ("Adam", {"amsgrad": True, "dtype": torch.bfloat16}),
        ("AdamW", {"dtype": torch.float64, "maximize": True}),
    ],
)
def test_there_and_back_is_bit_equal(tmp_path, kind, arguments, capsys):
    content = published(kind, **arguments)
    back = there_and_back(tmp_path, content)
    assert same(back, content)
    assert list(back) == list(content)
    assert list(back["opt"]["state"]) == list(content["opt"]["state"])
    out = capsys.readouterr().out
    assert "is in a.pdopt" in out
    assert (
        "Paddle can't do its maximize=True" in out
        if "maximize" in arguments
        else "can't" not in out
    )


def test_groups_with_names_schedulers_and_other_keys_come_back(tmp_path):
    names = list(resnet_names())
    content = published("AdamW", named=True)
    optimizer = torch.optim.AdamW(
        [
            {"params": [(f"module.{n}", torch.nn.Parameter(torch.ones(s)))], "lr": i / 100}
            for i, (n, s) in enumerate(resnet_names().items())
        ]
    )
    scheduler = torch.optim.lr_scheduler.PolynomialLR(optimizer, 100, 0.9)
    optimizer.step()
    scheduler.step()
    content = {
        "model": content["model"],
        "optimizer": optimizer.state_dict(),
        "epoch": 3,
        "lr_scheduler": scheduler.state_dict(),
    }
    back = there_and_back(tmp_path, content)
    assert same(back, content)
    state = load_plain(tmp_path / "a.pdopt")
    assert state["scheduler"] == {"last_epoch": 1, "last_lr": optimizer.param_groups[0]["lr"]}
    assert len(state["groups"]) == len(names)


def test_the_position_of_a_published_file_is_its_global_step(tmp_path):
    content = published(lr=0.007, momentum=0.9)
    content["global_step"] = 60000
    assert to_paddle_files(tmp_path, content) == 0
    state = load_plain(tmp_path / "a.pdopt")
    assert (state["type"], state["step"]) == ("Momentum", 60000)
    assert state["scheduler"] == {"last_epoch": 60000, "last_lr": 0.007}
    loaded = paddle.load(str(tmp_path / "a.pdopt"))
    assert loaded["state"]["fc.weight"]["velocity"].shape == [512, CLASSES]


def test_a_checkpoint_folder_gets_its_two_files(tmp_path):
    torch.save(published(lr=0.007, momentum=0.9), tmp_path / "a.pth")
    (tmp_path / "run").mkdir()
    output = tmp_path / "run" / "model.pdparams"
    argv = ["--input", str(tmp_path / "a.pth"), "--output", str(output)]
    assert convert_torch2paddle.main(argv) == 0
    names = {"model.pdparams", "optimizer.pdopt", "model.pdparams.manifest.json"}
    assert {path.name for path in output.parent.iterdir()} == names
    assert convert_paddle2torch.main(["--input", str(tmp_path / "run")]) == 0
    assert same(load_torch(tmp_path / "run.pth"), load_torch(tmp_path / "a.pth"))


def test_the_parameters_of_a_variant_are_those_of_the_network(tmp_path):
    for arch in ("resnet", "factseg"):
        torch.save(light_state(arch), tmp_path / "a.pth")
        variant = identify(read_checkpoint(tmp_path / "a.pth", "torch"))
        with shapes_only():
            net = torch_ref.FactSeg(5, "resnet18") if arch == "factseg" else None
            net = net or BACKBONES["resnet18"](num_classes=5)
        assert variant.parameters == {n: tuple(p.shape) for n, p in net.named_parameters()}
        assert list(variant.parameters) == [n for n, _ in net.named_parameters()]


# Training goes on


def loss_of(out):
    return sum((logits**2).mean() for logits in out)


def train_torch(net, optimizer, scheduler, steps):
    for step in steps:
        x = np.random.RandomState(step).randn(1, 3, 32, 32)
        optimizer.zero_grad()
        loss_of(net(torch.from_numpy(x))).backward()
        optimizer.step()
        scheduler.step()


def train_paddle(net, optimizer, scheduler, steps):
    for step in steps:
        x = np.random.RandomState(step).randn(1, 3, 32, 32)
        loss_of(net(paddle.to_tensor(x))).backward()
        optimizer.step()
        optimizer.clear_grad()
        scheduler.step()


def torch_side():
    torch.manual_seed(0)
    net = torch_ref.FactSeg(num_classes=3, backbone="resnet18").double().eval()
    arguments = {"momentum": 0.875, "weight_decay": 2.0**-12}
    optimizer = torch.optim.SGD(net.parameters(), 0.007, **arguments)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: (1 - k / 10) ** 0.9)
    return net, optimizer, scheduler


def paddle_side():
    net = factseg_paddle.FactSeg(num_classes=3, backbone="resnet18")
    net.to(dtype="float64")
    net.eval()
    scheduler = paddle.optimizer.lr.PolynomialDecay(0.007, 10, end_lr=0.0, power=0.9)
    optimizer = paddle.optimizer.Momentum(scheduler, 0.875, net.parameters(), weight_decay=2.0**-12)
    return net, optimizer, scheduler


def test_factseg_goes_on_in_the_other_framework_through_the_files(tmp_path):
    net, optimizer, scheduler = torch_side()
    train_torch(net, optimizer, scheduler, range(2))
    content = {"model": net.state_dict(), "opt": optimizer.state_dict(), "global_step": 2}
    assert to_paddle_files(tmp_path, content) == 0
    train_torch(net, optimizer, scheduler, range(2, 4))
    four = {name: tensor.numpy().copy() for name, tensor in net.state_dict().items()}

    # The schedule's position is global_step: a file of FactSeg has no scheduler of torch.
    layer, ours, position = paddle_side()
    train_paddle(layer, ours, position, range(50, 51))  # a state to be forgotten
    layer.set_state_dict(paddle.load(str(tmp_path / "a.pdparams")))
    load_optimizer_state(layer, ours, load_plain(tmp_path / "a.pdopt"))
    assert position.last_epoch == 2

    # Into a checkpoint folder, from there to torch, and two steps on both sides.
    (tmp_path / "run").mkdir()
    save_pdparams(
        tmp_path / "run" / "model.pdparams",
        {name: tensor.numpy() for name, tensor in layer.state_dict().items()},
    )
    save_pdparams(tmp_path / "run" / "optimizer.pdopt", optimizer_state(layer, ours, 2))
    assert convert_paddle2torch.main(["--input", str(tmp_path / "run")]) == 0
    back = load_torch(tmp_path / "run.pth")
    assert list(back) == ["model", "opt", "global_step", "scheduler"]
    net, optimizer, scheduler = torch_side()
    train_torch(net, optimizer, scheduler, range(50, 51))
    net.load_state_dict(back["model"])
    optimizer.load_state_dict(back["opt"])
    scheduler.load_state_dict(back["scheduler"])
    train_torch(net, optimizer, scheduler, range(2, 4))
    train_paddle(layer, ours, position, range(2, 4))
    assert all(
        np.abs(tensor.numpy() - four[name]).max() <= 1e-12 * np.abs(four[name]).max()
        for name, tensor in net.state_dict().items()
    )
    for name, tensor in layer.state_dict().items():
        theirs = four[name.replace("._mean", ".running_mean").replace("._variance", ".running_var")]
        # Seen 5e-8: Paddle computes the ratio of its bilinear upsampling in float32.
        assert np.abs(tensor.numpy() - theirs).max() <= 1e-6 * np.abs(theirs).max(), name
