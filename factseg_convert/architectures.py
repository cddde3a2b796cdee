"""Which network a file's tensors belong to, and which of them don't fit it.

A file has names and shapes but no layers. The layers come from `torch_ref`, built on
`torch.device("meta")` with the class count that the file's shapes tell. FactSeg and image
classifiers are known by their names; any other network has to be named.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING

from alignment.weights.checkpoint_files import Checkpoint, Side, dtype_name
from alignment.weights.models import torch_specs
from alignment.weights.suggestions import nearest
from alignment.weights.tensors import TensorSpec
from factseg_convert.classifiers import CLASSIFIERS, build_classifier, classifier_of
from factseg_paddle.files import shown
from factseg_paddle.io import CheckpointError

if TYPE_CHECKING:
    import torch

ARCHS = ("factseg", "resnet")

_HEADS = {"factseg": "fg_cls", "resnet": "fc"}
_TITLES = {"factseg": "FactSeg", "resnet": "a ResNet"}
_WEIGHT_DTYPES = ("float16", "bfloat16", "float32", "float64")


@dataclass(frozen=True)
class Variant:
    """A network: name, class count, and what each of its tensors becomes.

    `classes_from` is the tensor of the file that told the class count.
    """

    name: str
    num_classes: int
    classes_from: str
    specs: tuple[TensorSpec, ...]

    @property
    def parameters(self) -> dict[str, tuple[int, ...]]:
        """Return shapes of torch's parameters by name; other tensors are BatchNorm's statistics."""
        return {
            spec.torch_name: spec.torch_shape
            for spec in self.specs
            if spec.paddle_name and not spec.paddle_name.endswith(("._mean", "._variance"))
        }

    def __str__(self) -> str:
        return f"{self.name}, {self.num_classes} classes"


@dataclass(frozen=True)
class Misfit:
    """One tensor that does not fit: "missing", "extra" or "misshapen", and how."""

    kind: str
    name: str
    detail: str


def identify(checkpoint: Checkpoint, arch: str = "auto") -> Variant:
    """Return the network of that name, or the depth most like the file: with the fewest misfits.

    Args:
        checkpoint: The file.
        arch: "factseg", "resnet" or one of `CLASSIFIERS`, or "auto" to tell which of them by the
            names; or one of `torch_ref.list_models()`.

    Raises:
        CheckpointError: No name of the file is one of FactSeg or a ResNet, or there is no network
            called `arch`.
    """
    if arch == "auto":
        arch = classifier_of(checkpoint.state) or arch
    if arch not in (*ARCHS, "auto"):
        return _named(checkpoint, arch)
    arch = _arch_of(checkpoint, ARCHS if arch == "auto" else (arch,))
    num_classes, source = _num_classes(checkpoint, _HEADS[arch])
    counted = []
    for backbone in ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"):
        specs = _specs(arch, backbone, num_classes)
        name = f"FactSeg with {backbone}" if arch == "factseg" else backbone
        variant = Variant(name, num_classes, source, specs)
        counted.append((len(misfits(variant, checkpoint)), variant))
        if counted[-1][0] == 0:
            return variant
    return min(counted, key=lambda pair: pair[0])[1]


def _named(checkpoint: Checkpoint, name: str) -> Variant:
    from torch_ref import list_models
    from torch_ref.models.creation import explain_unknown

    known = [*CLASSIFIERS, *list_models()]
    if name not in known:
        raise CheckpointError(explain_unknown("arch", name, [*ARCHS, *known]))
    num_classes, source = _classes_by_shape(
        checkpoint, _specs_of_named(name, 2), _specs_of_named(name, 3)
    )
    return Variant(name, num_classes, source, _specs_of_named(name, num_classes))


def _classes_by_shape(
    checkpoint: Checkpoint, of_two: Sequence[TensorSpec], of_three: Sequence[TensorSpec]
) -> tuple[int, str]:
    """Return the class count and the tensor that tells it, from how shapes grow with the count."""
    side = checkpoint.side
    for two, three in zip(of_two, of_three, strict=True):
        name = two.torch_name if side == "torch" else two.paddle_name
        small, large = (
            (spec.torch_shape, spec.paddle_shape)[side == "paddle"] for spec in (two, three)
        )
        array = checkpoint.state.get(name)
        if small == large or array is None or array.ndim != len(small):
            continue
        axis = next(axis for axis in range(array.ndim) if small[axis] != large[axis])
        more, rest = divmod(array.shape[axis] - small[axis], large[axis] - small[axis])
        if more < 0:
            raise CheckpointError(
                f"{checkpoint.path}: {name} is {list(array.shape)}, which is fewer than the 2 "
                "classes that a network has at least"
            )
        if not rest:
            return 2 + more, name
    return 16, ""


def misfits(variant: Variant, checkpoint: Checkpoint) -> list[Misfit]:
    """Return every tensor of the file or of the network that lacks its partner or differs from it.

    torch's `num_batches_tracked` may be absent altogether, as in old files, but not in part.
    """
    wanted = _wanted(variant, checkpoint)
    state = checkpoint.state
    misfits_found = []
    for name, (shape, dtypes) in wanted.items():
        if name not in state:
            misfits_found.append(Misfit("missing", name, f"{list(shape)}"))
        elif state[name].shape != shape:
            actual = list(state[name].shape)
            misfits_found.append(Misfit("misshapen", name, f"is {actual}, should be {list(shape)}"))
        elif dtype_name(state[name]) not in dtypes:
            actual = dtype_name(state[name])
            misfits_found.append(
                Misfit("misshapen", name, f"is {actual}, should be {' or '.join(dtypes)}")
            )
    misfits_found += [
        Misfit("extra", name, f"{list(array.shape)}")
        for name, array in state.items()
        if name not in wanted
    ]
    return misfits_found


def check_fit(variant: Variant, checkpoint: Checkpoint, *, guessed: bool = False) -> None:
    """Refuse a file with misfits.

    Args:
        variant: The network that the file should be of.
        checkpoint: The file.
        guessed: Whether nobody named the network; it may be quite another then.

    Raises:
        CheckpointError: One sentence with every misfit, by the file's own names, and the name
            nearest to each: in the file for what is missing, in the network for what is extra.
    """
    misfits_found = misfits(variant, checkpoint)
    if not misfits_found:
        return
    counts = [
        f"{sum(misfit.kind == kind for misfit in misfits_found)} {kind}"
        for kind in ("missing", "extra", "misshapen")
        if any(misfit.kind == kind for misfit in misfits_found)
    ]
    prefix = checkpoint.form.prefix
    unmatched = {
        kind: [misfit.name for misfit in misfits_found if misfit.kind == kind]
        for kind in ("missing", "extra")
    }
    lines = []
    for misfit in misfits_found:
        close = ""
        if misfit.kind == "missing":  # most likely it is there under a name that is unknown
            close = nearest(misfit.name, unmatched["extra"], checkpoint.state)
        elif misfit.kind == "extra":
            close = nearest(misfit.name, unmatched["missing"], _wanted(variant, checkpoint))
        hint = f" (nearest name: {shown(prefix + close)})" if close else ""
        lines.append(f"{misfit.kind} {shown(prefix + misfit.name)} {misfit.detail}{hint}")
    counted = f" as {prefix}{variant.classes_from} says" if variant.classes_from else ""
    foreign = guessed and len(unmatched["extra"]) > len(checkpoint.state) / 10
    other = " (another network has to be named by --arch)" if foreign else ""
    raise CheckpointError(
        f"{checkpoint.path} does not fit {variant}{counted}: {', '.join(counts)}{other}; nothing "
        f"was written: {'; '.join(lines)}"
    )


def _wanted(
    variant: Variant, checkpoint: Checkpoint
) -> dict[str, tuple[tuple[int, ...], tuple[str, ...]]]:
    """Return shape and admitted dtypes of each tensor that the file should have, by name."""
    weights = [spec for spec in variant.specs if spec.paddle_name]
    if checkpoint.side == "paddle":
        return {str(spec.paddle_name): (spec.paddle_shape, _WEIGHT_DTYPES) for spec in weights}
    counters = [spec for spec in variant.specs if not spec.paddle_name]
    counted = any(spec.torch_name in checkpoint.state for spec in counters)
    return {
        spec.torch_name: (spec.torch_shape, _WEIGHT_DTYPES if spec.paddle_name else ("int64",))
        for spec in variant.specs
        if spec.paddle_name or counted
    }


def _arch_of(checkpoint: Checkpoint, archs: Sequence[str]) -> str:
    roots = [_root(name) for name in checkpoint.state]
    names = {arch: _names(arch, checkpoint.side) for arch in archs}
    counts = {}
    for arch in archs:
        tops = set(map(_root, names[arch]))
        counts[arch] = sum(root in tops for root in roots)
    best = max(counts, key=lambda arch: counts[arch])
    if counts[best]:
        return best
    titles = " or ".join(_TITLES[arch] for arch in archs)
    first = ""
    if roots:
        name = next(iter(checkpoint.state))
        close = nearest(name, [known for arch in archs for known in names[arch]])
        name = shown(checkpoint.form.prefix + name)
        first = (
            f"; its first is {name} (nearest known name: {close}); another network has to be "
            "named by --arch"
        )
    raise CheckpointError(
        f"{checkpoint.path} has none of the tensors of {titles} among its {len(roots)}{first}"
    )


def _root(name: str) -> str:
    return name.partition(".")[0]


def _names(arch: str, side: Side) -> list[str]:
    specs = _specs(arch, "resnet18", 2)
    if side == "torch":
        return [spec.torch_name for spec in specs]
    return [spec.paddle_name for spec in specs if spec.paddle_name]


def _num_classes(checkpoint: Checkpoint, head: str) -> tuple[int, str]:
    """Return the class count and the tensor that tells it; the bias first: it has one side only."""
    fewest = 2 if head == "fg_cls" else 1  # FactSeg has a background and something before it
    bias = checkpoint.state.get(f"{head}.bias")
    if bias is not None and bias.ndim == 1:
        return max(fewest, bias.shape[0]), f"{head}.bias"
    weight = checkpoint.state.get(f"{head}.weight")
    if weight is not None and weight.ndim >= 2:
        # Paddle's Linear is [in, out]; a convolution is [out, in, 1, 1] on both sides.
        axis = 1 if checkpoint.side == "paddle" and head == "fc" else 0
        return max(fewest, weight.shape[axis]), f"{head}.weight"
    return (16 if head == "fg_cls" else 1000), ""


@cache  # the depths are tried one by one, and a folder may hold many files of one network
def _specs(arch: str, backbone: str, num_classes: int) -> tuple[TensorSpec, ...]:
    from torch_ref import FactSeg
    from torch_ref.models.backbones import BACKBONES

    if arch == "factseg":
        return _specs_of(partial(FactSeg, num_classes, backbone))
    return _specs_of(partial(BACKBONES[backbone], num_classes=num_classes))


@cache
def _specs_of_named(name: str, num_classes: int) -> tuple[TensorSpec, ...]:
    from torch_ref import create_model

    build = build_classifier if name in CLASSIFIERS else create_model
    return _specs_of(partial(build, name, num_classes))


def _specs_of(build: Callable[[], torch.nn.Module]) -> tuple[TensorSpec, ...]:
    from alignment.torch_side.shapes import shapes_only

    with shapes_only():
        return torch_specs(build())
