"""Values of both sides as .npy files that reprod_log reads and compares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from alignment.pair import AlignmentError
from alignment.recording.value_key import Kind, ValueKey, to_text
from factseg_paddle.files import atomic_write_all

_KINDS = {
    "forward": (Kind.OUTPUT, Kind.MODEL_OUTPUT),
    "loss": (Kind.LOSS,),
    "backward": (Kind.MODEL_GRAD_OUTPUT, Kind.PARAMETER_GRAD, Kind.MODEL_GRAD_INPUT),
}
"""The step whose file holds a value of a run."""


def save_reprod_log(path: Path, values: Mapping[str, np.ndarray]) -> None:
    """Write values as `reprod_log.ReprodLogger.save` does: a pickled dict in a .npy file.

    reprod_log itself imports Paddle, so it can't write where torch is alone.
    """
    with atomic_write_all(path) as (temporary,):
        np.save(temporary, dict(values), allow_pickle=True)


class ReprodLog:
    """Writes STEP_torch.npy and STEP_paddle.npy for each step, or nothing without a folder.

    Raises:
        AlignmentError: the folder is a file.
    """

    def __init__(self, folder: str | Path | None) -> None:
        self.folder = Path(folder) if folder else None
        if self.folder:
            if self.folder.exists() and not self.folder.is_dir():
                raise AlignmentError(f"{self.folder} is a file; give a folder for the report")
            self.folder.mkdir(parents=True, exist_ok=True)

    def write(self, step: str, side: str, values: Mapping[str, np.ndarray]) -> None:
        """Write one side's values of a step."""
        if self.folder:
            save_reprod_log(self.folder / f"{step}_{side}.npy", values)

    def write_trace(
        self, steps: Sequence[str], side: str, values: Mapping[ValueKey, np.ndarray]
    ) -> None:
        """Write what a run left, by steps."""
        for step, kinds in _KINDS.items():
            if step in steps:
                chosen = {to_text(key): v for key, v in values.items() if key.kind in kinds}
                self.write(step, side, chosen)
