"""`python -m factseg_proof.calibration`: how far apart right networks are, on FactSeg pairs.

Every seed draws input size, BatchNorm mode, form of the loss, and a painted scene or noise, anew
for each of its runs. The ratios of all comparisons are gathered, the worst of each kind is printed
beside the constant that it set, and the distribution is kept as calibration.json and
calibration.png.

Examples:
  python -m factseg_proof.calibration                            what set the constants
  python -m factseg_proof.calibration --seeds 100-119 --runs 1   fresh seeds: any false alarm?

Exit status: 0 no alarm, 1 an alarm on an aligned pair, 2 could not run
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from alignment.cli import exit_with_error, quieten_frameworks
from alignment.compare import TensorResult
from alignment.pair import AlignmentError, Pair
from alignment.report.report import Report
from alignment.run import align
from alignment.tolerances import BY_ITSELF_RATIO, FLOAT32_RATIO, FLOAT64_BOUND, OPTIMIZER_BOUND
from factseg_paddle.cli import ArgumentParser
from factseg_paddle.files import atomic_write
from factseg_paddle.folders import base_folder

OUT = Path(__file__).resolve().parent
SIZES, MODES, FORMS, INPUTS = (32, 64, 96, 128), ("eval", "train"), ("logits", "literal"), (
    "scene",
    "noise",
)  # fmt: skip
STEPS = ("data", "weights", "forward", "loss", "backward")
TRAIN_STEPS = 2
BACKBONE = "resnet50"

CONSTANTS = {
    "by itself, float32": ("BY_ITSELF_RATIO", BY_ITSELF_RATIO),
    "end to end, float64": ("FLOAT64_BOUND", FLOAT64_BOUND),
    "end to end, float32": ("FLOAT32_RATIO", FLOAT32_RATIO),
    "training, end to end": ("FLOAT64_BOUND", FLOAT64_BOUND),
    "training, optimizer": ("OPTIMIZER_BOUND", OPTIMIZER_BOUND),
}
"""{kind of comparison: the constant that bounds it, and its value}."""

BINS = np.logspace(-6, 2, 81)
"""Of error / allowed."""


@dataclass(frozen=True)
class PairSettings:
    """One run's conditions."""

    seed: int
    run: int
    size: int
    mode: str
    form: str
    input: str

    @classmethod
    def of(cls, seed: int, run: int) -> PairSettings:
        """Draw the conditions of one of a seed's runs."""
        rng = np.random.default_rng([seed, run, 2])
        size, mode, form, kind = (
            options[int(rng.integers(len(options)))] for options in (SIZES, MODES, FORMS, INPUTS)
        )
        return cls(seed, run, size, mode, form, kind)

    @property
    def trains(self) -> bool:
        """Return whether training steps are taken too: in the first run of a seed."""
        return self.run == 0

    def pair(self, backbone: str = BACKBONE) -> Pair:
        """Make the FactSeg pair under these conditions."""
        from factseg_proof.pairs.factseg import make_pair

        pair = make_pair(self.seed, crop_size=self.size, form=self.form, backbone=backbone)
        pair = replace(pair, mode=self.mode, train_steps=TRAIN_STEPS, checks={})
        if self.input == "scene":
            return pair
        rng = np.random.default_rng([self.seed, self.run, 3])
        (pixels,), (labels,) = pair.inputs, pair.targets
        noise = rng.normal(size=pixels.shape).astype(pixels.dtype)
        classes = rng.integers(0, 16, labels.shape)
        classes[rng.random(labels.shape) < 0.05] = 255
        return replace(pair, inputs=(noise,), targets=(classes.astype(labels.dtype),))


