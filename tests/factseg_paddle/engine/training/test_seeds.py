"""What is drawn in a step, by seed, iteration and rank."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import paddle

from factseg_paddle.config.loading import make_config
from factseg_paddle.engine.training.parallel import Processes
from factseg_paddle.engine.training.start import build_run
from factseg_paddle.engine.training.step import StepResult, step_seed
from factseg_paddle.engine.training.trainer import Trainer
from tests.factseg_paddle.engine.training.runs import (
    values,
)


def drawn(data, save_dir, *, seed: int, rank: int) -> np.ndarray:
    """What a network draws in each of four steps, [4, 8], in the process of that rank."""
    values_of_run = values(data, save_dir, iters=4, save_interval=0) | {"seed": seed}
    run = build_run(make_config(values_of_run, "test"), Processes(0, 1))
    found = []

    def step(*_):
        found.append(paddle.rand([8]).numpy())
        return StepResult(0.0, 0.1, 1.0, 1.0, skipped=False)

    def load_batches():
        yield from [(paddle.zeros([1]), paddle.zeros([1]))] * 4

    parts = {"processes": Processes(rank, 1), "step": step, "load_batches": load_batches}
    changed = replace(run, **parts, validation=None)
    assert Trainer(changed).run() == 0
    return np.stack(found)


def test_ranks_drew_the_same_dropout_masks_and_neighbouring_seeds_those_of_the_next_step(
    data, tmp_path
):
    keys = [(5, 0), (5, 1), (6, 0), (6, 1)]
    streams = [drawn(data, tmp_path / f"{s}_{r}", seed=s, rank=r) for s, r in keys]
    draws = np.concatenate(streams)
    assert len(np.unique(draws, axis=0)) == 16, "no two of the steps draw the same"
    np.testing.assert_array_equal(drawn(data, tmp_path / "again", seed=5, rank=1), streams[1])


def test_seeds_of_steps_differ_in_the_bits_that_paddles_generator_takes():
    """On a CPU it takes the lower 32 (3.3.1)."""
    seeds = [step_seed(s, i, r) for s in range(8) for i in range(50) for r in range(4)]
    assert len({seed % 2**32 for seed in seeds}) == len(seeds)
