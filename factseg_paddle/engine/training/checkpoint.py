"""Checkpoints: folders that are complete or absent, and the exact state of a training run.

Their files have the names of `factseg_paddle.engine.run_files`. A folder is written under a hidden
name, synced and renamed; what an evaluation finds is written into it afterwards, by replacing
state.json. What is drawn at random in training is a function of the seed, the number of the
iteration and the process, so no generator's state needs keeping.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import nn

from factseg_paddle.engine.run_files import (
    BEST_LINK,
    MODEL_FILE,
    OPTIMIZER_FILE,
    STATE_FILE,
    checkpoint_folder,
    iteration_of,
)
from factseg_paddle.engine.training.step import WAY_OUT
from factseg_paddle.engine.weights import load_weights, model_arrays
from factseg_paddle.files import atomic_write, remove_leftovers_of, sha256_of_file
from factseg_paddle.io import CheckpointError, load_plain, save_pdparams
from factseg_paddle.optimizers.state import load_optimizer_state, optimizer_state
from factseg_paddle.optimizers.state_format import OptimizerStateError

FORMAT = 1

_HIDDEN = re.compile(r"\.iter_\d{6,}\.[0-9a-f]{8}\.(tmp|old)")


@dataclass(frozen=True)
class Best:
    """The best evaluation so far; a mean IoU from 0 to 1."""

    iteration: int
    mean_iou: float


@dataclass(frozen=True)
class TrainState:
    """Where a training run stands after an iteration, but for weights and optimizer.

    Attributes:
        iteration: iterations done; also the position in the stream of batches.
        samples: patches of the training set.
        config: the resolved configuration as plain values.
        processes: how many trained.
        scaler: of `GradScaler.state_dict`, numbers only; {} where it is off.
        losses: of the iterations since the last log line.
        skipped: steps that an overflow skipped, in the whole run.
        best: the best evaluation so far.
        evaluated: the iteration of the last evaluation, -1 before the first.
    """

    iteration: int
    samples: int
    config: dict[str, Any]
    processes: int = 1
    scaler: dict[str, Any] = field(default_factory=dict)
    losses: list[float] = field(default_factory=list)
    skipped: int = 0
    best: Best | None = None
    evaluated: int = -1


def save_checkpoint(
    save_dir: Path, model: nn.Layer, optimizer: paddle.optimizer.Optimizer, state: TrainState
) -> Path:
    """Write the checkpoint of `state.iteration`.

    Returns:
        Its folder.

    Raises:
        OSError: the disk is full or can't be written, or there is a checkpoint of that iteration;
            nothing is left of the new folder.
        CheckpointError: weights are not finite; older checkpoints are worth more.
    """
    folder = checkpoint_folder(save_dir, state.iteration)
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.tmp")
    temporary.mkdir(parents=True)
    try:
        # A skipped step is none of the optimizer's.
        steps = state.iteration - state.skipped
        optimizer_values = optimizer_state(model, optimizer, steps)
        weights = model_arrays(model)
        for name, entries in optimizer_values["state"].items():
            if "master_weight" in entries:  # O2: the parameter is its rounding to float16
                weights[name] = entries["master_weight"]
        _refuse_what_diverged(weights)
        save_pdparams(temporary / MODEL_FILE, weights)
        save_pdparams(temporary / OPTIMIZER_FILE, optimizer_values)
        hashes = {name: sha256_of_file(temporary / name) for name in (MODEL_FILE, OPTIMIZER_FILE)}
        content = {"format": FORMAT, **asdict(state), "sha256": hashes}
        _write_state(temporary / STATE_FILE, content)
        _sync_folder(temporary)
        temporary.rename(folder)
        _sync_folder(save_dir)
    except BaseException:  # Ctrl-C leaves no half folder either
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return folder


def _refuse_what_diverged(weights: Mapping[str, np.ndarray]) -> None:
    for name, array in weights.items():
        if not np.isfinite(array).all():
            raise CheckpointError(
                f"{name} has values that are not finite, so nothing was saved; {WAY_OUT}"
            )


def save_evaluation(folder: Path, best: Best | None, evaluated: int) -> None:
    """Write into a checkpoint what its evaluation found; its weights are not written again.

    Raises:
        OSError: the disk is full or can't be written; the checkpoint stays as it was.
    """
    path = folder / STATE_FILE
    content = json.loads(path.read_text(encoding="utf-8"))
    content |= {"best": asdict(best) if best else None, "evaluated": evaluated}
    _write_state(path, content)


def read_state(folder: Path) -> TrainState:
    """Read a checkpoint's state after a check of all its files.

    Raises:
        CheckpointError: something is missing, damaged or of another format; one sentence.
    """
    path = folder / STATE_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        own_hash = _hash_of_state(content)
        is_whole = content["sha256"].get(STATE_FILE, own_hash) == own_hash  # older ones have none
        hashes, version = content.pop("sha256"), content.pop("format")
        best = content.pop("best")
        state = TrainState(**content, best=Best(**best) if best else None)
    except FileNotFoundError as error:
        raise CheckpointError(f"{folder} is no checkpoint: it has no {STATE_FILE}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} is damaged ({error})") from error
    if version != FORMAT:
        raise CheckpointError(f"{path} is of format {version}; this program reads {FORMAT}")
    if not is_whole:
        raise CheckpointError(f"{path} is damaged or was changed: its hash is another one")
    if iteration_of(folder.resolve()) not in (None, state.iteration):
        raise CheckpointError(
            f"{folder} is the checkpoint of iteration {state.iteration} by its {STATE_FILE}; give "
            f"it its name back, {checkpoint_folder(folder.parent, state.iteration).name}"
        )
    for name in (MODEL_FILE, OPTIMIZER_FILE):
        file = folder / name
        if not file.is_file():
            raise CheckpointError(f"{folder} is incomplete: {name} is missing")
        if sha256_of_file(file) != hashes.get(name):
            raise CheckpointError(f"{file} is damaged or was changed: its hash is another one")
    return state


def load_checkpoint(
    folder: Path, model: nn.Layer, optimizer: paddle.optimizer.Optimizer
) -> TrainState:
    """Bring network and optimizer to where the run stood.

    Raises:
        CheckpointError: the files are damaged, or of another network or optimizer.
    """
    state = read_state(folder)
    report = load_weights(model, folder)
    if report.kept:
        raise CheckpointError(f"{folder} is of another run: {report.reason}")
    content = load_plain(folder / OPTIMIZER_FILE)
    try:
        load_optimizer_state(model, optimizer, content)
    except OptimizerStateError as error:
        raise CheckpointError(f"{folder / OPTIMIZER_FILE} does not fit: {error}") from error
    return state


def checkpoints(save_dir: Path) -> list[Path]:
    """Return the checkpoint folders, newest first."""
    folders = [p for p in save_dir.glob("iter_*") if iteration_of(p) is not None and p.is_dir()]
    return sorted(folders, key=iteration_of, reverse=True)


def newest_whole(save_dir: Path) -> tuple[Path | None, list[str]]:
    """Return the newest checkpoint that is whole, and why newer ones were passed over.

    Raises:
        CheckpointError: there are checkpoints, and none of them is whole.
    """
    reasons: list[str] = []
    for folder in checkpoints(save_dir):
        try:
            read_state(folder)
        except CheckpointError as error:
            reasons.append(str(error))
        else:
            return folder, reasons
    if reasons:
        raise CheckpointError(f"no checkpoint in {save_dir} is whole: {'; '.join(reasons)}")
    return None, []


def point_at_best(save_dir: Path, folder: Path | None) -> None:
    """Let `best_model` lead to a checkpoint of the same folder, or to none where it is gone.

    Raises:
        OSError: the file system knows no links.
    """
    link = save_dir / BEST_LINK
    if folder is None or not folder.is_dir():
        # the best of an attempt that is given up, or pruned by it
        if link.is_symlink():
            link.unlink()
        return
    if link.is_symlink() and link.readlink() == Path(folder.name):
        return
    temporary = save_dir / f".{BEST_LINK}.{secrets.token_hex(4)}.tmp"
    temporary.symlink_to(folder.name, target_is_directory=True)
    temporary.replace(link)


def can_link(save_dir: Path) -> bool:
    """Return whether `point_at_best` will work there."""
    probe = save_dir / f".{BEST_LINK}.{secrets.token_hex(4)}.tmp"
    try:
        probe.symlink_to("nowhere")
    except OSError:
        return False
    probe.unlink()
    return True


def set_aside(save_dir: Path, iteration: int) -> list[Path]:
    """Rename the checkpoints after an iteration, which belong to an attempt that is given up.

    Otherwise they would count as the newest ones, and what this run saves would be pruned.

    Returns:
        Their new names, NAME.abandoned.
    """
    renamed = []
    for folder in checkpoints(save_dir):
        if (iteration_of(folder) or 0) > iteration:
            target = folder.with_name(f"{folder.name}.abandoned")
            shutil.rmtree(target, ignore_errors=True)
            renamed.append(folder.rename(target))
    return renamed


def prune(save_dir: Path, keep: int, best: Best | None) -> list[Path]:
    """Remove all but the newest `keep` checkpoints and the best one; give what was removed."""
    kept = {checkpoint_folder(save_dir, best.iteration)} if best else set()
    removed = [folder for folder in checkpoints(save_dir)[keep:] if folder not in kept]
    for folder in removed:
        # Renamed first: a folder that is half removed must not look like a checkpoint.
        hidden = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.old")
        folder.rename(hidden)
        shutil.rmtree(hidden)
    return removed


def remove_leftovers(save_dir: Path) -> None:
    """Remove what a killed process left half written or half removed."""
    for path in save_dir.glob(".iter_*"):
        if _HIDDEN.fullmatch(path.name):
            shutil.rmtree(path)
    for folder in checkpoints(save_dir):
        remove_leftovers_of([folder / STATE_FILE])


def plain_scaler(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a scaler's state as JSON knows it."""
    return {key: np.asarray(value).tolist() for key, value in state.items()}


def _write_state(path: Path, content: Mapping[str, Any]) -> None:
    """Write a state with its own hash among those of the other files."""
    hashes = {**content["sha256"], STATE_FILE: _hash_of_state(content)}
    with atomic_write(path) as temporary:
        text = json.dumps({**content, "sha256": hashes}, indent=1, allow_nan=False)
        temporary.write_text(text, encoding="utf-8")


def _hash_of_state(content: Mapping[str, Any]) -> str:
    """Return SHA-256 of all but the hashes, whatever the order of the keys."""
    rest = {key: value for key, value in content.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def mean_of(values: Sequence[float]) -> float:
    """Return the mean; NaN of nothing."""
    return math.fsum(values) / len(values) if values else math.nan
