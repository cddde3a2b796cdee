"""Which package may import which: the contracts in pyproject, and what they can't say."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import REPO

FRAMEWORKS = {"torch", "paddle", "paddleseg"}

ONE_SIDED = ("torch_side/", "paddle_side/")
"""Folders of `alignment` whose files import a framework; others do so inside functions."""

PACKAGES = (
    "alignment",
    "factseg",
    "factseg_convert",
    "factseg_paddle",
    "factseg_proof",
    "torch_ref",
)


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


def test_alignment_imports_frameworks_in_functions_only():
    assert len(files_of("alignment")) >= 50
    wrong = {
        str(file.relative_to(REPO)): sorted(found)
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
        (
            "factseg_paddle, factseg_paddle.data.synthetic.scenes, factseg_paddle.transforms",
            "paddle",
        ),
        (
            "factseg_paddle.data.pairs, factseg_paddle.data.check, factseg_paddle.config.loading",
            "paddle",
        ),
        ("factseg_paddle.data.store.prepare, factseg_paddle.data.loader", "paddle"),
        ("factseg_paddle.metrics, factseg_paddle.io, factseg_paddle.cli", "paddle"),
        ("factseg_paddle.config.loading, factseg_paddle.engine.logs.curves", "paddle"),
        ("factseg_paddle.engine.logs.visualdl", "paddle"),
        ("alignment, alignment.__main__, factseg_proof.pairs.factseg", "torch"),
        ("alignment, alignment.__main__, factseg_proof.pairs.factseg", "paddle"),
        ("factseg_convert.convert", "torch"),
        ("factseg_convert.convert", "paddle"),
    ],
)
def test_what_is_numpy_alone_loads_no_framework(modules, framework):
    code = f"import sys, {modules}; sys.exit({framework!r} in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=REPO, check=True)


@pytest.fixture
def house(tmp_path):
    """A copy of the packages and of the contracts, in which an import may be planted."""
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(REPO / package, tmp_path / package, ignore=ignored)
    shutil.copy(REPO / "pyproject.toml", tmp_path)
    return tmp_path


def contracts(folder: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def test_contracts_hold(house):
    done = contracts(house)
    assert done.returncode == 0, done.stdout
    assert "9 kept, 0 broken" in done.stdout


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("alignment/compare.py", "import factseg_proof.networks", "Proof and converters"),
        ("factseg_paddle/files.py", "import alignment.pair", "Proof and converters"),
        ("torch_ref/data.py", "import factseg_paddle.metrics", "Proof and converters"),
        ("alignment/compare.py", "import factseg_paddle.models", "The harness knows no network"),
        ("factseg_paddle/metrics.py", "def f():\n    import torch", "never imports torch"),
        ("torch_ref/metrics.py", "import paddle", "never imports Paddle"),
        ("factseg_paddle/data/pairs.py", "import factseg_paddle.engine.build", "Inside the Paddle"),
        ("alignment/recording/trace.py", "import alignment.judging.checks", "Inside the harness"),
        # a circle of two files in one folder, and one of two folders
        ("alignment/report/text.py", "import alignment.report.html", "No circle"),
        (
            "factseg_paddle/data/images/files.py",
            "import factseg_paddle.data.store.files",
            "No circle",
        ),
        ("torch_ref/losses/__init__.py", "import alignment.pair", "stands on nothing of ours"),
    ],
)
def test_wrong_arrow_fails(house, file, line, contract):
    (house / file).write_text((house / file).read_text("utf-8") + f"\n{line}\n", "utf-8")
    done = contracts(house)
    assert done.returncode == 1
    broken = [text for text in done.stdout.splitlines() if text.endswith("BROKEN")]
    assert contract in done.stdout.split("Broken contracts")[1], broken