@dataclass
class Calibration:
    """The gathered ratios error / allowed, by kind of comparison.

    Attributes:
        runs: conditions and verdict of each run.
        counts: {kind: how many ratios fell into each of BINS}, the last one holds larger ones too.
        zeros: {kind: how many errors were exactly 0}.
        worst: {kind: ratio, error, tensor and seed of the largest ratio}.
        declared: {reason without its numbers: how often}.
    """

    runs: list[dict] = field(default_factory=list)
    counts: dict[str, np.ndarray] = field(default_factory=dict)
    zeros: dict[str, int] = field(default_factory=dict)
    worst: dict[str, dict] = field(default_factory=dict)
    declared: dict[str, int] = field(default_factory=dict)

    @property
    def alarms(self) -> list[dict]:
        """Return the runs that were not aligned."""
        return [run for run in self.runs if not run["passed"]]

    def __bool__(self) -> bool:
        return bool(self.runs) and not self.alarms

    def add(self, draw: PairSettings, report: Report) -> None:
        """Gather one run."""
        verdict = {"passed": report.passed, "first_divergence": report.first_divergence}
        self.runs.append(asdict(draw) | verdict)
        for step in report.steps:
            for tensor in step.tensors:
                self._add(step.step, tensor, draw)

    def _add(self, step: str, tensor: TensorResult, draw: PairSettings) -> None:
        if tensor.status == "declared":
            reason = tensor.reason.partition(":")[0].lstrip("0123456789 of")
            self.declared[reason] = self.declared.get(reason, 0) + 1
        kind = _kind(step, tensor, draw.mode)
        if kind is None:
            return
        ratio = tensor.error / tensor.allowed
        counts = self.counts.setdefault(kind, np.zeros(len(BINS) + 1, np.int64))
        if not ratio:
            self.zeros[kind] = self.zeros.get(kind, 0) + 1
            return
        counts[int(np.searchsorted(BINS, ratio))] += 1
        if ratio > self.worst.get(kind, {"ratio": 0.0})["ratio"]:
            self.worst[kind] = {
                "ratio": ratio,
                "error": tensor.error,
                "tensor": tensor.name,
                "status": tensor.status,
                **asdict(draw),
            }

    def __str__(self) -> str:
        lines = [f"{len(self.runs)} runs, {len(self.alarms)} alarms"]
        for kind, counts in self.counts.items():
            constant, value = CONSTANTS[kind]
            worst = self.worst.get(kind)
            n = int(counts.sum()) + self.zeros.get(kind, 0)
            summary = f"{n} compared" + (
                f", worst {worst['ratio']:.1%} of {constant} = {value:g}: {worst['tensor']} (seed "
                f"{worst['seed']}, {worst['size']} px, {worst['mode']})"
                if worst
                else ""
            )
            lines.append(f"{kind:<22}{summary}")
        lines += [f"declared {count} times: {reason}" for reason, count in self.declared.items()]
        lines += [f"ALARM: {run}" for run in self.alarms]
        return "\n".join(lines)

    def save(self, folder: Path, command: str) -> None:
        """Write calibration.json and calibration.png."""
        from alignment.report.figures import distribution

        folder.mkdir(parents=True, exist_ok=True)
        content = {
            "command": command,
            "constants": dict(CONSTANTS.values()),
            "runs": self.runs,
            "bins": [float(edge) for edge in BINS],
            "counts": {kind: counts.tolist() for kind, counts in self.counts.items()},
            "zeros": self.zeros,
            "worst": self.worst,
            "declared": self.declared,
        }
        with atomic_write(folder / "calibration.json") as path:
            path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        with atomic_write(folder / "calibration.png") as path:
            distribution(path, BINS, self.counts, CONSTANTS)


def _kind(step: str, tensor: TensorResult, mode: str) -> str | None:
    """Return the kind of a comparison; None where its ratio says nothing of the constants."""
    if tensor.error is None or not 0 < tensor.allowed <= 1 or step in ("data", "weights"):
        return None
    if step == "train":
        by_itself = tensor.comparison == "by_itself"
        return "training, optimizer" if by_itself else "training, end to end"
    if tensor.comparison == "by_itself":
        return "by itself, float32"
    if tensor.dtype == "float64":
        return "end to end, float64"
    return "end to end, float32" if mode == "eval" else None


def calibrate(
    seeds: Sequence[int],
    runs: int,
    backbone: str = BACKBONE,
    wrap: Callable[[list[PairSettings]], Iterator[PairSettings]] = iter,
) -> Calibration:
    """Run all draws of the seeds.

    Args:
        seeds: the seeds.
        runs: draws of each.
        backbone: of the FactSeg pairs.
        wrap: shows the progress of an iteration.
    """
    calibration = Calibration()
    for draw in wrap([PairSettings.of(seed, run) for seed in seeds for run in range(runs)]):
        steps = [*STEPS, "train"] if draw.trains else STEPS
        calibration.add(draw, align(draw.pair(backbone), steps))
    return calibration


def _seeds(text: str) -> range:
    first, _, last = text.partition("-")
    try:
        seeds = range(int(first), int(last or first) + 1)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no range; give FIRST-LAST") from None
    if not seeds:
        raise argparse.ArgumentTypeError(f"{text!r} is empty; give FIRST-LAST")
    return seeds


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    from tqdm import tqdm

    parser = ArgumentParser.of_docstring(__doc__, "python -m factseg_proof.calibration")
    parser.add_argument(
        "--seeds", type=_seeds, default=range(20), metavar="FIRST-LAST", help="0-19 by default"
    )
    parser.add_argument("--runs", type=int, default=3, help="draws of each seed")
    parser.add_argument("--backbone", default=BACKBONE, help=f"{BACKBONE} by default")
    parser.add_argument(
        "--out", type=Path, default=base_folder() / "output/calibration", help="folder"
    )
    args = parser.parse_args(argv)
    if args.runs < 1:
        parser.error(f"--runs {args.runs} is below 1; use 1 or more")
    quieten_frameworks()
    command = f"python -m factseg_proof.calibration --seeds {args.seeds[0]}-{args.seeds[-1]}"
    command += f" --runs {args.runs} --out {args.out}"
    command += f" --backbone {args.backbone}" if args.backbone != BACKBONE else ""
    try:
        calibration = calibrate(
            args.seeds,
            args.runs,
            args.backbone,
            lambda draws: tqdm(draws, unit="run", disable=not sys.stderr.isatty()),
        )
        calibration.save(args.out, command)
    except (AlignmentError, ValueError, OSError, ImportError) as error:
        return exit_with_error("calibration could not run", error)
    print(calibration)
    return 0 if calibration else 1


if __name__ == "__main__":
    sys.exit(main())
