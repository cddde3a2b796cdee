"""What a network costs: parameters, FLOPs, forward time and memory, in torch and Paddle by turns.

Each framework's network is a process of its own, so that its memory is its own. Both are alive at
the same time and run their passes by turns on the CPU, with as many threads as `OMP_NUM_THREADS`
says: what else the machine does meets both.
"""

from __future__ import annotations

import contextlib
import importlib
import signal
import statistics
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import NamedTuple

from factseg_paddle.cli import importing_paddle
from factseg_paddle.memory import peak_memory_bytes

PACKAGES = {"torch": "torch_ref.models", "paddle": "factseg_paddle.models"}


class CostError(RuntimeError):
    """A network can't be run; the message is one sentence that names the framework."""


class Size(NamedTuple):
    """Parameters of a network and floating-point operations of its forward pass."""

    parameters: int
    flops: int


@dataclass(frozen=True)
class Cost:
    """Forward passes of one framework.

    Attributes:
        seconds: of each timed pass.
        memory_bytes: how far the peak of the process grew after its imports.
    """

    seconds: tuple[float, ...]
    memory_bytes: int

    @property
    def median_seconds(self) -> float:
        """Return the median of the timed passes."""
        return statistics.median(self.seconds)


def count(name: str, num_classes: int, side: int) -> Size:
    """Count with torch's flop counter, which takes 2 for a multiply-add; nothing is computed.

    Args:
        name: one of `list_models()`.
        num_classes: classes including the background.
        side: of the one image, in evaluation mode: heads that only train do not count as FLOPs.

    Raises:
        ValueError: the network is not known, or takes no image of that side.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from alignment.torch_side.shapes import shapes_only
    from torch_ref import create_model

    with shapes_only():
        network = create_model(name, num_classes).eval()
        image = torch.empty(1, 3, side, side)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(image)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return Size(parameters, counter.get_total_flops())


def measure(
    name: str, num_classes: int, side: int, *, repeats: int, seconds: float
) -> dict[str, Cost]:
    """Run a network's forward pass in both frameworks by turns, once to warm up and then timed.

    Args:
        name: one of `list_models()`.
        num_classes: classes including the background.
        side: of the one image.
        repeats: timed passes of each framework, at most.
        seconds: once the timed passes took so long together, they are enough; at least one each.

    Returns:
        {framework: cost}, torch first.

    Raises:
        CostError: a framework can't run it.
    """
    with ExitStack() as open_sides:
        sides = [
            open_sides.enter_context(_Side(framework, name, num_classes, side))
            for framework in PACKAGES
        ]
        for one in sides:
            one.answer()  # that it is built
        for one in sides:
            one.run()  # what is set up once takes its time here
        times: list[list[float]] = []
        while len(times) < repeats and sum(map(sum, times)) < seconds:
            times.append([one.run() for one in sides])
        return {
            one.framework: Cost(tuple(own), one.memory_bytes)
            for one, own in zip(sides, zip(*times, strict=True), strict=True)
        }


class _Side:
    """A network of one framework in a process of its own, ended with the block.

    Attributes:
        framework: "torch" or "paddle".
        memory_bytes: how far the peak of the process had grown when the last pass was done.
    """

    def __init__(self, framework: str, *network: object) -> None:
        self.framework, self.memory_bytes = framework, 0
        context = get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, framework, *network))
        self._process.start()
        theirs.close()  # so that the end of the process ends the connection

    def __enter__(self) -> _Side:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.join()
        self._connection.close()

    def run(self) -> float:
        """Run a pass; return the seconds that it took."""
        with contextlib.suppress(BrokenPipeError):  # the process is gone: the answer says so
            self._connection.send(None)
        seconds, self.memory_bytes = self.answer()
        return seconds

    def answer(self) -> tuple[float, int]:
        """Return what the process says next: the seconds of a pass and `memory_bytes`.

        Raises:
            CostError: it failed, or is gone.
        """
        try:
            answer = self._connection.recv()
        except (EOFError, ConnectionError):
            self._process.join()
            status = self._process.exitcode
            answer = f"the process ended with {status}, perhaps out of memory; use a smaller image"
        if isinstance(answer, str):
            raise CostError(f"{self.framework}: {answer}")
        return answer


def _serve(connection: Connection, framework: str, *network: object) -> None:
    """Build a network, then run a pass for each message; the main function of a `_Side`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the other end, which ends this one
    warnings.filterwarnings("ignore", message="No ccache found")  # paddle's, on every import
    try:
        with importing_paddle():
            importlib.import_module(PACKAGES[framework])
        imported = peak_memory_bytes()
        forward = _FORWARD[framework](*network)
        connection.send((0.0, 0))
        while True:
            connection.recv()
            started = time.perf_counter()
            forward()
            seconds = time.perf_counter() - started
            connection.send((seconds, peak_memory_bytes() - imported))
    except (EOFError, ConnectionError):  # nobody asks any more
        return
    except Exception as error:  # anything that a network may raise: it is told, and not here
        connection.send(f"{type(error).__name__}: {error}")


def _torch_forward(name: str, num_classes: int, side: int) -> Callable[[], object]:
    import torch

    from torch_ref import create_model

    network, image = create_model(name, num_classes).eval(), torch.randn(1, 3, side, side)
    return torch.inference_mode()(lambda: network(image))


def _paddle_forward(name: str, num_classes: int, side: int) -> Callable[[], object]:
    import paddle

    from factseg_paddle import create_model

    paddle.device.set_device("cpu")
    network, image = create_model(name, num_classes), paddle.randn([1, 3, side, side])
    network.eval()
    return paddle.no_grad()(lambda: network(image))


_FORWARD = {"torch": _torch_forward, "paddle": _paddle_forward}
