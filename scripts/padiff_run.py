"""PaDiff on FactSeg with planted faults: the recorded run behind its column in the table.

PaDiff wraps the functions of both frameworks when it is imported and keeps state when something
raises, so it runs in processes of its own, each used until something raises in it.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any, NamedTuple
from unittest import mock

from alignment.cli import quieten_frameworks
from alignment.pair import AlignmentError, Pair
from factseg_proof.faults.run import CROP, SEED, TRAIN_STEPS

TOLERANCES = (None, 1e-6, 1e-5, 1e-4)
"""PaDiff's own (atol 0, rtol 1e-7), then looser ones for both atol and rtol."""

CLEAN_SEEDS = range(6)
NOTES = {
    "model": f"FactSeg-50 in evaluation mode, {CROP}x{CROP}, seed {SEED}, float32 on the CPU",
    "weights": "torch's weights and statistics are carried over first, save where the fault is in "
    "the weights; then auto_weights=True, PaDiff's default, copies the parameters again, which "
    "mends such a fault; `as_they_are` has those faults with auto_weights=False",
    "compare_mode": "mean, PaDiff's default",
    "loss": "loss_fn is given",
    "optimizer": "for the faults in training alone, with clipping and schedule; the others are "
    "compared in one step of forward, loss and backward",
    "tolerance": "the tightest of PaDiff's own (atol 0, rtol 1e-7) and 1e-6, 1e-5, 1e-4 for both "
    f"under which the clean pair of seed {SEED} passes",
    "flagged": "PaDiff reports a difference or raises",
    "placed": "what it names first is the fault's place: the layer, or the innermost layer on the "
    "stack that it prints; one of `A -> B`; the parameter or its layer; the loss",
    "data": "PaDiff has no step for reading, transforms and metrics: missed",
}


@dataclass(frozen=True)
class Setting:
    """How auto_diff is called.

    Attributes:
        steps: 1 compares forward, loss and gradients; more also trains with the optimizers.
        tolerance: atol and rtol; None leaves PaDiff its own.
        auto_weights: copy torch's parameters, not the buffers, into the Paddle model first.
    """

    steps: int
    tolerance: float | None = None
    auto_weights: bool = True


class PadiffFinding(NamedTuple):
    """What PaDiff names as different.

    Attributes:
        stage: assign (copying the parameters), forward, loss, grad, weight (after a training
            step), other or raised.
        name: a layer ("" for the network), a parameter, a message.
        operation: of the layer; "" where the layer itself is named.
        more: how many more parameters it lists.
        step: of training.
    """

    stage: str
    name: str
    operation: str = ""
    more: int = 0
    step: int = 0

    def __str__(self) -> str:
        if self.stage in ("loss", "other"):
            return self.name
        text = f"{self.stage} {self.name or 'FactSeg'}"
        text += f" ({self.operation})" if self.operation else ""
        text += f" and {self.more} more" if self.more else ""
        return text + (f" in step {self.step}" if self.step else "")

    def is_at(self, place: str) -> bool:
        """Return whether this is the place of a fault."""
        if self.stage == "loss":
            return place == "loss:loss"
        if self.stage == "weight":
            return place == f"train:step {self.step}: {self.name} (update)"
        if self.stage == "forward" and place.startswith("forward:output"):
            return not self.name and bool(self.operation)
        layer = self.name if self.stage == "forward" else self.name.rpartition(".")[0]
        kind, _, tensor = place.partition(":")
        if kind in ("weights", "grad"):
            return layer == tensor.rpartition(".")[0]
        return layer in [re.sub(r"#\d+$", "", end) for end in place.split(" -> ")]


# In a process of its own ---------------------------------------------------------------------


def compare(fault: str | None, seed: int, setting: Setting, folder: Path) -> PadiffFinding | None:
    """Run auto_diff on the FactSeg pair.

    Args:
        fault: name of the fault to plant; None for the clean pair.
        seed: of the pair.
        setting: see `Setting`.
        folder: where PaDiff writes its logs.

    Returns:
        What it names; None when it finds the two sides equal.
    """
    quieten_frameworks()
    from factseg_proof.faults.catalogue import CATALOGUE
    from factseg_proof.pairs.factseg import make_pair

    pair = make_pair(seed, crop_size=CROP)
    for known in CATALOGUE:
        if known.name == fault:
            pair = known.plant(pair, seed)
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))  # PaDiff logs to the first folder of the path
    import padiff

    for stale in folder.rglob("*.log"):
        stale.unlink()
    return _run(padiff, pair, setting, folder)


