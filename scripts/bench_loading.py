"""Time batches of 896 x 896 patches against Paddle's DataLoader with as many workers.

The data are the scene of `bench_data.py` as a prepared store, read and augmented as the recipe
says, and taken as fast as they come. Both loaders read the same batches, in turn within each
repeat. The throughput is the median of the repeats' ratios: what else runs here slows both.
"""

import argparse
import json
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from factseg_paddle.cli import ArgumentParser, configure_threads, importing_paddle
from factseg_paddle.config.data_section import Data
from factseg_paddle.config.loading import load_config
from factseg_paddle.data.dataset import PatchDataset, PatchSampler
from factseg_paddle.data.loader import load_batches
from factseg_paddle.data.loader_worker import PREFETCH
from factseg_paddle.data.open import open_pairs
from factseg_paddle.data.store.prepare import prepare_isaid
from scripts.bench_data import write_scene

if TYPE_CHECKING:
    import paddle

    Batches = Iterator[tuple[paddle.Tensor, paddle.Tensor]]

PATCH, STRIDE = 896, 512
RECIPE = Path(__file__).resolve().parents[1] / "configs" / "factseg_r50_isaid.yml"
EXAMPLES = """examples:
  python scripts/bench_loading.py
  python scripts/bench_loading.py --workers 2 --repeats 9 --json

Exit status: 0 measured and bit-identical, 1 the batches differ, 2 bad arguments.
"""


@dataclass(frozen=True)
class Loading:
    """How one loader did in one repeat.

    Attributes:
        first: seconds to the first batch, the start of processes included.
        each: seconds a batch, once reading goes at its pace.
    """

    first: float
    each: float


@dataclass(frozen=True)
class Comparison:
    """Both loaders with a number of workers: medians over the repeats.

    Attributes:
        workers: processes that read.
        ours_ms: a batch of `load_batches`.
        paddle_ms: a batch of Paddle's.
        throughput: ours relative to Paddle's; above 1 is faster.
        ours_first_s: to the first batch.
        paddle_first_s: to the first batch.
    """

    workers: int
    ours_ms: float
    paddle_ms: float
    throughput: float
    ours_first_s: float
    paddle_first_s: float

    def __str__(self) -> str:
        return (
            f"{self.workers} workers: {self.ours_ms:.0f} ms a batch, Paddle's DataLoader "
            f"{self.paddle_ms:.0f} ms: {self.throughput:.2f} of its throughput; the first batch "
            f"after {self.ours_first_s:.1f} s and {self.paddle_first_s:.1f} s"
        )


def main(argv: list[str] | None = None) -> int:
    """Print a line for each number of workers, or one JSON object."""
    parser = ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--workers", type=int, nargs="+", default=[0, 2, 4], help="numbers of workers (0 2 4)")
    add("--batch_size", type=int, default=8, help="samples of a batch (default 8)")
    add("--batches", type=int, default=16, help="batches timed in a repeat (default 16)")
    add("--repeats", type=int, default=5, help="repeats (default 5)")
    add("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args(argv)
    if min(args.workers) < 0 or min(args.batch_size, args.batches, args.repeats) < 1:
        parser.error("workers are at least 0, batch_size, batches and repeats at least 1")
    configure_threads()
    with importing_paddle(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import paddle  # noqa: F401 - not within what is timed
    with tempfile.TemporaryDirectory() as folder:
        dataset = scene_dataset(Path(folder))
        measured = [
            compare(dataset, workers, args.batch_size, args.batches, args.repeats)
            for workers in args.workers
        ]
        equal = all(is_equal(dataset, workers, args.batch_size) for workers in args.workers)
    if args.json:
        print(json.dumps({"workers": [asdict(one) for one in measured], "equal": equal}))
    else:
        print(*measured, "bit-identical" if equal else "THE BATCHES DIFFER", sep="\n")
    return 0 if equal else 1


def scene_dataset(folder: Path) -> PatchDataset:
    """Write the scene as a prepared store under a folder; return its patches."""
    raw, prepared = folder / "raw", folder / "prepared"
    write_scene(
        raw / "train" / "images" / "images" / "P0000.png",
        raw / "train" / "masks" / "images" / "P0000_instance_color_RGB.png",
    )
    prepare_isaid(raw, prepared, num_workers=0)
    return PatchDataset(
        open_pairs(Data(dataset_root=str(prepared)), "train"),
        patch_size=PATCH,
        stride=STRIDE,
        transforms=load_config(RECIPE).data.transforms,
        seed=0,
    )


def compare(
    dataset: PatchDataset, workers: int, batch_size: int, batches: int, repeats: int
) -> Comparison:
    """Time both loaders in turn; every other repeat begins with Paddle's."""
    # Before and after what is timed come as many batches as the workers have in hand.
    ahead = PREFETCH * max(workers, 1)
    count = batches + 2 * ahead
    ours, paddles = [], []
    for repeat in range(repeats):
        turns = [(_ours, ours), (_paddles, paddles)]
        for loader, results in turns if repeat % 2 == 0 else reversed(turns):
            load = partial(loader, dataset, workers, batch_size, count)
            results.append(_timed(load, ahead, batches))
    return Comparison(
        workers=workers,
        ours_ms=median(one.each for one in ours) * 1e3,
        paddle_ms=median(one.each for one in paddles) * 1e3,
        throughput=median(b.each / a.each for a, b in zip(ours, paddles, strict=True)),
        ours_first_s=median(one.first for one in ours),
        paddle_first_s=median(one.first for one in paddles),
    )


def is_equal(dataset: PatchDataset, workers: int, batch_size: int) -> bool:
    """Compare the first batches of both bit by bit: one more than there are workers."""
    count = workers + 1
    both = zip(
        _ours(dataset, workers, batch_size, count),
        _paddles(dataset, workers, batch_size, count),
        strict=True,
    )
    return all(
        np.array_equal(one.numpy(), other.numpy())
        for ours, paddles in both
        for one, other in zip(ours, paddles, strict=True)
    )


def _timed(load: Callable[[], "Batches"], ahead: int, batches: int) -> Loading:
    began = time.perf_counter()
    taken = load()
    next(taken)
    first = time.perf_counter() - began
    for _ in islice(taken, ahead - 1):
        pass
    began = time.perf_counter()
    for _ in islice(taken, batches):
        pass
    each = (time.perf_counter() - began) / batches
    for _ in taken:  # to the end: Paddle's threads would read on into the next measurement
        pass
    return Loading(first, each)


def _ours(dataset: PatchDataset, workers: int, batch_size: int, count: int) -> "Batches":
    import paddle

    sampler = PatchSampler(len(dataset), batch_size=batch_size, seed=0)
    batches = load_batches(dataset, sampler, num_workers=workers, to_tensor=paddle.to_tensor)
    with closing(batches):
        yield from islice(batches, count)


def _paddles(dataset: PatchDataset, workers: int, batch_size: int, count: int) -> "Batches":
    import paddle

    sampler = PatchSampler(len(dataset), batch_size=batch_size, seed=0)
    keys = list(islice(sampler, count))
    return iter(paddle.io.DataLoader(dataset, batch_sampler=keys, num_workers=workers))


if __name__ == "__main__":
    sys.exit(main())
