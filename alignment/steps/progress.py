"""A progress bar on stderr, while somebody looks: the announced phases are its steps."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tqdm import tqdm

MODEL_STEPS = {"forward", "loss", "backward"}

TORCH_PHASES, PADDLE_PHASES = 4, 4
"""Both dtypes, a second time, layer by layer."""

TORCH_TRAINING, PADDLE_TRAINING = 4, 2
"""Free runs, and a second time; beside these, Paddle announces each step."""


class ProgressBar:
    """Called with what is about to run; shows nothing where stderr is not a terminal.

    Args:
        phases: how many calls are expected; the bar grows where there are more.
    """

    def __init__(self, phases: int = 1) -> None:
        self.phases = phases
        self._bar: tqdm | None = None

    def __call__(self, message: str) -> None:
        """Count what ran before as done, and show what runs now."""
        if not sys.stderr.isatty():
            return
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(
                total=self.phases,
                desc=message,
                file=sys.stderr,
                leave=False,
                dynamic_ncols=True,
                bar_format="{bar:24} {n_fmt}/{total_fmt} {elapsed}  {desc}",
            )
        else:
            self._bar.update()
        self._bar.total = max(self.phases, self._bar.n + 1)
        self._bar.set_description_str(message)

    def close(self) -> None:
        """Clear the line."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def expected_phases(
    steps: Sequence[str],
    checks: Collection[str],
    *,
    torch: bool,
    paddle: bool,
    train_steps: int,
) -> int:
    """About how many phases a comparison announces.

    Args:
        steps: the chosen steps.
        checks: those that consist of the pair's own checks, or have some.
        torch: torch's side runs here.
        paddle: Paddle's side runs here.
        train_steps: steps of the step train.
    """
    trains = "train" in steps
    models = bool(MODEL_STEPS & set(steps))
    own = sum(step in checks for step in steps)
    of_torch = own + models * (TORCH_PHASES + ("backward" in steps)) + trains * TORCH_TRAINING
    of_paddle = own + models * PADDLE_PHASES + trains * (PADDLE_TRAINING + train_steps) + 1
    return max(1, torch * of_torch + paddle * of_paddle)
