"""`python -m factseg_proof.faults`: plant known faults into FactSeg and see whether they are found.

Each fault of the catalogue is planted into Paddle's FactSeg, and the comparison is run: it has to
fail first at the right step and name the right place. Faults that change nothing must raise no
alarm. reprod_log with its defaults judges the same recorded values beside it, and the column of
PaDiff is from one recorded run.

Examples:
  python -m factseg_proof.faults
  python -m factseg_proof.faults --only "eps 1e-3" align_corners

Exit status: 0 all found at the right step, 95 % placed exactly, no false alarm; 1 not; 2 could not
run
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from alignment.cli import exit_with_error, quieten_frameworks
from alignment.pair import AlignmentError, Pair
from alignment.recording.reference import Reference
from alignment.run import align
from alignment.steps.torch_reference import run_torch
from factseg_paddle.cli import ArgumentParser
from factseg_paddle.files import atomic_write
from factseg_paddle.folders import base_folder

CROP, SEED, TRAIN_STEPS, BACKBONE = 64, 0, 3, "resnet50"
PADIFF = Path(__file__).resolve().parent / "padiff_recorded.json"
PLACED = 0.95
"""Share of the faults that must be placed exactly."""


@dataclass(frozen=True)
class Outcome:
    """What was found of one fault.

    Attributes:
        name, kind, description, expected_step, expected_place: of the fault.
        step: the step that failed first; "" when none did.
        place: the first divergence; "" when there is none.
        reprod_log, reprod_log_usual, padiff: "flagged" or "missed", and where they name the right
            place "placed"; "" where it was not run. `usual` are the thresholds that people use.
        seconds: how long the comparison took.
    """

    name: str
    kind: str
    description: str
    expected_step: str
    expected_place: str
    step: str
    place: str
    reprod_log: str = ""
    reprod_log_usual: str = ""
    padiff: str = ""
    seconds: float = 0.0

    @property
    def flagged(self) -> bool:
        """Whether it was found at the right step; of an equivalent fault, whether any alarm was."""
        return bool(self.step) if self.kind == "equivalent" else self.step == self.expected_step

    @property
    def placed(self) -> bool:
        """Whether the right place was named."""
        return self.flagged and self.place == self.expected_place


@dataclass(frozen=True)
class Outcomes:
    """All outcomes; true when they are as they should be."""

    outcomes: tuple[Outcome, ...]

    def __bool__(self) -> bool:
        faults, equivalent = self.faults, self.equivalent
        if not self.outcomes or any(o.flagged for o in equivalent):
            return False
        return all(o.flagged for o in faults) and (
            sum(o.placed for o in faults) >= PLACED * len(faults)
        )

    @property
    def faults(self) -> list[Outcome]:
        """Those that must be found."""
        return [o for o in self.outcomes if o.kind != "equivalent"]

    @property
    def equivalent(self) -> list[Outcome]:
        """Those that must raise no alarm."""
        return [o for o in self.outcomes if o.kind == "equivalent"]

    def __str__(self) -> str:
        faults, n = self.faults, len(self.faults)
        lines = [_markdown(self.outcomes), ""]
        lines.append(
            f"ours: {sum(o.flagged for o in faults)} of {n} flagged at the right step, "
            f"{sum(o.placed for o in faults)} placed exactly; "
            f"{sum(o.flagged for o in self.equivalent)} of {len(self.equivalent)} equivalent ones "
            "raised an alarm"
        )
        for tool in ("reprod_log", "reprod_log_usual", "padiff"):
            verdicts = [getattr(o, tool) for o in faults if getattr(o, tool)]
            found = [v for v in verdicts if v != "missed"]
            alarms = [o for o in self.equivalent if getattr(o, tool) not in ("", "missed")]
            lines.append(
                f"{tool}: {len(found)} of {len(verdicts)} flagged, {verdicts.count('placed')} "
                f"placed; {len(alarms)} of {len(self.equivalent)} equivalent ones raised an alarm"
            )
        return "\n".join(lines)

    def save(self, folder: Path) -> None:
        """Write faults.md and faults.json."""
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(folder / "faults.md") as path:
            path.write_text(f"{self}\n", encoding="utf-8")
        with atomic_write(folder / "faults.json") as path:
            rows = [asdict(o) | {"flagged": o.flagged, "placed": o.placed} for o in self.outcomes]
            path.write_text(json.dumps(rows, indent=1), encoding="utf-8")


def run_faults(
    names: Iterable[str] | None = None,
    *,
    crop: int = CROP,
    train_steps: int = TRAIN_STEPS,
    backbone: str = BACKBONE,
) -> Iterable[Outcome]:
    """Plant the faults one by one and yield what was found.

    Args:
        names: of the catalogue; None for all.
        crop: side of the square input.
        train_steps: of the step train.
        backbone: of FactSeg; the catalogue's faults in a backbone are made for the default one.

    Raises:
        AlignmentError: a name is not in the catalogue.
    """
    from factseg_proof.faults.catalogue import CATALOGUE
    from factseg_proof.pairs.factseg import make_pair

    faults = {fault.name: fault for fault in CATALOGUE}
    wanted = list(faults) if names is None else list(names)
    for name in wanted:
        if name not in faults:
            raise AlignmentError(f"fault {name!r} is not known; there are {', '.join(faults)}")
    pair = make_pair(SEED, crop_size=crop, backbone=backbone)
    pair = replace(pair, train_steps=train_steps)
    recorded = json.loads(PADIFF.read_text("utf-8"))["faults"] if PADIFF.is_file() else {}
    with tempfile.TemporaryDirectory() as folder:
        reference = _reference(
            pair,
            Path(folder),
            train=any("train" in faults[n].shows_in(pair.steps()) for n in wanted),
        )
        for name in wanted:
            yield _outcome(faults[name], pair, reference, Path(folder), recorded.get(name, ""))


def _reference(pair: Pair, folder: Path, *, train: bool) -> Reference:
    """Torch's side, run once for all faults."""
    steps = [step for step in pair.steps() if step != "train" or train]
    reference = run_torch(pair, steps, out=folder)
    if reference.train:
        records = list(reference.train(reference.train_dtype))
        # Copies: whoever uses a record lets go of its activations.
        reference.train = lambda _dtype: map(replace, records)
    return reference


