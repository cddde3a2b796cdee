"""Plant faults into the FactSeg pair, run the comparison on each, and say what was found."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from alignment.pair import AlignmentError, Pair
from alignment.recording.reference import Reference
from alignment.recording.reprod_log import ReprodLog
from alignment.report.report import Report
from alignment.steps.environment import random_states_kept
from alignment.steps.paddle_comparison import PaddleComparison
from alignment.steps.progress import freeing_memory
from alignment.steps.torch_reference import run_torch
from factseg_proof.faults.fault import Fault
from factseg_proof.faults.outcomes import Outcome
from factseg_proof.faults.padiff_record import padiff_verdicts

CROP, SEED, TRAIN_STEPS, BACKBONE = 64, 0, 3, "resnet50"


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
    padiff = padiff_verdicts()
    with tempfile.TemporaryDirectory() as folder:
        reference = _reference(
            pair,
            Path(folder),
            train=any("train" in faults[n].shows_in(pair.steps()) for n in wanted),
        )
        for name in wanted:
            yield _outcome(faults[name], pair, reference, Path(folder), padiff.get(name, ""))


def _reference(pair: Pair, folder: Path, *, train: bool) -> Reference:
    """Run torch's side once for all faults."""
    steps = [step for step in pair.steps() if step != "train" or train]
    reference = run_torch(pair, steps, out=folder)
    if reference.training is None:
        return reference
    recorded = list(reference.training.steps(reference.training.dtype))
    return replace(reference, training=replace(reference.training, steps=lambda _dtype: recorded))


def _compared(pair: Pair, steps: Sequence[str], reference: Reference, folder: Path) -> Report:
    """Compare as `align` does, with reprod_log's files in the folder and no page drawn."""
    with random_states_kept():
        comparison = PaddleComparison(
            pair,
            steps,
            reference,
            device="cpu",
            log=ReprodLog(folder),
            progress=freeing_memory(None),
        )
        return Report(pair.name, tuple(comparison.results()), environment={}, inputs={})


def _outcome(fault: Fault, pair: Pair, reference: Reference, folder: Path, padiff: str) -> Outcome:
    from factseg_proof.faults.reprod_log import DEFAULTS, USUAL, judge_by_reprod_log

    started = time.perf_counter()
    faulty = fault.plant(pair, SEED)
    steps = fault.shows_in(pair.steps())
    for stale in folder.glob("*_paddle.npy"):
        stale.unlink()
    report = _compared(faulty, steps, reference, folder)
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
