"""The command `factseg`: which function a name runs, and what is said of a wrong one."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from factseg.__main__ import COMMANDS, main
from tests.paths import REPO

SOURCES = {
    "train": ("factseg_paddle.commands.train", "train.py"),
    "evaluate": ("factseg_paddle.commands.evaluate", "evaluate.py"),
    "predict": ("factseg_paddle.commands.predict", "predict.py"),
    "prepare": ("factseg_paddle.commands.prepare", "prepare_isaid.py"),
    "curves": ("factseg_paddle.commands.curves", "plot_curves.py"),
    "sample": ("factseg_paddle.commands.sample", "make_sample_data.py"),
    "compare": ("factseg_proof.costs.cli", "compare_models.py"),
}
"""Command: module of its function, and the script that is the same."""

ALSO = {"convert": "factseg_convert.cli"}
"""The command that two scripts share between them, one for each direction."""


TOLD = """
import sys
{setup}
from factseg.__main__ import main
try:
    status = main(sys.argv[1:])
except SystemExit as stop:
    status = stop.code
print(*{{name.partition(".")[0] for name in sys.modules}}, file=sys.stderr)
sys.exit(status)
"""


def started(*words: str, setup: str = "") -> subprocess.CompletedProcess:
    """The command in a process of its own, which then tells what it has imported."""
    code = TOLD.format(setup=setup)
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=REPO,
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_command_is_known_here():
    assert COMMANDS.keys() == SOURCES.keys() | ALSO.keys()


@pytest.mark.parametrize("name", SOURCES)
def test_script_and_command_run_the_same_function(name, monkeypatch):
    module, script = SOURCES[name]
    calls = []

    def recorded(argv, **options):
        calls.append((argv, options))
        return 7

    wrapper = importlib.import_module(f"scripts.{script.removesuffix('.py')}")
    assert wrapper.command is importlib.import_module(module).main
    monkeypatch.setattr(f"{module}.main", recorded)
    monkeypatch.setattr(wrapper, "command", recorded)
    assert main([name, "--flag", "value"]) == 7
    assert wrapper.main(["--flag", "value"]) == 7
    assert calls == [(["--flag", "value"], {}), (["--flag", "value"], {"prog": script})]


def test_convert_runs_the_converters(monkeypatch):
    monkeypatch.setattr("factseg_convert.cli.main", lambda argv: len(argv))
    assert main(["convert", "--input", "x.pth"]) == 2


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_loads_no_framework_and_names_the_command(name):
    done = started(name, "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: factseg {name} [-h]")
    assert f"  factseg {name} " in done.stdout
    assert "scripts/" not in done.stdout
    assert not {"paddle", "torch"} & set(done.stderr.split())


@pytest.mark.parametrize("name", SOURCES)
def test_help_of_a_script_names_the_script(name):
    script = SOURCES[name][1]
    done = subprocess.run(
        [sys.executable, f"scripts/{script}", "--help"],
        cwd=REPO,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith(f"usage: {script} [-h]")
    assert f"  python scripts/{script} " in done.stdout
    assert f"factseg {name} " not in done.stdout
    assert "which factseg" not in done.stdout


def test_help_imports_nothing_but_the_standard_library():
    done = started("--help")
    assert done.returncode == 0
    for name, command in COMMANDS.items():
        assert f"  {name} " in done.stdout
        assert command.__doc__ in done.stdout
    outside = {"numpy", "tqdm", "yaml", "pydantic", "cv2", "paddle", "torch", "factseg_paddle"}
    assert not outside & set(done.stderr.split())


def test_without_a_command_the_help_is_on_stderr_and_the_status_2(capsys):
    assert main([]) == 2
    said = capsys.readouterr()
    assert not said.out
    assert said.err.startswith("usage: factseg COMMAND")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("trian", "factseg: there is no command 'trian'; did you mean train?\n"),
        ("--config", "factseg: there is no command '--config'; commands are train, evaluate, "),
    ],
)
def test_unknown_command_is_one_sentence(capsys, name, sentence):
    assert main([name]) == 2
    said = capsys.readouterr()
    assert not said.out
    assert said.err.startswith(sentence)
    assert said.err.count("\n") == 1


def test_arguments_of_the_process_are_the_default(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["factseg", "--help"])
    assert main() == 0
    assert capsys.readouterr().out.startswith("usage: factseg COMMAND")


BLOCKED = """
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Block())
"""


def test_sample_needs_no_framework(tmp_path):
    setup = BLOCKED.format(blocked=("paddle", "torch"))
    words = ("--output", str(tmp_path / "sample"), "--images", "4", "--size", "64")
    done = started("sample", *words, setup=setup)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "sample").rglob("*.png"))) == 8


@pytest.mark.parametrize(
    ("words", "missing"),
    [
        (("compare", "--networks", "unet_bilinear"), "yaml"),
        (("compare", "--networks", "unet_bilinear"), "torch"),
        (("train", "--config", "quickstart"), "yaml"),
        (("train", "--config", "quickstart"), "paddle"),
        (("evaluate", "--weights", "x"), "pydantic"),
        (("predict", "--weights", "x", "--input", "y"), "cv2"),
        (("sample", "--output", "x"), "cv2"),
        (("prepare", "--check"), "yaml"),
    ],
)
def test_what_is_not_installed_is_one_sentence(words, missing):
    """`compare` ended in a traceback where PyYAML was missing."""
    done = started(*words, setup=BLOCKED.format(blocked=(missing,)))
    assert done.returncode == 2
    sentence, _modules = done.stderr.splitlines()
    assert sentence.startswith(f"factseg {words[0]}: No module named '{missing}'; install what is")
