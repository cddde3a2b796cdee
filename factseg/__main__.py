"""`factseg COMMAND …`: run a command by its name; `python -m factseg` does the same.

A command's packages are imported when it is run, so that `--help` is fast and nothing that another
command needs has to be installed.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Sequence

PROG = "factseg"


def train(argv: Sequence[str]) -> int:
    """Train a network."""
    from factseg_paddle.commands.train import main

    return main(argv)


def evaluate(argv: Sequence[str]) -> int:
    """Evaluate weights: mIoU, confusion matrix, error maps."""
    from factseg_paddle.commands.evaluate import main

    return main(argv)


def predict(argv: Sequence[str]) -> int:
    """Predict the classes of images of any size, and draw them."""
    from factseg_paddle.commands.predict import main

    return main(argv)


def prepare(argv: Sequence[str]) -> int:
    """Prepare iSAID for fast reading, or check data."""
    from factseg_paddle.commands.prepare import main

    return main(argv)


def convert(argv: Sequence[str]) -> int:
    """Convert checkpoints between torch and Paddle."""
    from factseg_convert.cli import main

    return main(argv)


def curves(argv: Sequence[str]) -> int:
    """Draw training logs."""
    from factseg_paddle.commands.curves import main

    return main(argv)


def compare(argv: Sequence[str]) -> int:
    """Compare the networks: parameters, FLOPs, time, memory, mIoU."""
    from factseg_proof.costs.cli import main

    return main(argv)


def sample(argv: Sequence[str]) -> int:
    """Paint synthetic aerial scenes to try things with."""
    from factseg_paddle.commands.sample import main

    return main(argv)


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    command.__name__: command
    for command in (train, evaluate, predict, prepare, convert, curves, compare, sample)
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that the first argument names with the rest.

    Args:
        argv: arguments, those of the process where None.

    Returns:
        The command's exit status; 2 where there is no such command.
    """
    argv = sys.argv[1:] if argv is None else argv
    if not argv:
        print(_help(), end="", file=sys.stderr)
        return 2
    name, *rest = argv
    if name in ("-h", "--help"):
        print(_help(), end="")
        return 0
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"commands are {', '.join(COMMANDS)}"
        print(f"{PROG}: there is no command {name!r}; {hint}", file=sys.stderr)
        return 2
    return COMMANDS[name](rest)


def _help() -> str:
    lines = [f"  {name:10}{command.__doc__}\n" for name, command in COMMANDS.items()]
    return (
        f"usage: {PROG} COMMAND …\n\n{''.join(lines)}\n"
        f"{PROG} COMMAND --help says more; the alignment harness is the command `alignment`.\n"
    )


if __name__ == "__main__":
    sys.exit(main())
