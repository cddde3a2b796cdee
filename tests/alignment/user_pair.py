"""A pair as a user writes it, in a file of its own; frameworks are imported by the side that runs.

Functions other than `make_pair` are pairs with something wrong.
"""

import dataclasses

import numpy as np

from alignment import Pair, TrainSetup

print("a user's file may print")


def torch_model():
    import torch

    print("so may a model")
    rng = np.random.default_rng(5)
    net = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.ReLU(), torch.nn.Linear(5, 3))
    with torch.no_grad():
        for tensor in net.state_dict().values():
            tensor.copy_(torch.from_numpy(rng.uniform(-1, 1, tuple(tensor.shape))))
    return net


def paddle_model():
    from paddle import nn

    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))


def torch_loss(output, labels):
    from torch.nn.functional import cross_entropy

    return cross_entropy(output, labels)


def paddle_loss(output, labels):
    from paddle.nn.functional import cross_entropy

    return cross_entropy(output, labels)


def make_pair(seed):
    rng = np.random.default_rng(seed)
    return Pair(
        name="user",
        torch_model=torch_model,
        paddle_model=paddle_model,
        inputs=(rng.normal(size=(6, 4)).astype(np.float32),),
        targets=(rng.integers(0, 3, 6),),
        torch_loss=torch_loss,
        paddle_loss=paddle_loss,
        checks={"metric": metric},
    )


def metric():
    yield "sum", np.float64(3), lambda: np.float64(3)


def without_relu(seed):
    def model():
        from paddle import nn

        return nn.Sequential(nn.Linear(4, 5), nn.Identity(), nn.Linear(5, 3))

    return dataclasses.replace(make_pair(seed), paddle_model=model)


def with_nan(seed):
    def model():
        import paddle

        class NaN(paddle.nn.Layer):
            def forward(self, x):
                return x * float("nan")

        return paddle.nn.Sequential(paddle.nn.Linear(4, 5), NaN(), paddle.nn.Linear(5, 3))

    return dataclasses.replace(make_pair(seed), paddle_model=model)


def strange_name(seed):
    return dataclasses.replace(make_pair(seed), name="<b>&\x1b[1m pair</b>")


def training(seed):
    """With BatchNorm, and two steps of Adam that follow a schedule and clip."""

    def torch_net():
        import torch

        return torch.nn.Sequential(torch_model(), torch.nn.BatchNorm1d(3))

    def paddle_net():
        from paddle import nn

        return nn.Sequential(paddle_model(), nn.BatchNorm1D(3))

    def torch_optimizer(model):
        from torch.optim import AdamW

        return AdamW(model.parameters(), lr=0.1, weight_decay=0.01)

    def torch_schedule(optimizer):
        from torch.optim.lr_scheduler import StepLR

        return StepLR(optimizer, 1, 0.5)

    def torch_clip(model):
        from torch.nn.utils import clip_grad_norm_

        clip_grad_norm_(model.parameters(), 0.5)

    def paddle_optimizer(model):
        import paddle

        rate = paddle.optimizer.lr.StepDecay(0.1, 1, 0.5)
        clip = paddle.nn.ClipGradByGlobalNorm(0.5)
        return paddle.optimizer.AdamW(
            rate, parameters=model.parameters(), weight_decay=0.01, grad_clip=clip
        )

    return dataclasses.replace(
        make_pair(seed),
        torch_model=torch_net,
        paddle_model=paddle_net,
        torch_train=TrainSetup(torch_optimizer, torch_schedule, torch_clip),
        paddle_train=TrainSetup(paddle_optimizer),
        train_steps=2,
    )


def training_without_decay(seed):
    def optimizer(model):
        import paddle

        rate = paddle.optimizer.lr.StepDecay(0.1, 1, 0.5)
        clip = paddle.nn.ClipGradByGlobalNorm(0.5)
        return paddle.optimizer.AdamW(
            rate, parameters=model.parameters(), weight_decay=0.0, grad_clip=clip
        )

    return dataclasses.replace(training(seed), paddle_train=TrainSetup(optimizer))


def not_a_pair(_seed):
    return 3


def failing(_seed):
    raise RuntimeError("no luck\nsecond line")


def leaving(_seed):
    raise SystemExit(0)


def failing_model(seed):
    return dataclasses.replace(make_pair(seed), torch_model=lambda: 1 / 0)


def instances(seed):
    return dataclasses.replace(make_pair(seed), torch_model=torch_model())


CONSTANT = 3
