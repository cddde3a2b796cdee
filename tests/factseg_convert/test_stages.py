"""The four stages of a conversion, each by itself."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from alignment.torch_side.shapes import shapes_only
from factseg_convert import read as read_stage
from factseg_convert import verify as verify_stage
from factseg_convert.plan import plan_conversion
from factseg_convert.read import PaddleOptimizer, TorchOptimizer, read_source
from factseg_convert.verify import verify
from factseg_convert.write import written
from factseg_paddle.io import CheckpointError
from scripts import convert_paddle2torch, convert_torch2paddle
from tests.factseg_convert.files import light_state
from torch_ref.models.backbones import BACKBONES

SCRIPTS = {"torch": convert_torch2paddle, "paddle": convert_paddle2torch}
SUFFIX = {"torch": ".pth", "paddle": ".pdparams"}


@pytest.fixture
def sources(tmp_path):
    """A file of each framework with an optimizer that both of them know."""
    with shapes_only():
        shapes = {n: p.shape for n, p in BACKBONES["resnet18"](num_classes=5).named_parameters()}
    parameters = [torch.zeros(1).expand(shape) for shape in shapes.values()]
    opt = torch.optim.SGD(parameters, lr=0.5, momentum=0.5).state_dict()
    opt["state"] = {i: {"momentum_buffer": p} for i, p in enumerate(parameters)}
    content = {"model": light_state("resnet"), "opt": opt, "global_step": 1}
    torch.save(content, tmp_path / "a.pth")
    assert convert_torch2paddle.main(["--input", str(tmp_path / "a.pth")]) == 0
    return {side: tmp_path / f"a{suffix}" for side, suffix in SUFFIX.items()}


@pytest.mark.parametrize("side", ["torch", "paddle"])
def test_a_torch_file_with_an_optimizer_was_read_twice_to_verify_it(sources, side, monkeypatch):
    from alignment.weights import checkpoint_files

    loads = Counter()

    def counted(load):
        def loaded(path):
            loads[path] += 1
            return load(path)

        return loaded

    for module in (checkpoint_files, read_stage, verify_stage):
        for name in ("load_torch_file", "load_plain"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, counted(getattr(module, name)))
    other = "paddle" if side == "torch" else "torch"
    output = sources[side].with_name(f"b{SUFFIX[other]}")
    argv = ["--input", str(sources[side]), "--output", str(output)]
    assert SCRIPTS[side].main(argv) == 0
    assert len(loads) == 3, "weights of both frameworks and the .pdopt"
    assert set(loads.values()) == {1}


@pytest.mark.parametrize(("side", "kind"), [("torch", TorchOptimizer), ("paddle", PaddleOptimizer)])
def test_reading_and_planning_write_nothing(sources, side, kind):
    folder = sources[side].parent
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    source = read_source(sources[side], side)
    assert isinstance(source.optimizer, kind)
    plan = plan_conversion(source, folder / "b")
    assert plan.to != side
    assert plan.pdopt == (folder / "b.pdopt" if side == "torch" else None)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


@pytest.mark.parametrize("side", ["torch", "paddle"])
def test_an_optimizer_that_reads_back_otherwise_is_not_kept(sources, side):
    folder = sources[side].parent
    before = sorted(folder.iterdir())
    plan = plan_conversion(read_source(sources[side], side), folder / "b")
    ours = "torch" if plan.to == "torch" else "paddle"
    state = getattr(plan.optimizer, ours)
    other = replace(plan.optimizer, **{ours: {**state, "more": 1}})
    expected = pytest.raises(CheckpointError, match="does not hold the optimizer as it was")
    with expected, written(plan) as files:
        verify(replace(files, plan=replace(plan, optimizer=other)))
    assert sorted(folder.iterdir()) == before


def test_weights_that_read_back_otherwise_are_not_kept(sources):
    plan = plan_conversion(read_source(sources["torch"], "torch"), sources["torch"].with_name("b"))
    state = plan.source.checkpoint.state
    changed = {**state, "fc.bias": np.ones_like(state["fc.bias"])}
    checkpoint = replace(plan.source.checkpoint, state=changed)
    source = replace(plan.source, checkpoint=checkpoint)
    expected = pytest.raises(CheckpointError, match=r"does not hold fc\.bias as it was")
    with expected, written(plan) as files:
        verify(replace(files, plan=replace(plan, source=source)))
