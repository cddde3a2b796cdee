"""A trained network and the configuration that it was trained with."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from paddle import nn

from factseg_paddle.config.loading import ConfigError, change_config, load_config, make_config
from factseg_paddle.config.schema import Config
from factseg_paddle.engine.build import build_model, select_device
from factseg_paddle.engine.run_files import CONFIG_FILE, MODEL_FILE, STATE_FILE, iteration_of
from factseg_paddle.engine.weights import read_weights, set_weights
from factseg_paddle.files import sha256_of_file
from factseg_paddle.io import CheckpointError

CLASS_HEAD = "fg_cls.weight"
ISAID_CLASS_COUNT = 16


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A network with its weights, on the device that was asked for.

    Attributes:
        network: in evaluation mode.
        config: what it was trained with, and changes.
        source: where the configuration comes from, for people.
        file: the weights.
        sha256: of the weights' file.
    """

    network: nn.Layer
    config: Config
    source: str
    file: Path
    sha256: str

    def __str__(self) -> str:
        return f"{self.file} (sha256 {self.sha256[:12]}…), configuration: {self.source}"


def restore(
    weights: Path,
    *,
    config: Path | None = None,
    opts: Sequence[str] = (),
    changes: Mapping[str, Any] | None = None,
) -> LoadedModel:
    """Build a network and load its weights.

    Args:
        weights: a `.pdparams` file or a checkpoint folder.
        config: a configuration; None takes the one that belongs to the weights (see
            `_config_of`), else the published recipe's with as many classes as the weights have.
        opts: changes such as "eval.stride=256".
        changes: {dotted key: value}, applied last.

    Raises:
        CheckpointError: the weights are missing, damaged, or of another network or class count.
        ConfigError: the configuration is missing or can't be used, or it is not known whether one
            that lies near belongs to the weights.
        DeviceError: the device is not there.
    """
    file, arrays = read_weights(weights)
    sha256 = sha256_of_file(file)
    if config is not None:
        settings, source = load_config(config, opts, changes), str(config)
    else:
        settings, source = _config_of(weights, file, sha256, opts, changes) or _published(
            file, arrays, opts, changes
        )
    select_device(settings.device)
    network = build_model(settings.model, settings.data.num_classes)
    report = set_weights(network, file, arrays)
    if report.kept:
        raise CheckpointError(
            f"{source} says data.num_classes {settings.data.num_classes}, but {file} has other "
            f"classes ({report.reason}); give the configuration of these weights with --config"
        )
    network.eval()
    return LoadedModel(network, settings, source, file, sha256)


def _config_of(
    weights: Path, file: Path, sha256: str, opts: Sequence[str], changes: Mapping[str, Any] | None
) -> tuple[Config, str] | None:
    """Return the configuration that belongs to weights; None where none lies near.

    It is that of the checkpoint whose state.json holds the file's hash. Where there is no
    state.json, names that our own training gives tell: config.yml of the run that the checkpoint
    folder iter_NNNNNN lies in, or config.yml beside model.pdparams in the folder that is named.
    """
    folder = file.parent.resolve()
    state = folder / STATE_FILE
    if state.is_file() and file.name == MODEL_FILE:
        return _config_of_state(state, file, sha256, opts, changes)
    nearby = [path / CONFIG_FILE for path in (folder, folder.parent)]
    beside, above = (path.is_file() for path in nearby)
    if beside and weights.is_dir():
        return load_config(nearby[0], opts, changes), str(nearby[0])
    if above and not beside and file.name == MODEL_FILE and iteration_of(folder) is not None:
        return load_config(nearby[1], opts, changes), str(nearby[1])
    if unknown := next((path for path in (*nearby, state) if path.is_file()), None):
        raise ConfigError(
            f"nothing says whether {unknown} belongs to {file}; give the configuration of these "
            f"weights with --config"
        )
    return None


def _config_of_state(
    state: Path, file: Path, sha256: str, opts: Sequence[str], changes: Mapping[str, Any] | None
) -> tuple[Config, str]:
    """Return a checkpoint's configuration if the weights are still the ones it was written with."""
    try:
        content = json.loads(state.read_text(encoding="utf-8"))
        values, recorded = content["config"], content.get("sha256", {}).get(MODEL_FILE, sha256)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{state} is damaged ({error}); give --config") from error
    if recorded != sha256:
        raise ConfigError(
            f"{file} is not what {state} was written with: its hash is another one; give the "
            "configuration of these weights with --config"
        )
    return change_config(make_config(values, str(state)), str(state), opts, changes), str(state)


def _published(
    file: Path,
    arrays: Mapping[str, np.ndarray],
    opts: Sequence[str],
    changes: Mapping[str, Any] | None,
) -> tuple[Config, str]:
    """Return the published recipe's configuration, for FactSeg weights of any class count."""
    if CLASS_HEAD not in arrays:
        raise CheckpointError(
            f"{file} is no FactSeg checkpoint: it has no {CLASS_HEAD}; for another network give "
            "its configuration with --config"
        )
    classes = int(arrays[CLASS_HEAD].shape[0])
    source = f"the published recipe's with {classes} classes"
    data: dict[str, Any] = {"num_classes": classes, "transforms": [{"name": "normalize"}]}
    if classes != ISAID_CLASS_COUNT:
        data |= {"kind": "folder", "val": {"image_dir": "."}}
    return change_config(make_config({"data": data}, source), source, opts, changes), source
