"""What the reference leaves for the comparison, in memory and in a folder.

A record lets the two frameworks run in two environments: `--side torch` writes it, and
`--torch-records` compares with it. It holds plain arrays and JSON; reading it runs no code.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from alignment.calls import CallTree
from alignment.guided import Alone
from alignment.pair import AlignmentError
from alignment.tensor_map import TensorSpec
from alignment.tracing import Trace
from alignment.train_records import load_steps, save_steps
from alignment.training import TrainRecord
from factseg_paddle.io import atomic_write_all, sha256_of_array, sha256_of_file

ARRAYS, HEADER = "record_torch.npz", "record_torch.json"


@dataclass
class Reference:
    """The torch side's part of a comparison.

    Attributes:
        pair: the pair's name.
        mode: "eval" or "train".
        specs: what each tensor becomes in Paddle.
        weights: arrays by torch name.
        received: inputs and targets as torch holds them.
        trace: the run that Paddle is judged by.
        dtype: the dtype of that run: float64, or float32 where torch can't run it in float64.
        activations: layers and outputs of torch's float32 run, at which Paddle's float32 gradients
            are computed.
        rounding: error of torch float32 against `trace`, by the trace's names.
        sensitivity: by how much layers, outputs and loss of the trace change when torch is
            disturbed, see `alignment.torch_disturbed`; in training mode.
        float32_dtypes: dtype of each value in torch's float32 run.
        jumps: see `TorchSide.gradient_jumps`.
        alone: the layers by themselves; without values where that could not be run.
        random: (place, reason) where two runs of the torch side differ.
        train: function of a dtype that gives torch's training steps one by one; None without.
        train_dtype: the dtype that torch trains in.
        train_steps: how many there are.
        train_notes: remarks for the report of the step train.
        curves: losses of torch's free runs: "torch", and the "lowest" and "highest" of several.
        random_training: like `random`, in training mode.
        checks: {step: {name: array}}, the reference values of the pair's checks.
        environment: versions on that side.
        identity: what the record was made of, beside its inputs: seed and weight file.
        notes: remarks for the report.
    """

    pair: str
    mode: str
    specs: tuple[TensorSpec, ...] = ()
    weights: dict[str, np.ndarray] = field(default_factory=dict)
    received: dict[str, np.ndarray] = field(default_factory=dict)
    trace: Trace = field(default_factory=Trace)
    dtype: str = "float64"
    activations: dict[str, np.ndarray] = field(default_factory=dict)
    rounding: dict[str, float] = field(default_factory=dict)
    sensitivity: dict[str, float] = field(default_factory=dict)
    float32_dtypes: dict[str, str] = field(default_factory=dict)
    jumps: dict[str, np.ndarray] = field(default_factory=dict)
    alone: Alone = field(default_factory=Alone)
    random: tuple[str, str] | None = None
    train: Callable[[str], Iterable[TrainRecord]] | None = None
    train_dtype: str = ""
    train_steps: int = 0
    train_notes: list[str] = field(default_factory=list)
    curves: dict[str, list[float]] = field(default_factory=dict)
    random_training: tuple[str, str] | None = None
    checks: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    identity: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def release(self) -> None:
        """Let go of the values of the model's runs, hundreds of MB."""
        self.trace, self.activations, self.jumps = Trace(), {}, {}
        self.alone.values = {}


def save_reference(reference: Reference, folder: Path) -> None:
    """Write the record into `folder`."""
    groups = {
        "weights": reference.weights,
        "received": reference.received,
        "values": reference.trace.values,
        "activations": reference.activations,
        "jumps": reference.jumps,
        "alone": reference.alone.values,
        **{f"checks/{step}": values for step, values in reference.checks.items()},
    }
    # Members are numbered: a tensor's name need not be a file's.
    names, arrays, members = [], {}, {}
    for group, values in groups.items():
        for name, array in values.items():
            member = members.setdefault(id(array), f"a{len(members)}")  # an array is written once
            arrays[member] = array
            names.append([group, name, member])
    header = {
        "pair": reference.pair,
        "mode": reference.mode,
        "specs": [asdict(spec) for spec in reference.specs],
        "calls": reference.trace.calls,
        "tree": asdict(reference.trace.tree),
        "unread": reference.trace.unread,
        "dtype": reference.dtype,
        "rounding": reference.rounding,
        "sensitivity": reference.sensitivity,
        "float32_dtypes": reference.float32_dtypes,
        "checks": list(reference.checks),
        "alone": {
            "inputs": reference.alone.inputs,
            "outputs": reference.alone.outputs,
            "origins": reference.alone.origins,
            "tree": asdict(reference.alone.tree),
            "rounding": reference.alone.rounding,
            "dtypes": reference.alone.dtypes,
        },
        "random": reference.random,
        "environment": reference.environment,
        "identity": reference.identity,
        "notes": reference.notes,
        "names": names,
        "sha256": hashes(reference.received),
    }
    folder.mkdir(parents=True, exist_ok=True)
    if reference.train:
        header["train"] = {
            "dtype": reference.train_dtype,
            "count": reference.train_steps,
            "steps": save_steps(folder, reference.train(reference.train_dtype)),
            "notes": reference.train_notes,
            "curves": reference.curves,
            "random": reference.random_training,
        }
    with atomic_write_all(folder / ARRAYS, folder / HEADER) as (array_path, header_path):
        np.savez(array_path, **arrays)
        header["arrays_sha256"] = sha256_of_file(array_path)
        header_path.write_text(json.dumps(header), encoding="utf-8")


