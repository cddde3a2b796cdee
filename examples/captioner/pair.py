"""Holds the Paddle captioner against the torch one.

    python -m alignment --pair examples/captioner/pair.py:make_pair

A framework is imported only inside the functions of its side, so that either side also runs where
the other framework is not installed (`--side torch`, `--torch-records`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from alignment import Pair, TrainSetup

if TYPE_CHECKING:
    import paddle
    import torch

WORDS, LENGTH, BATCH = 30, 5, 2

# Regexes from Paddle's names to torch's, applied one after the other to every layer and tensor.
RENAME = {
    r"^image\.conv": "encoder.stem",
    r"^image\.group_norm": "encoder.norm",
    r"^image\.deconv": "encoder.upsample",
    r"^image": "encoder",
    r"^text\.embed": "decoder.embedding",
    r"^text\.rnn": "decoder.gru",
    r"^text\.layer_norm": "decoder.norm",
    r"^text\.attend": "decoder.attention",
    r"^text\.head": "decoder.classifier",
    r"^text": "decoder",
}

# Tensors that differ in more than name: torch keeps [1, LENGTH, width], Paddle [LENGTH, width].
# Linear weights, attention's fused projection and recurrent layers need no entry: their layer types
# tell how they are laid out.
CONVERT = {"text.positions": (("decoder.position",), lambda position: position[0])}


def make_pair(seed: int, mode: str = "eval") -> Pair:
    """Make the two captioners, with the same random weights and inputs for the same seed."""
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(BATCH, 3, 8, 8)).astype(np.float32)
    ids = rng.integers(0, WORDS, (BATCH, LENGTH))
    ids[0, 0] = 0  # a padding word is always among them
    next_words = rng.integers(0, WORDS, (BATCH, LENGTH))
    next_words[1, -1] = 0
    return Pair(
        name="captioner",
        torch_model=lambda: make_torch(seed),
        paddle_model=make_paddle,
        inputs=(image, ids),
        targets=(next_words,),
        torch_loss=torch_loss,
        paddle_loss=paddle_loss,
        torch_train=TrainSetup(torch_optimizer),
        paddle_train=TrainSetup(paddle_optimizer),
        mode=mode,
        rename=RENAME,
        convert=CONVERT,
    )


def make_torch(seed: int) -> torch.nn.Module:
    """Make the torch model, no weight 0 or 1: a fault hides behind a bias of 0 or a scale of 1."""
    import torch
    from torch_net import Captioner

    net = Captioner(WORDS, LENGTH)
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            low, high = (0.5, 1.5) if name.endswith("norm.weight") else (-0.5, 0.5)
            values = rng.uniform(low, high, tuple(parameter.shape))
            parameter.copy_(torch.from_numpy(values))
    return net


def make_paddle() -> paddle.nn.Layer:
    """Make the Paddle model; `align` carries torch's weights over."""
    from paddle_net import Captioner

    return Captioner(WORDS, LENGTH)


def torch_loss(output: dict, targets: torch.Tensor) -> torch.Tensor:
    """Compute the loss on torch's side."""
    from torch_net import loss

    return loss(output, targets)


def paddle_loss(output: dict, targets: paddle.Tensor) -> paddle.Tensor:
    """Compute the loss on Paddle's side."""
    from paddle_net import loss

    return loss(output, targets)


def torch_optimizer(net: torch.nn.Module) -> torch.optim.Optimizer:
    """Decay of the weights by the loss's gradient, as Paddle's Momentum does it."""
    import torch

    return torch.optim.SGD(net.parameters(), 0.1, momentum=0.9, weight_decay=0.01)


def paddle_optimizer(net: paddle.nn.Layer) -> paddle.optimizer.Optimizer:
    """Make the same optimizer in Paddle."""
    import paddle

    return paddle.optimizer.Momentum(0.1, 0.9, parameters=net.parameters(), weight_decay=0.01)
