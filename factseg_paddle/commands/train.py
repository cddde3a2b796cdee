"""Train FactSeg.

Examples:
  factseg train --amp
  factseg train --config quickstart
  factseg train --config quickstart --resume auto
  factseg train --config configs/my_data.yml
  factseg train --resume output/factseg_r50_isaid/iter_000500
  factseg train --opts train.batch_size=4 optimizer.learning_rate=0.0035
  python -m paddle.distributed.launch --nproc_per_node 2 "$(which factseg)" train --amp

Relative paths of flags start at the current folder, those of a configuration at the repository;
where the project is installed without one, at the current folder too.
Exit status: 0 trained, 1 had to stop, 2 could not start, 130 after Ctrl-C and 143 after SIGTERM,
both with a checkpoint.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from factseg_paddle.cli import (
    ArgumentParser,
    Stopped,
    configure_threads,
    exit_with_error,
    help_text,
    importing_paddle,
    stop_on_signals,
)
from factseg_paddle.folders import RECIPES

if TYPE_CHECKING:
    from factseg_paddle.config.schema import Config

COMMAND = "factseg train"
RECIPE = RECIPES / "factseg_r50_isaid.yml"


def main(argv: Sequence[str] | None = None, *, prog: str = COMMAND) -> int:
    """Train; the log on stdout and in the run's folder.

    Args:
        argv: arguments, those of the process where None.
        prog: what messages call the program.
    """
    args = _parser(prog).parse_args(argv)
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
        return exit_with_error(prog, f"{stop} before the first iteration", stop.status)
    except (ImportError, ValueError, OSError) as error:
        return exit_with_error(prog, error)
    try:
        return trainer.run()
    except TrainingError as error:
        return exit_with_error(prog, error, 1)


def _configured(args: argparse.Namespace) -> tuple[Config, str | None]:
    """Return the configuration, and what to resume."""
    from factseg_paddle.config.loading import change_config, load_config
    from factseg_paddle.engine.training.resume import AUTO, config_of_checkpoint

    resume = args.resume if args.resume in (None, AUTO) else str(Path(args.resume).resolve())
    if args.config is None and resume not in (None, AUTO):
        earlier = config_of_checkpoint(Path(resume))
        config = change_config(earlier, resume, args.opts, _changes(args))
    else:
        config = load_config(args.config or RECIPE, args.opts, _changes(args))
    return config, resume


def _parser(prog: str) -> ArgumentParser:
    parser = ArgumentParser.of_docstring(help_text(__doc__, COMMAND, prog), prog=prog)
    add = parser.add_argument
    add("--config", type=Path, help=f"a recipe's name or a YAML file (default {RECIPE.stem})")
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
    """Return the configuration's keys that flags were given for."""
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
