"""What a training run leaves in its folder, by name.

RUN/config.yml                    the resolved configuration
RUN/iter_000500/model.pdparams    weights
                optimizer.pdopt   see `factseg_paddle.optimizers.state_format`
                state.json        everything else, and the hashes of all three
RUN/best_model -> iter_000500     a link to the best one so far
"""

from __future__ import annotations

import re
from pathlib import Path

CONFIG_FILE = "config.yml"
MODEL_FILE, OPTIMIZER_FILE, STATE_FILE = "model.pdparams", "optimizer.pdopt", "state.json"
BEST_LINK = "best_model"

_NAME = re.compile(r"iter_(\d{6,})")


def checkpoint_folder(save_dir: Path, iteration: int) -> Path:
    """Return the folder of an iteration's checkpoint."""
    return save_dir / f"iter_{iteration:06}"


def iteration_of(folder: Path) -> int | None:
    """Return the iteration that a checkpoint folder is named after; None for any other name."""
    match = _NAME.fullmatch(folder.name)
    return int(match[1]) if match else None