def load_reference(folder: Path) -> Reference:
    """Read a record.

    Raises:
        AlignmentError: there is none, or it is damaged.
    """
    header_path, array_path = folder / HEADER, folder / ARRAYS
    for path in (header_path, array_path):
        if not path.is_file():
            raise AlignmentError(
                f"{folder} holds no torch record ({path.name} is missing); make one with --side "
                f"torch --out {folder}"
            )
    try:
        header = json.loads(header_path.read_text(encoding="utf-8"))
        if sha256_of_file(array_path) != header["arrays_sha256"]:
            raise AlignmentError(
                f"{array_path} is not the file that {HEADER} was written with; record again"
            )
        groups: dict[str, dict[str, np.ndarray]] = {}
        with np.load(array_path, allow_pickle=False) as arrays:
            read = {member: arrays[member] for _, _, member in header["names"]}
            for group, name, member in header["names"]:
                groups.setdefault(group, {})[name] = read[member]
        reference = Reference(
            pair=header["pair"],
            mode=header["mode"],
            specs=tuple(TensorSpec.from_record(values) for values in header["specs"]),
            weights=groups.get("weights", {}),
            received=groups.get("received", {}),
            trace=Trace(
                groups.get("values", {}),
                calls=header["calls"],
                tree=CallTree(**header["tree"]),
                unread=header["unread"],
            ),
            dtype=header["dtype"],
            activations=groups.get("activations", {}),
            rounding=header["rounding"],
            sensitivity=header["sensitivity"],
            float32_dtypes=header["float32_dtypes"],
            jumps=groups.get("jumps", {}),
            alone=_alone(groups.get("alone", {}), header["alone"]),
            random=header["random"] and tuple(header["random"]),
            checks={step: groups.get(f"checks/{step}", {}) for step in header["checks"]},
            environment=header["environment"],
            identity=header["identity"],
            notes=header["notes"],
        )
        if "train" in header:
            _add_training(reference, folder, header["train"])
        return reference
    except _DAMAGE as error:
        raise AlignmentError(f"the torch record in {folder} is damaged: {error}") from error


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

    def write_trace(self, steps: Sequence[str], side: str, values: dict[str, np.ndarray]) -> None:
        """Write what a run left, by steps."""
        kinds = {
            "forward": ("layer/", "output/"),
            "loss": ("loss/",),
            "backward": ("output_gradient/", "gradient/", "input_gradient/"),
        }
        for step, prefixes in kinds.items():
            if step in steps:
                chosen = {key: v for key, v in values.items() if key.startswith(prefixes)}
                self.write(step, side, chosen)


def hashes(arrays: Mapping[str, np.ndarray]) -> dict[str, str]:
    """SHA-256 by name."""
    return {name: sha256_of_array(array) for name, array in arrays.items()}


# Whatever a header or an archive that is not ours can set off, by name.
_DAMAGE = (
    AttributeError,
    EOFError,
    KeyError,
    OSError,
    TypeError,
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
)


def _add_training(reference: Reference, folder: Path, header: dict) -> None:
    def steps(_dtype: str) -> Iterator[TrainRecord]:
        try:
            yield from load_steps(folder, header["steps"])
        except _DAMAGE as error:
            raise AlignmentError(f"the torch record in {folder} is damaged: {error}") from error

    reference.train = steps
    reference.train_dtype = header["dtype"]
    reference.train_notes = header["notes"]
    reference.curves, reference.train_steps = header["curves"], header["count"]
    reference.random_training = header["random"] and tuple(header["random"])


def _alone(values: dict[str, np.ndarray], header: dict) -> Alone:
    return Alone(values, **header | {"tree": CallTree(**header["tree"])})