def _run(padiff: ModuleType, pair: Pair, setting: Setting, folder: Path) -> PadiffFinding | None:
    import paddle
    import torch

    net, layer = pair.torch_model(), pair.paddle_model()
    if pair.transfer:
        _carry_over(net, layer)
    net.eval()
    layer.eval()
    inputs = ({"x": paddle.to_tensor(pair.inputs[0])}, {"x": torch.from_numpy(pair.inputs[0])})
    labels = paddle.to_tensor(pair.targets[0]), torch.from_numpy(pair.targets[0])
    options: dict[str, Any] = {}
    if setting.tolerance is not None:
        options |= {"atol": setting.tolerance, "rtol": setting.tolerance}
    training = {}
    if setting.steps > 1:
        training = {"optimizer": _optimizers(pair, net, layer), "steps": setting.steps}
    printed = io.StringIO()
    with _located(layer) as located, contextlib.redirect_stdout(printed):
        equal = padiff.auto_diff(
            layer,
            net,
            inputs,
            auto_weights=setting.auto_weights,
            options=options,
            loss_fn=(
                lambda output: pair.paddle_loss(output, labels[0]),
                lambda output: pair.torch_loss(output, labels[1]),
            ),
            **training,
        )
    return None if equal else _named(printed.getvalue(), located, folder)


def _carry_over(net: Any, layer: Any) -> None:
    from alignment.weights.layout import to_paddle_layout
    from alignment.weights.models import match_models

    arrays = {name: tensor.numpy() for name, tensor in net.state_dict().items()}
    state = layer.state_dict()
    for name, array in to_paddle_layout(match_models(net, layer), arrays).arrays.items():
        state[name].set_value(array)


def _optimizers(pair: Pair, net: Any, layer: Any) -> tuple[Callable[[], None], Callable[[], None]]:
    """Return Paddle's and torch's step as functions of nothing, as PaDiff takes them."""
    ours, setup = pair.paddle_train.optimizer(layer), pair.torch_train
    theirs = setup.optimizer(net)
    schedule = setup.scheduler(theirs)

    def step_ours() -> None:
        ours.step()
        ours._learning_rate.step()
        ours.clear_grad()

    def step_theirs() -> None:
        setup.clip(net)
        theirs.step()
        schedule.step()
        theirs.zero_grad()

    return step_ours, step_theirs


@contextlib.contextmanager
def _located(layer: Any) -> Iterator[list[PadiffFinding]]:
    """Note at which layer of Paddle's model PaDiff points.

    Its tree shows classes alone; the layer that ran the operation is on the stack that it prints.
    """
    from padiff.trainer.trainer_utils import hooks

    findings: list[PadiffFinding] = []
    paths = {id(sub): path for path, sub in layer.named_sublayers(include_self=True)}
    extract = hooks.extract_frame_summary
    checker = sys.modules["padiff.trainer.Checker"]
    print_info = checker.print_info

    def extract_with_layer() -> tuple:
        summary, frames = extract()
        frames.layer = _innermost(sys._getframe(1), paths)
        return summary, frames

    def note(paddle_item: Any, *args: Any, **options: Any) -> None:
        is_operation = hasattr(paddle_item.net, "__api__")
        operation = paddle_item.net_str.rpartition(".")[2] if is_operation else ""
        findings.append(PadiffFinding("forward", paddle_item.frames.layer, operation))
        print_info(paddle_item, *args, **options)

    with (
        mock.patch.object(hooks, "extract_frame_summary", extract_with_layer),
        mock.patch.object(checker, "print_info", note),
    ):
        yield findings


def _innermost(frame: FrameType | None, paths: Mapping[int, str]) -> str:
    while frame is not None:
        path = paths.get(id(frame.f_locals.get("self")))
        if path is not None:
            return path
        frame = frame.f_back
    return ""


