"""From the command line's words to a pair."""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from alignment.pair import AlignmentError, Pair
from alignment.weights.tensors import WeightsError
from factseg_paddle.io import CheckpointError

NAMED_PAIRS = "factseg_proof.pairs.named:make_named_pair"
"""MODULE:FUNCTION with FUNCTION(request) -> Pair, which makes the pairs that have a name.

Loaded when a name is asked for, so that the harness imports no network.
"""


@dataclass(frozen=True)
class Request:
    """What the command line says about the pair; see `python -m alignment --help`."""

    pair: str = "factseg"
    seed: int = 0
    image: Path | None = None
    mask: Path | None = None
    crop: int | None = None
    torch_weights: Path | None = None
    paddle_weights: Path | None = None
    torch_recorded: bool = False
    side: str = "both"

    @property
    def torch_runs(self) -> bool:
        """Return whether torch's side runs: it is neither read from a record nor left out."""
        return self.side != "paddle" and not self.torch_recorded


def load_pair(request: Request) -> Pair:
    """Make the pair, with the weights of files where they are given.

    Raises:
        AlignmentError: it can't be made; the sentence says why.
    """
    if request.seed < 0:
        raise AlignmentError(f"seed {request.seed} is negative; use 0 or more")
    pair = _users_pair(request) if ":" in request.pair else _named_pair(request)
    return _with_weights(pair, request)


def _named_pair(request: Request) -> Pair:
    """Return the pair of a name without a file; the names belong to NAMED_PAIRS, not to us."""
    module, _, function = NAMED_PAIRS.partition(":")
    return getattr(importlib.import_module(module), function)(request)


def _users_pair(request: Request) -> Pair:
    for option in ("image", "mask", "crop"):
        if getattr(request, option) is not None:
            raise AlignmentError(
                f"--{option} belongs to our own networks; {request.pair} chooses its own inputs"
            )
    file, _, function = request.pair.rpartition(":")
    if not file.endswith(".py"):
        raise AlignmentError(f"pair {request.pair!r} is not known; use factseg or FILE.py:FUNCTION")
    path = Path(file).resolve()
    if not path.is_file():
        raise AlignmentError(f"{file} is not there; --pair takes FILE.py:FUNCTION")
    try:
        pair = _function_of(path, function)(request.seed)
    except AlignmentError:
        raise
    except (
        Exception,
        SystemExit,
    ) as error:  # a user's file may raise anything; the cause stays attached
        first_line = (str(error).strip() or "no message").splitlines()[0]
        raise AlignmentError(
            f"{request.pair} raised {type(error).__name__}: {first_line}"
        ) from error
    if not isinstance(pair, Pair):
        raise AlignmentError(f"{request.pair} gave a {type(pair).__name__}, not an alignment.Pair")
    return pair


def _function_of(path: Path, name: str) -> Callable[[int], Any]:
    # A name of its own: a file may be called like a module that is loaded already.
    spec = importlib.util.spec_from_file_location(f"alignment_pair_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    # What lies beside the file can be imported, as when it is run, and what lies in the current
    # folder, which is on the path of `python -m alignment` but not of the command `alignment`.
    sys.path[:0] = [str(path.parent), str(Path.cwd())]
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    function = getattr(module, name, None)
    if not callable(function):
        raise AlignmentError(f"{path.name} has no function {name!r}")
    return function


def _with_weights(pair: Pair, request: Request) -> Pair:
    torch_file, paddle_file = request.torch_weights, request.paddle_weights
    for option, file in (("--torch-weights", torch_file), ("--paddle-weights", paddle_file)):
        if file and not file.is_file():
            raise AlignmentError(f"{option} {file} is not there")
    if paddle_file and not (torch_file or request.torch_recorded):
        raise AlignmentError(
            "--paddle-weights needs --torch-weights too: without it torch's weights would be "
            "carried over the file's"
        )
    if torch_file:
        model = functools.partial(_torch_with_file, pair.torch_model, torch_file)
        pair = replace(pair, torch_model=model)
    if paddle_file:
        model = functools.partial(_paddle_with_file, pair.paddle_model, paddle_file)
        pair = replace(pair, paddle_model=model, transfer=False)
    return pair


def _torch_with_file(model: Any, file: Path) -> Any:
    from alignment.weights.checkpoint_files import read_checkpoint
    from alignment.weights.models import load_torch_state, torch_state

    module = model() if isinstance(model, type) or not hasattr(model, "state_dict") else model
    counters = {n: a for n, a in torch_state(module).items() if n.endswith("num_batches_tracked")}
    with _named_file(file):
        load_torch_state(module, counters | dict(read_checkpoint(file, "torch").state))
    return module


def _paddle_with_file(model: Any, file: Path) -> Any:
    from alignment.weights.checkpoint_files import read_checkpoint
    from alignment.weights.models import load_paddle_state

    layer = model() if isinstance(model, type) or not hasattr(model, "state_dict") else model
    with _named_file(file):
        load_paddle_state(layer, read_checkpoint(file, "paddle").state)
    return layer


@contextlib.contextmanager
def _named_file(file: Path) -> Iterator[None]:
    try:
        yield
    except (WeightsError, CheckpointError) as error:
        raise AlignmentError(f"{file}: {error}") from error
