"""The command line that both converter scripts share."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from alignment.weights.checkpoint_files import Side
from factseg_convert.architectures import ARCHS
from factseg_convert.classifiers import CLASSIFIERS
from factseg_convert.convert import convert
from factseg_convert.manifest import dropped_entries
from factseg_convert.read import checkpoint_file
from factseg_paddle.cli import ArgumentParser
from factseg_paddle.files import shown
from factseg_paddle.io import CheckpointError

COMMAND = "factseg convert"

_SUFFIXES = {"torch": ".pth", "paddle": ".pdparams"}
_TORCH_SUFFIXES = (".pth", ".pt")

_DESCRIPTION = """Convert checkpoints of any network here, and of image classifiers, bit by bit.

A torch file (.pth, .pt) is converted to Paddle, a Paddle file (.pdparams) or checkpoint folder to
torch. Every tensor is accounted for by name, or nothing is written. What the other framework's file
can't hold goes to OUTPUT.manifest.json. Loading runs no code from the file. The state of an
optimizer goes along: `opt` or `optimizer` of a torch file, a .pdopt of the same name beside
Paddle's weights, or optimizer.pdopt in the folder.

    factseg convert --input resnet50-19c8e357.pth
    factseg convert --input a.pth --output b.pdparams --arch unet_bilinear
    factseg convert --input output/run/iter_001000   # a checkpoint folder

Exit status: 0 converted, 2 could not be.
"""


def main(argv: Sequence[str] | None = None, *, prog: str = COMMAND) -> int:
    """Convert one file to the framework that its name is not of; print what was done.

    Args:
        argv: arguments, those of the process where None.
        prog: what messages call the program.

    Returns:
        0 when it is converted, 2 when not, with one sentence on stderr.
    """
    parser = ArgumentParser(
        prog=prog,
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    text = "a .pth, .pt or .pdparams file, or a folder with model.pdparams"
    parser.add_argument("--input", required=True, type=Path, help=text)
    _add_output_and_arch(parser, "the input's name with the other suffix")
    arguments = parser.parse_args(argv)
    to = direction(arguments.input)
    if to is None:
        parser.error(
            f"whether {arguments.input} is torch's or Paddle's can't be seen by its name; give a "
            ".pth, .pt or .pdparams file, or a folder with model.pdparams"
        )
    return _explained(lambda: _convert_one(arguments, to))


def direction(source: Path) -> Side | None:
    """Return the framework to convert a file or folder to, by its name; None where that is open."""
    if source.suffix in _TORCH_SUFFIXES and not source.is_dir():
        return "paddle"
    return "torch" if source.suffix == _SUFFIXES["paddle"] or source.is_dir() else None


def run_converter(
    to: Side, *, weights: Path, description: str, argv: Sequence[str] | None = None
) -> int:
    """Parse the arguments, convert one file or every file under `weights`, print what was done.

    Args:
        to: The framework to convert to.
        weights: The folder to look through when no input is given.
        description: The script's docstring; its examples go into `--help`.
        argv: Arguments without the program name; None for the process's own.

    Returns:
        0 when all is converted, 2 when something could not be, with one sentence on stderr.
    """
    parser = ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    came, goes = _SUFFIXES["paddle" if to == "torch" else "torch"], _SUFFIXES[to]
    folder = " or a folder with model.pdparams" if to == "torch" else ""
    text = f"the {came} file{folder}; without it, all in weights/"
    parser.add_argument("--input", type=Path, help=text)
    _add_output_and_arch(parser, f"the input's name with {goes}")
    arguments = parser.parse_args(argv)
    if arguments.input:
        return _explained(lambda: _convert_one(arguments, to))
    return _explained(lambda: _convert_all(arguments, weights, to))


def _add_output_and_arch(parser: ArgumentParser, default: str) -> None:
    parser.add_argument("--output", type=Path, help=f"default: {default}")
    known = ", ".join((*ARCHS, *CLASSIFIERS))
    text = f"{known}, a name of torch_ref.list_models(), or auto (the default)"
    parser.add_argument("--arch", default="auto", metavar="NAME", help=text)


def _explained(work: Callable[[], None]) -> int:
    """Run the work; give 0, or 2 with a sentence on stderr about what was in the way."""
    try:
        work()
    except CheckpointError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        where = error.filename or "a file"
        print(f"{where} can't be used: {error.strerror or error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        print(f"the converters need {error.name}; pip install {error.name}", file=sys.stderr)
        return 2
    return 0


def _convert_one(arguments: argparse.Namespace, to: Side) -> None:
    output = arguments.output or _default_output(arguments.input, to)
    _say(convert(arguments.input, output, to, arch=arguments.arch))


def _convert_all(arguments: argparse.Namespace, weights: Path, to: Side) -> None:
    if arguments.output:
        raise CheckpointError("--output needs --input: which file is to be converted?")
    _convert_folder(weights, to, arguments.arch)


def _convert_folder(folder: Path, to: Side, arch: str) -> None:
    came, goes = _SUFFIXES["paddle" if to == "torch" else "torch"], _SUFFIXES[to]
    # A hidden name is a file that some program has not finished writing.
    sources = sorted(p for p in folder.rglob(f"*{came}") if not p.name.startswith("."))
    if not sources:
        raise CheckpointError(
            f"no {came} file in {folder}: put {_WHAT_GOES_THERE[to]} there, or give --input"
        )
    failures = []
    for source in sources:
        output = source.with_suffix(goes)
        if output.exists():  # it may be what the source was made from; nobody asked to replace it
            _say(f"{source}: {output.name} is there already, left as it is (--input replaces it)")
            continue
        try:
            conversion = convert(source, output, to, arch=arch)
        except CheckpointError as error:
            failures.append(str(error))
        else:
            _say(conversion)
    if failures:
        count = f"{len(failures)} of {len(sources)} files not converted"
        raise CheckpointError(f"{count}: {'; '.join(failures)}")


def _default_output(source: Path, to: Side) -> Path:
    """Return the input's name with the other suffix, unless more lies there than is converted."""
    name = source.resolve().name if source.is_dir() else source.stem
    folder = source.resolve().parent if source.is_dir() else source.parent
    output = folder / (name + _SUFFIXES[to])
    lost = dropped_entries(checkpoint_file(source, to)) if output.exists() else ()
    if lost:
        raise CheckpointError(
            f"{output} is there already and holds {', '.join(map(shown, lost))}, which the output "
            "would lack; give --output"
        )
    return output


def _say(what: object) -> None:
    try:
        print(what, flush=True)
    except OSError as error:
        # What is still in the buffer would fail once more, with a traceback, at the very end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        reason = error.strerror or error
        raise OSError(error.errno, reason, "standard output") from error


_WHAT_GOES_THERE = {
    "paddle": "torch checkpoints (resnet50-19c8e357.pth of torchvision, FactSeg's .pth)",
    "torch": "Paddle checkpoints (.pdparams of FactSeg or a ResNet)",
}
