"""A small network on both sides, and training steps on it, for the optimizer state's tests.

Hyperparameters are exact in float32, since Paddle's kernels take Momentum's `momentum` and weight
decay and AdamW's decay as float32 even for float64 parameters (4.5e-8 after six steps at 0.9).
"""

import numpy as np
import paddle
import torch

from alignment.weights.matching import match
from alignment.weights.models import load_paddle_state, paddle_tensors, torch_specs, torch_state
from factseg_convert.optimizer_layout import map_of_specs

STEPS, RATE, POWER, DECAY = 10, 0.05, 0.9, 2.0**-7

# name -> (Paddle's type, its arguments, torch's type, its arguments)
OPTIMIZERS = {
    "sgd": ("SGD", {}, "SGD", {}),
    "momentum": ("Momentum", {"momentum": 0.875}, "SGD", {"momentum": 0.875}),
    "nesterov": (
        "Momentum",
        {"momentum": 0.875, "use_nesterov": True},
        "SGD",
        {"momentum": 0.875, "nesterov": True},
    ),
    "adam": ("Adam", {}, "Adam", {}),
    "adamw": ("AdamW", {"beta2": 0.99}, "AdamW", {"betas": (0.9, 0.99)}),
    "amsgrad": ("AdamW", {"amsgrad": True}, "AdamW", {"amsgrad": True}),
}


def torch_net(dtype=torch.float64):
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(2, 3, 3),
        torch.nn.BatchNorm2d(3),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(27, 4),
    )
    with torch.no_grad():
        net[1].running_mean.normal_(0, 0.1)
        net[1].running_var.uniform_(0.5, 1.5)
    return net.to(dtype).eval()


def paddle_net(dtype="float64", like=None):
    nn = paddle.nn
    net = nn.Sequential(
        nn.Conv2D(2, 3, 3), nn.BatchNorm2D(3), nn.ReLU(), nn.Flatten(), nn.Linear(27, 4)
    )
    net.to(dtype=dtype)
    net.eval()
    if like is not None:
        carry_to_paddle(like, net)
    return net


def carry_to_paddle(net, layer):
    weights = match(torch_specs(net), paddle_tensors(layer))
    load_paddle_state(layer, weights.to_paddle(torch_state(net)))


def carry_to_torch(layer, net):
    with torch.no_grad():
        own = net.state_dict()
        for spec in torch_specs(net):
            if spec.paddle_name:
                array = spec.to_torch(layer.state_dict()[spec.paddle_name].numpy())
                own[spec.torch_name].copy_(torch.from_numpy(array))


def parameters_of(net):
    return {name: tuple(p.shape) for name, p in net.named_parameters()}


def maps_of(net):
    """Parameters, the map to Paddle, and the specs: what the conversions need."""
    specs = torch_specs(net)
    return parameters_of(net), map_of_specs(specs), specs


def torch_optimizer(name, net):
    *_, kind, arguments = OPTIMIZERS[name]
    optimizer = getattr(torch.optim, kind)(net.parameters(), RATE, weight_decay=DECAY, **arguments)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: (1 - k / STEPS) ** POWER)
    return optimizer, scheduler


def paddle_optimizer(name, layer):
    kind, arguments, *_ = OPTIMIZERS[name]
    scheduler = paddle.optimizer.lr.PolynomialDecay(RATE, STEPS, end_lr=0.0, power=POWER)
    optimizer = getattr(paddle.optimizer, kind)(
        scheduler, parameters=layer.parameters(), weight_decay=DECAY, **arguments
    )
    return optimizer, scheduler


def batch(step, dtype="float64"):
    r = np.random.RandomState(step)
    return r.randn(4, 2, 5, 5).astype(dtype), r.randn(4, 4).astype(dtype)


def train_torch(net, optimizer, scheduler, steps):
    for step in steps:
        x, y = map(torch.from_numpy, batch(step))
        optimizer.zero_grad()
        ((net(x) - y) ** 2).mean().backward()
        optimizer.step()
        scheduler.step()


def train_paddle(layer, optimizer, scheduler, steps, dtype="float64"):
    for step in steps:
        x, y = map(paddle.to_tensor, batch(step, dtype))
        ((layer(x) - y) ** 2).mean().backward()
        optimizer.step()
        optimizer.clear_grad()
        if scheduler is not None:
            scheduler.step()


def difference(layer, net):
    """The largest difference of any Paddle tensor from torch's, relative to torch's largest."""
    weights = match(torch_specs(net), paddle_tensors(layer))
    theirs = weights.to_paddle(torch_state(net))
    ours = {name: tensor.numpy() for name, tensor in layer.state_dict().items()}
    assert ours.keys() == theirs.keys()
    return max(np.abs(ours[n] - theirs[n]).max() / np.abs(theirs[n]).max() for n in ours)
