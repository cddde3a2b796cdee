"""Draw training logs: loss, learning rate, mIoU and the IoU of each class, of several runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from factseg_paddle.cli import ArgumentParser, exit_with_error
from factseg_paddle.folders import base_folder

COMMAND = "factseg curves"
EXAMPLES = """examples:
  factseg curves output/quickstart/train.log
  factseg curves output/one/train.log output/two/train.log --output two_runs.png
  factseg curves Log_train_log.txt Log_eval_log.txt --labels published published \\
    --class_names isaid

A log is the train.log of a run, or a published training or evaluation log; logs with the same
label are one run. What a kill has cut off is left out and named on stderr.
Exit status: 0 drawn, 2 could not draw.
"""


def main(argv: Sequence[str] | None = None, *, prog: str = COMMAND) -> int:
    """Write the picture; one line on stdout.

    Args:
        argv: arguments, those of the process where None.
        prog: what messages call the program.
    """
    parser = ArgumentParser.of_command(__doc__, EXAMPLES, command=COMMAND, prog=prog)
    parser.add_argument("logs", nargs="+", type=Path, metavar="LOG", help="one or more logs")
    parser.add_argument(
        "--output", type=Path, help=".png, .svg or .pdf (default output/curves.png here)"
    )
    parser.add_argument("--labels", nargs="+", help="a name for each log")
    parser.add_argument(
        "--class_names", metavar="NAME,NAME,…", help="names of the classes, or isaid for its 16"
    )
    args = parser.parse_args(argv)
    output = args.output
    if output is None:
        output = base_folder() / "output" / "curves.png"
        output.parent.mkdir(exist_ok=True)
    try:
        from factseg_paddle.data.images.palettes import ISAID_CLASSES
        from factseg_paddle.engine.logs.curves import curves_figure, gather_runs, save_curves
        from factseg_paddle.engine.logs.format import parse_log

        names = args.class_names and tuple(args.class_names.split(","))
        logs = [parse_log(path) for path in args.logs]
        runs = gather_runs(logs, args.labels)
        figure = curves_figure(runs, ISAID_CLASSES if names == ("isaid",) else names)
        save_curves(figure, output)
    except (ImportError, ValueError) as error:
        return exit_with_error(prog, error)
    except OSError as error:
        return exit_with_error(prog, f"cannot write {output}: {error}")
    for log in logs:
        for note in log.notes:
            print(f"{prog}: {log.path}: {note}", file=sys.stderr)
    print(f"{output}: {'; '.join(map(str, runs))}")
    return 0