def _outcome(fault, pair: Pair, reference: Reference, folder: Path, padiff: str) -> Outcome:  # noqa: ANN001
    from factseg_proof.faults.reprod_log import DEFAULTS, USUAL, judge_by_reprod_log

    started = time.perf_counter()
    faulty = fault.plant(pair, SEED)
    steps = fault.shows_in(pair.steps())
    for stale in folder.glob("*_paddle.npy"):
        stale.unlink()
    report = align(faulty, steps, reference=reference, out=folder)
    first = next((step for step in report.steps if not step), None)
    return Outcome(
        name=fault.name,
        kind=fault.kind,
        description=fault.description,
        expected_step=fault.step,
        expected_place=fault.place,
        step=first.step if first is not None else "",
        place=report.first_divergence or "",
        reprod_log=judge_by_reprod_log(folder, steps, fault.place, DEFAULTS),
        reprod_log_usual=judge_by_reprod_log(folder, steps, fault.place, USUAL),
        padiff=padiff,
        seconds=time.perf_counter() - started,
    )


def _markdown(outcomes: Sequence[Outcome]) -> str:
    rows = [
        (
            "fault",
            "flagged at",
            "named",
            "as it should",
            "reprod_log",
            "with usual bounds",
            "PaDiff",
        )
    ]
    for o in outcomes:
        others = (o.reprod_log, o.reprod_log_usual, o.padiff)
        right = "yes" if (o.kind == "equivalent" and not o.flagged) or o.placed else "NO"
        rows.append((o.name, o.step or "–", o.place or "–", right, *others))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)) + " |" for r in rows
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *lines[1:]])


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    from tqdm import tqdm

    parser = ArgumentParser.of_docstring(__doc__, "python -m factseg_proof.faults")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these faults alone")
    parser.add_argument("--crop", type=int, default=CROP, help="side of the input")
    parser.add_argument(
        "--backbone", default=BACKBONE, help=f"{BACKBONE} by default, which faults in one are for"
    )
    parser.add_argument(
        "--out", type=Path, default=base_folder() / "output/faults", help="folder for the table"
    )
    args = parser.parse_args(argv)
    quieten_frameworks()
    try:
        run = run_faults(args.only, crop=args.crop, backbone=args.backbone)
        bar = tqdm(run, unit="fault", disable=not sys.stderr.isatty())
        with contextlib.closing(run):
            outcomes = Outcomes(tuple(bar))
    except (AlignmentError, ValueError, OSError, ImportError) as error:
        return exit_with_error("the faults could not be run", error)
    outcomes.save(args.out)
    print(outcomes)
    return 0 if outcomes else 1


if __name__ == "__main__":
    sys.exit(main())