def _named(printed: str, located: Sequence[PadiffFinding], folder: Path) -> PadiffFinding:
    step = max(map(int, re.findall(r"=Train Step (\d+)=", printed)), default=0)
    if located:
        return located[0]._replace(step=step)
    if "Diff found in loss" in printed:
        return PadiffFinding("loss", "loss", step=step)
    for stage in ("grad", "weight"):
        for log in folder.rglob(f"{stage}_diff.log"):
            names = re.findall(r"paddle path:\n\s+FactSeg\.(\S+)", log.read_text("utf-8"))
            if names:
                return PadiffFinding(stage, names[0], more=len(names) - 1, step=step)
    unassigned = re.search(r"Assign weight Failed.*?torch: .*?FactSeg\.(\S+)", printed, re.DOTALL)
    return (
        PadiffFinding("assign", unassigned[1])
        if unassigned
        else PadiffFinding("other", "a difference")
    )


# In the main process -------------------------------------------------------------------------


class _Runs:
    """Runs `compare` elsewhere; a process in which something raised is not used again."""

    def __init__(self) -> None:
        self._context, self._pool = contextlib.ExitStack(), None
        self._folder = Path(self._context.enter_context(tempfile.TemporaryDirectory()))

    def __enter__(self) -> _Runs:
        return self

    def __exit__(self, *_error: object) -> None:
        self._renew()
        self._context.close()

    def _renew(self) -> None:
        if self._pool:
            self._pool.shutdown()
        self._pool = None

    def __call__(self, fault: str | None, seed: int, setting: Setting) -> PadiffFinding | None:
        self._pool = self._pool or ProcessPoolExecutor(1, mp_context=get_context("spawn"))
        try:
            return self._pool.submit(compare, fault, seed, setting, self._folder).result()
        except BrokenProcessPool:
            self._renew()
            return PadiffFinding("raised", "a crash of the process")
        except Exception as error:  # whatever PaDiff or the fault raises: a user would see it
            self._renew()
            first_line = str(error).strip().partition("\n")[0]
            return PadiffFinding("raised", f"{type(error).__name__}: {first_line}")


def record(command: str, *, progress: Callable[[str], None]) -> dict[str, Any]:
    """Run PaDiff on the clean pairs and on every fault.

    Args:
        command: what made the record.
        progress: is told each result.

    Returns:
        The record, as it is written.

    Raises:
        AlignmentError: the clean pair passes under no tolerance.
    """
    from factseg_proof.faults.catalogue import CATALOGUE

    verdicts, named = {}, {}
    with _Runs() as run:
        once, trained = _tightest(run, Setting(1)), _tightest(run, Setting(TRAIN_STEPS))
        clean = [
            {"seed": seed, "steps": setting.steps, "named": _said(run(None, seed, setting))}
            for setting in (once, trained)
            for seed in CLEAN_SEEDS
        ]
        for fault in CATALOGUE:
            setting = trained if fault.kind == "training" else once
            finding = None if fault.kind == "data" else run(fault.name, SEED, setting)
            verdicts[fault.name] = "missed" if finding is None else "flagged"
            if finding is not None:
                named[fault.name] = str(finding)
                if finding.is_at(fault.place):
                    verdicts[fault.name] = "placed"
            progress(f"{fault.name}: {verdicts[fault.name]} {named.get(fault.name, '')}".rstrip())
        as_they_are = {
            fault.name: _said(run(fault.name, SEED, replace(once, auto_weights=False)))
            for fault in CATALOGUE
            if fault.kind == "weights"
        }
    packages = ("padiff", "paddlepaddle", "torch")
    return {
        "command": command,
        "versions": {package: importlib.metadata.version(package) for package in packages},
        "settings": {**NOTES, "once": asdict(once), "training": asdict(trained)},
        "faults": verdicts,
        "named": named,
        "as_they_are": as_they_are,
        "clean": clean,
    }


def _said(finding: PadiffFinding | None) -> str:
    return "" if finding is None else str(finding)


def _tightest(run: _Runs, setting: Setting) -> Setting:
    """Return the setting with the tightest tolerance under which the clean pair passes."""
    for tolerance in TOLERANCES:
        candidate = replace(setting, tolerance=tolerance)
        if run(None, SEED, candidate) is None:
            return candidate
    raise AlignmentError(f"PaDiff passes the clean pair under no tolerance up to {TOLERANCES[-1]}")
