"""Draw training logs: loss, learning rate, mIoU and the IoU of each class, of several runs."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from factseg_paddle.cli import ArgumentParser, exit_with_error

REPOSITORY = Path(__file__).resolve().parents[1]
EXAMPLES = """examples:
  python scripts/plot_curves.py output/quickstart/train.log
  python scripts/plot_curves.py output/one/train.log output/two/train.log --output two_runs.png
  python scripts/plot_curves.py Log_train_log.txt Log_eval_log.txt --labels published published \\
    --class_names isaid

A log is the train.log of a run, or a published training or evaluation log; logs with the same
label are one run. What a kill has cut off is left out and named on stderr.
Exit status: 0 drawn, 2 could not draw.
"""


def main(argv: list[str] | None = None) -> int:
    """Write the picture; one line on stdout."""
    parser = ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
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
        output = REPOSITORY / "output" / "curves.png"
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
        return exit_with_error(parser.prog, error)
    except OSError as error:
        return exit_with_error(parser.prog, f"cannot write {output}: {error}")
    for log in logs:
        for note in log.notes:
            print(f"{parser.prog}: {log.path}: {note}", file=sys.stderr)
    print(f"{output}: {'; '.join(map(str, runs))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
