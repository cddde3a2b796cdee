"""Both packages behind one face, so that one tester runs over both."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
import paddle
import torch

import factseg_paddle
import torch_ref
from alignment.torch_side.shapes import shapes_only
from factseg_paddle.models import backbones as paddle_backbones
from torch_ref.models import backbones as torch_backbones


class TorchSide:
    """torch_ref."""

    package: ModuleType = torch_ref
    backbones: ModuleType = torch_backbones

    def tensor(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.array(array))

    def array(self, tensor: torch.Tensor) -> np.ndarray:
        return tensor.detach().numpy()

    def seed(self, seed: int) -> None:
        torch.manual_seed(seed)

    def double(self, model: Any) -> Any:
        return model.double()

    def load(self, model: Any, weights: dict[str, np.ndarray]) -> None:
        missing, extra = model.load_state_dict(
            {name: torch.from_numpy(array) for name, array in weights.items()}, strict=False
        )
        assert not extra
        state = model.state_dict()
        assert all(state[name].ndim == 0 for name in missing)

    def state(self, model: Any) -> dict[str, np.ndarray]:
        return {name: tensor.detach().numpy() for name, tensor in model.state_dict().items()}

    def parameters(self, model: Any) -> dict[str, Any]:
        return dict(model.named_parameters())

    def gradients(self, model: Any) -> dict[str, np.ndarray]:
        return {n: p.grad.numpy() for n, p in model.named_parameters() if p.grad is not None}

    def without_values(self) -> Any:
        """A context in which networks are built of shapes alone."""
        return shapes_only()

    def statistics_names(self) -> tuple[str, str]:
        return "running_mean", "running_var"

    def to_be_loaded(self, make: Callable[[], Any]) -> Any:
        """A network whose tensors hold anything; the initial values take most of the time."""
        with self.without_values():
            model = make()
        return model.to_empty(device="cpu")

    def train_steps(self, model: Any, rates: list[float], clip: float):
        """An optimizer step function of (loss) -> gradient norm before clipping."""
        optimizer = torch.optim.SGD(
            model.parameters(), lr=rates[0], momentum=0.9, weight_decay=1e-4
        )
        iterator = iter(rates)

        def step(loss: torch.Tensor) -> float:
            optimizer.param_groups[0]["lr"] = next(iterator)
            optimizer.zero_grad()
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            return float(norm)

        return step


class PaddleSide:
    """factseg_paddle; names are given in torch's spelling."""

    package: ModuleType = factseg_paddle
    backbones: ModuleType = paddle_backbones

    def tensor(self, array: np.ndarray) -> paddle.Tensor:
        return paddle.to_tensor(array)

    def array(self, tensor: paddle.Tensor) -> np.ndarray:
        return tensor.detach().numpy()

    def seed(self, seed: int) -> None:
        paddle.seed(seed)

    def double(self, model: Any) -> Any:
        return model.to(dtype="float64")

    def load(self, model: Any, weights: dict[str, np.ndarray]) -> None:
        linear = _linear_weights(model)
        missing, extra = model.set_state_dict(
            {_paddle(n): a.T if n in linear else a for n, a in weights.items()}
        )
        state = model.state_dict()
        assert all(state[name].ndim == 0 for name in missing)
        assert not extra

    def state(self, model: Any) -> dict[str, np.ndarray]:
        linear = _linear_weights(model)
        arrays = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
        return {_torch(n): a.T if n in linear else a for n, a in arrays.items()}

    def parameters(self, model: Any) -> dict[str, Any]:
        named = model.named_parameters()
        return {n: p for n, p in named if not n.endswith(("._mean", "._variance"))}

    def gradients(self, model: Any) -> dict[str, np.ndarray]:
        return {n: p.grad.numpy() for n, p in model.named_parameters() if p.grad is not None}

    def without_values(self) -> Any:
        """A context in which networks are built of shapes alone."""
        return paddle.LazyGuard()

    def to_be_loaded(self, make: Callable[[], Any]) -> Any:
        """A network whose tensors hold anything; the initial values take most of the time."""

        def gaussian(shape, _mean, _std, _seed, dtype, _place):
            return paddle.empty(shape, dtype)

        def uniform(shape, dtype, *_):
            return paddle.empty(shape, dtype)

        with mock.patch.multiple(paddle._C_ops, gaussian=gaussian, uniform=uniform):
            return make()

    def train_steps(self, model: Any, rates: list[float], clip: float):
        """An optimizer step function of (loss) -> gradient norm before clipping."""
        optimizer = paddle.optimizer.Momentum(
            learning_rate=rates[0],
            momentum=0.9,
            weight_decay=1e-4,
            parameters=[p for p in model.parameters() if not p.stop_gradient],
            grad_clip=paddle.nn.ClipGradByGlobalNorm(clip),
        )
        iterator = iter(rates)

        def step(loss: paddle.Tensor) -> float:
            optimizer.set_lr(next(iterator))
            optimizer.clear_grad()
            loss.backward()
            squares = [float((p.grad**2).sum()) for p in model.parameters() if p.grad is not None]
            optimizer.step()
            return float(np.sqrt(np.sum(squares)))

        return step


SIDES = {"torch_ref": TorchSide(), "factseg_paddle": PaddleSide()}


def built_model(name: str, package: str) -> tuple[str, Any, Any]:
    """A network of five classes with its initial weights: its name, the side and the model."""
    side = SIDES[package]
    side.seed(7)
    return name, side, side.package.create_model(name, 5)


def shapes_of_paddle(name: str) -> Any:
    """A network of five classes in Paddle, of which only names and shapes are asked."""
    side = SIDES["factseg_paddle"]
    with side.without_values():
        return side.package.create_model(name, 5)


def random_tensor(side: Any, *shape: int) -> Any:
    """The same values on both sides, float32."""
    return side.tensor(np.random.RandomState(3).randn(*shape).astype(np.float32))


def _linear_weights(model: Any) -> set[str]:
    """Linear weights are [in, out] in Paddle and [out, in] in torch."""
    named = model.named_sublayers()
    return {f"{name}.weight" for name, layer in named if isinstance(layer, paddle.nn.Linear)}


def _paddle(name: str) -> str:
    return name.replace("running_mean", "_mean").replace("running_var", "_variance")


def _torch(name: str) -> str:
    return name.replace("._mean", ".running_mean").replace("._variance", ".running_var")
