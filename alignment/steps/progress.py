"""Progress of a comparison: each phase is announced, and a bar on stderr shows it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, TypeAlias

from alignment.steps.environment import give_back_free_memory

if TYPE_CHECKING:
    from tqdm import tqdm

Progress: TypeAlias = Callable[[str], None]
"""Function that is called with the name of each phase when it begins."""

MODEL_STEPS = {"forward", "loss", "backward"}

TORCH_PHASES, PADDLE_PHASES = 4, 4
"""Both dtypes, a second time, layer by layer."""

TORCH_TRAINING, PADDLE_TRAINING = 4, 2
"""Free runs, and a second time; beside these, Paddle announces each step."""


class ProgressBar:
    """A `Progress` that is shown, while somebody looks: nothing where stderr is no terminal.

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


def freeing_memory(progress: Progress | None) -> Progress:
    """Return a progress that gives free memory back first, which keeps the peak down."""

    def begin(phase: str) -> None:
        give_back_free_memory()
        if progress:
            progress(phase)

    return begin


def expected_phases(
    steps: Sequence[str],
    checks: Collection[str],
    *,
    torch: bool,
    paddle: bool,
    train_steps: int,
) -> int:
    """Return about how many phases a comparison announces.

    Args:
        steps: the chosen steps.
        checks: those that consist of the pair's own checks, or have some.
        torch: torch's side runs here.
        paddle: Paddle's side runs here.
        train_steps: steps of the step train.
    """
    trains = "train" in steps
    models = bool(MODEL_STEPS & set(steps))
    of_checks = sum(step in checks for step in steps)
    of_torch = of_checks + models * (TORCH_PHASES + ("backward" in steps)) + trains * TORCH_TRAINING
    of_paddle = of_checks + models * PADDLE_PHASES + trains * (PADDLE_TRAINING + train_steps) + 1
    return max(1, torch * of_torch + paddle * of_paddle)
