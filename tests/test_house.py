"""Which package may import which, held over every file."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import REPO

FORBIDDEN = {
    "factseg_paddle": {"torch", "torchvision", "torch_ref", "alignment", "scripts", "tests"},
    "torch_ref": {"paddle", "paddleseg", "factseg_paddle", "alignment", "scripts", "tests"},
    "alignment": {"scripts", "tests"},
}

FRAMEWORKS = {"torch", "paddle", "paddleseg"}

ONE_SIDED = ("torch_", "paddle_", "planting/")
"""How the files of `alignment` begin that import a framework; others do so inside functions."""


def imported(source: str, module: str) -> set[str]:
    """Full names of all modules that a file imports, at any depth.

    Args:
        source: the file's text.
        module: the file's own dotted name, `package.__init__` for a package.
    """
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = module.split(".")[: -node.level] if node.level else []
            names.add(".".join([*base, *filter(None, [node.module])]))
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "import_module":
            names |= {a.value for a in node.args if isinstance(a, ast.Constant)}
    return names


def at_import_time(source: str) -> str:
    """The file without what runs later or never: functions and TYPE_CHECKING blocks."""

    class Strip(ast.NodeTransformer):
        def visit_FunctionDef(self, _node):
            return ast.Pass()

        visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815

        def visit_If(self, node):
            checking = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
            return ast.Pass() if checking else self.generic_visit(node)

    return ast.unparse(ast.fix_missing_locations(Strip().visit(ast.parse(source))))


def files_of(package: str) -> list[Path]:
    return sorted((REPO / package).rglob("*.py"))


def module_of(file: Path) -> str:
    return ".".join(file.relative_to(REPO).with_suffix("").parts)


def roots(names: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("package", FORBIDDEN)
def test_package_imports_nothing_that_the_house_forbids(package):
    files = files_of(package)
    assert len(files) >= 10
    wrong = {
        str(file.relative_to(REPO)): sorted(found)
        for file in files
        if (found := roots(imported(file.read_text("utf-8"), module_of(file))) & FORBIDDEN[package])
    }
    assert not wrong


def test_alignment_imports_frameworks_in_functions_only():
    wrong = {
        file.name: sorted(found)
        for file in files_of("alignment")
        if not str(file.relative_to(REPO / "alignment")).startswith(ONE_SIDED)
        and (
            found := roots(imported(at_import_time(file.read_text("utf-8")), module_of(file)))
            & FRAMEWORKS
        )
    }
    assert not wrong


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import torch.nn as nn", {"torch.nn"}),
        ("from torch import nn", {"torch"}),
        ("def f():\n    import torch", {"torch"}),
        ("import importlib\nimportlib.import_module('torch')", {"importlib", "torch"}),
        ("from . import b", {"p.q"}),
        ("from .b import c", {"p.q.b"}),
        ("from ..alignment import c", {"p.alignment"}),
        ("from ...torch_ref import c", {"torch_ref"}),
    ],
)
def test_imports_are_seen_however_they_are_written(source, found):
    assert imported(source, "p.q.file") == found


def test_imports_that_run_later_are_told_apart():
    source = (
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import torch\n"
        "def f():\n    import torch\n"
        "class C:\n    import paddle\n"
    )
    assert imported(at_import_time(source), "m") == {"typing", "paddle"}


@pytest.mark.parametrize(
    ("modules", "framework"),
    [
        ("torch_ref, torch_ref.data, torch_ref.metrics", "torch"),
        ("factseg_paddle, factseg_paddle.data.synthetic, factseg_paddle.data.transforms", "paddle"),
        ("factseg_paddle.data.pairs, factseg_paddle.data.check, factseg_paddle.config", "paddle"),
        ("factseg_paddle.data.prepare, factseg_paddle.data.augment", "paddle"),
        ("factseg_paddle.metrics, factseg_paddle.io, factseg_paddle.command_line", "paddle"),
        (
            "factseg_paddle.config, factseg_paddle.engine.curves, factseg_paddle.engine.vdl",
            "paddle",
        ),
        ("alignment, alignment.__main__, alignment.pairs.factseg, alignment.conversion", "torch"),
        ("alignment, alignment.__main__, alignment.pairs.factseg, alignment.conversion", "paddle"),
    ],
)
def test_what_is_numpy_alone_loads_no_framework(modules, framework):
    code = f"import sys, {modules}; sys.exit({framework!r} in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=REPO, check=True)
