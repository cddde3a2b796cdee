#!/usr/bin/env python
"""Train FactSeg.

Examples:
  python scripts/train.py --amp
  python scripts/train.py --config configs/quickstart.yml
  python scripts/train.py --config configs/quickstart.yml --resume auto
  python scripts/train.py --resume output/factseg_r50_isaid/iter_000500
  python scripts/train.py --opts train.batch_size=4 optimizer.learning_rate=0.0035
  python -m paddle.distributed.launch --nproc_per_node 2 scripts/train.py --amp

Relative paths of flags start at the current folder, those of a configuration at the repository.
Exit status: 0 trained, 1 had to stop, 2 could not start, 130 after Ctrl-C and 143 after SIGTERM,
both with a checkpoint.
"""

import argparse
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from factseg_paddle.cli import (
    ArgumentParser,
    Stopped,
    configure_threads,
    exit_with_error,
    importing_paddle,
    stop_on_signals,
)

if TYPE_CHECKING:
    from factseg_paddle.config.schema import Config

PROG = "train.py"
RECIPE = Path(__file__).resolve().parents[1] / "configs" / "factseg_r50_isaid.yml"


def main(argv: list[str] | None = None) -> int:
    """Train; the log on stdout and in the run's folder."""
    parser = _parser()
    args = parser.parse_args(argv)
    configure_threads()
    for message in ("No ccache found", "When training, we now always track"):  # paddle's own
        warnings.filterwarnings("ignore", message=message)
    try:
        with stop_on_signals():
            with importing_paddle():
                from factseg_paddle.engine.training.start import prepare
                from factseg_paddle.engine.training.step import TrainingError
            trainer = prepare(*_configured(args))
    except Stopped as stop:
        return exit_with_error(PROG, f"{stop} before the first iteration", stop.status)
    except (ImportError, ValueError, OSError) as error:
        return exit_with_error(PROG, error)
    try:
        return trainer.run()
    except TrainingError as error:
        return exit_with_error(PROG, error, 1)


def _configured(args: argparse.Namespace) -> tuple["Config", str | None]:
    """The configuration, and what to resume."""
    from factseg_paddle.config.loading import change_config, load_config
    from factseg_paddle.engine.training.resume import AUTO, config_of_checkpoint

    resume = args.resume if args.resume in (None, AUTO) else str(Path(args.resume).resolve())
    if args.config is None and resume not in (None, AUTO):
        earlier = config_of_checkpoint(Path(resume))
        config = change_config(earlier, resume, args.opts, _changes(args))
    else:
        config = load_config(args.config or RECIPE, args.opts, _changes(args))
    return config, resume


def _parser() -> ArgumentParser:
    parser = ArgumentParser.of_docstring(__doc__, prog=PROG)
    add = parser.add_argument
    add("--config", type=Path, help="configuration (default configs/factseg_r50_isaid.yml)")
    add("--dataset_root", help="folder of the data")
    add("--iters", type=int, help="iterations of the whole run")
    add("--batch_size", type=int, help="samples of an iteration, over all processes")
    add("--save_dir", help="folder of the run")
    add("--save_interval", type=int, help="iterations between checkpoints, 0 for none")
    add("--log_iters", type=int, help="iterations between log lines")
    add("--do_eval", action="store_true", default=None, help="evaluate during training")
    add("--eval_interval", type=int, help="iterations between evaluations")
    add("--use_vdl", action="store_true", default=None, help="write VisualDL records")
    add("--num_workers", type=int, help="processes that read samples")
    add("--seed", type=int, help="of weights, order and transforms")
    add("--device", help="cpu, gpu or gpu:N (default: a GPU where there is one)")
    add("--amp", nargs="?", const="O1", choices=("O1", "O2"), help="mixed precision (default O1)")
    add(
        "--resume",
        nargs="?",
        const="auto",
        metavar="auto|DIR",
        help="go on from the newest checkpoint of the run, or from a checkpoint folder",
    )
    parser.add_opts(help="any values of the configuration")
    return parser


def _changes(args: argparse.Namespace) -> dict[str, object]:
    """The configuration's keys that flags were given for."""
    keys = {
        "dataset_root": "data.dataset_root",
        "save_dir": "train.save_dir",
        "iters": "train.iters",
        "batch_size": "train.batch_size",
        "save_interval": "train.save_interval",
        "log_iters": "train.log_iters",
        "do_eval": "train.do_eval",
        "eval_interval": "train.eval_interval",
        "use_vdl": "train.use_vdl",
        "num_workers": "train.num_workers",
        "seed": "seed",
        "device": "device",
        "amp": "train.amp.level",
    }
    changes = {key: getattr(args, flag) for flag, key in keys.items()}
    return {key: value for key, value in changes.items() if value is not None}


if __name__ == "__main__":
    sys.exit(main())
